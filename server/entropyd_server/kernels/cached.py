"""Stores compiled kernels in files, and loads those that are intact and up to date.

Invariant: loaded machine code is what was compiled from the sources that are there now, inlined steps and
constants included. A folder that is damaged, full or read-only costs time and never fails a start.

Numba's own stamp is the file of the entry point, so that code whose callees have changed would be loaded
again. As of 0.68 Numba also trusts files to be intact, and fails where it finds no folder to write to.
"""

from __future__ import annotations

import fcntl
import hashlib
import inspect
import io
import logging
import sys
import tempfile
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numba import config
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile, _CacheLocator
from numba.core.runtime import rtsys
from numba.misc.appdirs import AppDirs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)

_DIGEST_BYTES = 32


def stored(dispatcher: Any) -> Any:
    """Makes a dispatcher of Numba store what it compiles in files, and returns it."""
    if not config.DISABLE_JIT:
        dispatcher._cache = _KernelCache(dispatcher.py_func)  # noqa: SLF001 - as `cache=True` does
    return dispatcher


def could_be_stored(dispatcher: Any) -> bool:
    """Whether a dispatcher stores what it compiles, and nothing is stored that it could load."""
    files = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
    return isinstance(files, _DigestedFiles) and _can_write(_folder()) and not files._load_index()  # noqa: SLF001


@cache
def _stamp() -> bytes:
    """Digests all modules of this package."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.digest()


@cache
def _folder() -> Path:
    """Finds the folder of the files: NUMBA_CACHE_DIR, or beside the source, or in the user's cache folder.

    Of the last two, the first that can be written to; if neither can, the one beside the source is read.
    """
    name = _CacheLocator.get_suitable_cache_subpath(__file__)
    if config.CACHE_DIR:
        return Path(config.CACHE_DIR, name)
    beside = Path(__file__).parent / "__pycache__"
    home = Path(AppDirs(appname="numba", appauthor=False).user_cache_dir, name)
    return next((path for path in (beside, home) if _can_write(path)), beside)


def _can_write(folder: Path) -> bool:
    # A relative path means a user without a home.
    if not folder.is_absolute():
        return False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Waits until no other process stores kernels: Numba reads a kernel's index and then writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@cache
def _warn_of_damage(folder: Path) -> None:
    log.warning(
        "compiled kernels in %s are damaged or of another version; compiling them again takes some 30 s",
        folder,
    )


@cache
def _warn_of_folder(folder: Path, cause: str) -> None:
    log.warning(
        "compiled kernels cannot be stored in %s (%s), so every start compiles them, which takes some 30 s; "
        "set NUMBA_CACHE_DIR to a writable folder",
        folder,
        cause,
    )


class _Locator(_CacheLocator):  # type: ignore[misc]  # Numba has no types
    """Tells Numba where the files of one kernel are, and of which sources they must be."""

    def __init__(self, line: int) -> None:
        self._line = line

    def get_cache_path(self) -> str:
        return str(_folder())

    def get_source_stamp(self) -> bytes:
        return _stamp()

    def get_disambiguator(self) -> str:
        return str(self._line)


class _Implementation(CompileResultCacheImpl):  # type: ignore[misc]
    """Numba's class, without its search for a locator, which fails where nothing can be written."""

    def __init__(self, function: Callable[..., object]) -> None:
        self._lineno = function.__code__.co_firstlineno
        self._locator = _Locator(self._lineno)
        name = f"{Path(inspect.getfile(function)).stem}.{function.__qualname__}"
        self._filename_base = self.get_filename_base(name, sys.abiflags)


class _DigestedFiles(IndexDataCacheFile):  # type: ignore[misc]
    """Numba's index and data files, each followed by a digest, which unpickling ignores.

    The digest of machine code covers the stamp: Numba writes the index first, and where the disk is full the
    data file that it names is an older one.
    """

    def _load_index(self) -> Any:
        try:
            self._check(self._index_path)
            return super()._load_index()
        except OSError:
            return {}

    def _load_data(self, name: str) -> Any:
        self._check(self._data_path(name))
        return super()._load_data(name)

    @contextmanager
    def _open_for_write(self, path: str) -> Iterator[io.BytesIO]:
        with super()._open_for_write(path) as file:
            content = io.BytesIO()
            yield content
            file.write(content.getvalue() + self._digest(path, content.getvalue()))

    def _check(self, path: str) -> None:
        content = Path(path).read_bytes()
        if self._digest(path, content[:-_DIGEST_BYTES]) != content[-_DIGEST_BYTES:]:
            _warn_of_damage(_folder())
            raise OSError(f"{path} does not match its digest")  # Numba then compiles, as without a file

    def _digest(self, path: str, content: bytes) -> bytes:
        stamp = b"" if path == self._index_path else self._source_stamp
        return hashlib.sha256(stamp + content).digest()


class _KernelCache(FunctionCache):  # type: ignore[misc]
    """The files of one kernel."""

    _impl_class = _Implementation

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__(function)
        self._cache_file = _DigestedFiles(str(_folder()), self._impl.filename_base, _stamp())

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Loads a kernel. Numba's own method first imports what only compiling needs, 10 MB of modules."""
        rtsys.initialize(target_context)
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            with _alone_in(_folder()):
                super().save_overload(sig, data)
        except OSError as error:
            _warn_of_folder(_folder(), str(error.strerror))
