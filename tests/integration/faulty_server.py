"""An `entropyd-server` in which one function raises once, as soon as a file is there.

As a program: TRIGGER FUNCTION ERROR, then the flags of the server. A function is MODULE:NAME or
MODULE:CLASS.NAME.
"""

from __future__ import annotations

import builtins
import importlib
import inspect
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entropyd_server.local import LocalServer
from entropyd_server.transport.polling import read_where_asked

if TYPE_CHECKING:
    from typing_extensions import Self

    from entropyd import ModelInfo


# In the place of an error: the function never returns.
HANGS = "hangs"


class FaultyServer(LocalServer):
    """A server of which `fail` makes one function raise.

    Args:
      function: The function.
      error: Name of the built-in exception that it raises, or HANGS.
      trigger: File that is to be made for it.

    Attributes:
      model: A model in its store, for tests to keep there.
    """

    model: ModelInfo

    def __init__(self, function: str, error: str, trigger: Path, *flags: str, **options: Any) -> None:
        super().__init__(*flags, **options)
        self._trigger = trigger
        here = (sys.executable, "-m", "tests.integration.faulty_server")
        self._program = (*here, str(trigger), function, error)

    def fail(self) -> Self:
        """Has the function raise the next time that it is called."""
        self._trigger.touch()
        return self

    @property
    def failed(self) -> bool:
        """Whether the function has raised."""
        return not self._trigger.exists()


def main(trigger: str, function: str, error: str) -> None:
    """Runs a server with the fault."""
    read_where_asked()
    module, _, path = function.partition(":")
    *owners, name = path.split(".")
    owner: Any = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    bound = isinstance(inspect.getattr_static(owner, name), classmethod | staticmethod)
    sound = getattr(owner, name)

    def faulty(*args: Any, **kwargs: Any) -> Any:
        if Path(trigger).exists():
            Path(trigger).unlink()
            if error == HANGS:
                threading.Barrier(2).wait()
            raise getattr(builtins, error)("a fault of the test's")
        return sound(*args, **kwargs)

    setattr(owner, name, staticmethod(faulty) if bound else faulty)
    from entropyd_server.__main__ import main as serve  # noqa: PLC0415

    serve()


if __name__ == "__main__":
    arguments = sys.argv[1:4]
    del sys.argv[1:4]
    main(*arguments)
