"""Settings of gRPC's core for the whole process: which threads read sockets, and what is logged.

What sets the environment has to run before gRPC is imported, which this module does not do.
"""

from __future__ import annotations

import logging
import os
from collections.abc import MutableMapping


def read_where_asked(environment: MutableMapping[str, str] = os.environ) -> None:
    """Makes gRPC read a server's sockets in the thread that asks for events, unless GRPC_EXPERIMENTS is set.

    By default its event engine reads them in threads of its own, so that a small call changes threads some
    five times (docs/notes/transport.md).
    """
    environment.setdefault("GRPC_EXPERIMENTS", "-event_engine_listener")


def keep_strangers_out_of_the_log(environment: MutableMapping[str, str] = os.environ) -> None:
    """Keeps gRPC's core from logging, unless GRPC_VERBOSITY is set.

    It writes a line to standard error for each handshake that fails, each header that it cannot parse, and
    each GOAWAY with its text: before the server sees a call, without limit, and past the log's handlers.
    """
    environment.setdefault("GRPC_VERBOSITY", "NONE")


def keep_undecodable_text_out_of_the_log() -> None:
    """Drops the traceback that gRPC logs for metadata that are not UTF-8, with their value."""
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_no_decoding_error)


def _is_no_decoding_error(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], UnicodeDecodeError))
