"""What gRPC's core is told by the environment: which threads read sockets, and what it logs.

To be called before gRPC is imported, which this module does not do.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping

# The least that gRPC's core logs.
_VERBOSITY = "GRPC_VERBOSITY"
# What gRPC is to try, in the environment; "-" for what it is not to.
_EXPERIMENTS = "GRPC_EXPERIMENTS"


def read_where_asked(environment: MutableMapping[str, str] = os.environ) -> None:
    """Has gRPC read a server's sockets in the thread that asks for events.

    Its event engine reads them in threads of its own: a small call changes threads some five times then
    (docs/adr/0010-transport.md). To be called before gRPC is imported.

    Args:
      environment: Of the process; what it says of gRPC's experiments already is left as it is.
    """
    environment.setdefault(_EXPERIMENTS, "-event_engine_listener")


def keep_strangers_out_of_the_log(environment: MutableMapping[str, str] = os.environ) -> None:
    """Has gRPC's core log nothing.

    It writes a line to standard error for each handshake that fails, each header that it cannot parse, and
    each GOAWAY with the text in it: before any call is looked at, past the log's handlers, at any rate.

    Args:
      environment: Of the process; a GRPC_VERBOSITY in it is left as it is.
    """
    environment.setdefault(_VERBOSITY, "NONE")
