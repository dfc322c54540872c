"""The two ways to serve, and the choice between them.

`core` is fast and uses private parts of grpcio, so it is used with the versions that it was tested with.
`aio` uses the public interface of grpc.aio.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # not before `polling` has set the environment that gRPC reads
    from entropyd_server.transport.server import Server
    from entropyd_server.vital import Vital

# Runs a function on the event loop's turn; other threads call it.
Resume = Callable[[Callable[[], None]], object]

log = logging.getLogger(__name__)

CORE, AIO = "core", "aio"
# Versions of grpcio with which the tests pass on `core`: from the first, and before the second.
TESTED_GRPCIO = ("1.62.3", "1.86")


@dataclass(frozen=True)
class Transport:
    """A way to serve.

    Attributes:
      run: Runs a coroutine on an event loop that its servers can run on.
      server: Makes a server on the running loop, of channel arguments and what ends the process if the server
        can no longer serve.
      resume: Gives the `Resume` of the running loop.
    """

    name: str
    run: Callable[[Coroutine[Any, Any, Any]], Any]
    server: Callable[[Sequence[tuple[str, int]], Vital | None], Server]
    resume: Callable[[], Resume]


def choose(name: str, grpcio: str = "") -> Transport:
    """The transport of this name; `aio` instead of `core`, with a warning, on an untested grpcio."""
    found = grpcio or version("grpcio")
    if name == CORE and not is_tested(found):
        first, end = TESTED_GRPCIO
        log.warning(
            "grpcio %s is not among the versions that --transport core was tested with (%s or newer, before "
            "%s): serving with --transport aio, which is slower",
            found,
            first,
            end,
        )
        name = AIO
    if name == AIO:
        from entropyd_server.transport.aio_server import AioServer  # noqa: PLC0415

        return Transport(AIO, asyncio.run, AioServer, lambda: asyncio.get_running_loop().call_soon_threadsafe)
    # Imported only if chosen: its private parts may be missing from other versions of grpcio.
    from entropyd_server.transport.core_server import CoreServer  # noqa: PLC0415
    from entropyd_server.transport.turns import current_loop, run  # noqa: PLC0415

    return Transport(CORE, run, CoreServer, lambda: current_loop().resume)


def is_tested(grpcio: str) -> bool:
    first, end = map(_release, TESTED_GRPCIO)
    return first <= _release(grpcio) < end


def _release(text: str) -> tuple[int, ...]:
    """The numbers of a version, without the mark of a pre-release."""
    parts = text.split(".")[:3]
    return tuple(int("".join(filter(str.isdecimal, part.partition("rc")[0])) or 0) for part in parts)
