"""A server on a thread of this process, for one program that uses it and ends: `entropyd --local`.

Invariant: it serves on a Unix socket that only this user can reach, and ends with the `with` block or the
process, however that ends.
"""

from __future__ import annotations

import logging
import tempfile
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import TYPE_CHECKING

from entropyd_server.app import serve_until
from entropyd_server.coding.compilation import compile_kernels
from entropyd_server.coding.self_test import warm_up
from entropyd_server.installation import CODING, MODELING, REGISTRY, modeling_obstacle
from entropyd_server.settings import settings_without_variables
from entropyd_server.signals import Events
from entropyd_server.transport.transports import Transport, choose

if TYPE_CHECKING:
    from typing_extensions import Self

log = logging.getLogger(__name__)


def can_model() -> bool:
    """Whether this installation has the modeling role."""
    return modeling_obstacle() is None


class EmbeddedServer:
    """A server with the roles `coding` and `registry`, and all settings at their defaults.

    Args:
      store: Folder or URL of the models; None for the folder that `entropyd-server` uses.
      modeling: Whether it has the role `modeling` too, whose TensorFlow takes seconds to start.

    Attributes:
      target: The address for clients.
    """

    def __init__(self, store: str | None = None, *, modeling: bool = False) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="entropyd-")
        self.target = f"unix:{Path(self._folder.name, 'socket')}"
        roles = f"{CODING},{REGISTRY},{MODELING}" if modeling else f"{CODING},{REGISTRY}"
        flags = ["--listen", self.target, "--metrics-listen", "", "--no-tracing", "--drain-seconds", "0"]
        flags += ["--role", roles, *([] if store is None else ["--store", store])]
        self._settings = settings_without_variables(*flags)
        self._events: Future[Events] = Future()
        self._ready: Future[None] = Future()
        self._thread = Thread(target=self._serve, name="server", daemon=True)

    def __enter__(self) -> Self:
        """Starts the server, and waits until it is SERVING.

        Raises:
          RuntimeError: If it cannot start; says why.
        """
        try:
            # The first time, this compiles the kernels for half a minute; in this thread, Ctrl-C ends it.
            compile_kernels()
            warm_up()
            self._thread.start()
            self._ready.result()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._thread.ident is not None:
            self._events.add_done_callback(_end)
            self._thread.join()
        self._folder.cleanup()

    def _serve(self) -> None:
        try:
            transport = choose(self._settings.transport)
            transport.run(self._serve_until_end(transport))
        except BaseException as error:
            if self._ready.done():
                log.exception("the server has failed")
            else:
                failed = RuntimeError(str(error) or "the server has failed")
                failed.__cause__ = error
                self._ready.set_exception(failed)

    async def _serve_until_end(self, transport: Transport) -> None:
        events = Events()
        self._events.set_result(events)
        await serve_until(events, self._settings, transport, lambda: self._ready.set_result(None))


def _end(events: Future[Events]) -> None:
    with suppress(RuntimeError):  # the loop has ended
        events.result().end()
