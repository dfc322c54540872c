"""An `entropyd-server` in which functions raise once, each as soon as a file of its name is there.

As a program: FOLDER FAULTS, then the flags of the server. The folder is that of the files; the faults are
JSON: the error of each function, as `FaultyServer` takes them.
"""

from __future__ import annotations

import builtins
import importlib
import inspect
import json
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entropyd_server.local import LocalServer
from entropyd_server.transport.polling import read_where_asked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self

    from entropyd import ModelInfo


# In the place of an error: the function never returns.
HANGS = "hangs"


class FaultyServer(LocalServer):
    """A server of which `fail` makes a function raise.

    Args:
      faults: By function, MODULE:NAME or MODULE:CLASS.NAME, the name of the built-in exception that it
        raises, or HANGS.
      folder: Of the files that are to be made for it; a folder of its own.

    Attributes:
      model: A model in its store, for tests to keep there.
    """

    model: ModelInfo

    def __init__(self, faults: Mapping[str, str], folder: Path, *flags: str, **options: Any) -> None:
        super().__init__(*flags, **options)
        folder.mkdir()
        self._triggers = {function: folder / function for function in faults}
        here = (sys.executable, "-m", "tests.support.faulty_server")
        self._program = (*here, str(folder), json.dumps(dict(faults)))

    def fail(self, *functions: str) -> Self:
        """Has functions, or all, raise when they are called next; also before the server is started."""
        for function in functions or self._triggers:
            self._triggers[function].touch()
        return self

    @property
    def failed(self) -> bool:
        """Whether all that were to raise have raised."""
        return not any(trigger.exists() for trigger in self._triggers.values())


def main(folder: str, faults: str) -> None:
    """Runs a server with the faults."""
    read_where_asked()
    for function, error in json.loads(faults).items():
        _make_faulty(function, error, Path(folder) / function)
    from entropyd_server.__main__ import main as serve  # noqa: PLC0415

    serve()


def _make_faulty(function: str, error: str, trigger: Path) -> None:
    module, _, path = function.partition(":")
    *owners, name = path.split(".")
    owner: Any = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    bound = isinstance(inspect.getattr_static(owner, name), classmethod | staticmethod)
    sound = getattr(owner, name)

    def faulty(*args: Any, **kwargs: Any) -> Any:
        if trigger.exists():
            trigger.unlink()
            if error == HANGS:
                threading.Barrier(2).wait()
            raise getattr(builtins, error)("a fault of the test's")
        return sound(*args, **kwargs)

    setattr(owner, name, staticmethod(faulty) if bound else faulty)


if __name__ == "__main__":
    arguments = sys.argv[1:3]
    del sys.argv[1:3]
    main(*arguments)
