"""Which threads read sockets.

Owns what gRPC's core is told of it. It must not import gRPC, which is told while it is imported.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping

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
