"""Names of models in the store: for each, an object that holds the id that it points at.

Invariant: a name is moved by compare and swap, so what a move replaces is what it says that it replaced,
however many servers share the store.

A removed name stays as an empty object, because object stores have no conditional deletion.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import re
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.store import LocalStore

from entropyd.contract.errors import ModelStateError
from entropyd.contract.names import is_name
from entropyd_server.store.calls import BackendCalls, says_store_is_there, unavailable
from entropyd_server.store.conditional import put_if
from entropyd_server.store.listing import first_names

if TYPE_CHECKING:
    from obstore import PutMode, UpdateVersion
    from obstore.store import ObjectStore

log = logging.getLogger(__name__)

_PREFIX = "names/"
_LOCK = "names/.lock"  # no name begins with a dot
_ID = re.compile(rb"[0-9a-f]{64}")
_ID_BYTES = 64
# Others may move the same name first so many times in a row.
_MOVE_ATTEMPTS = 16
# Objects that are read concurrently.
_READS = 8


@dataclass(frozen=True)
class _Held:
    """What a name points at, "" for nothing, and the version of its object; None without an object."""

    model_id: str
    version: UpdateVersion | None


class ModelNames:
    """The names of a store. An object that holds no id counts as a free name, and the log says so.

    Args:
      backend: Where the names are.
      calls: Awaits the calls of the backend.
      check: Raises if the backend itself is missing.

    Raises:
      UnavailableError: From every method, as those of `ModelStore`.
    """

    def __init__(
        self, backend: ObjectStore, calls: BackendCalls, check: Callable[[], Awaitable[None]]
    ) -> None:
        self._backend = backend
        self._calls = calls
        self._check = check
        # A thread of its own, so that waiting for another process's lock blocks no other work.
        self._swaps = ThreadPoolExecutor(1, "entropyd-names")

    async def get(self, name: str) -> str:
        """Returns the id that a name points at, "" for none."""
        return (await self._calls.run(self._get(name), "read", "a name")).model_id

    async def move(self, name: str, model_id: str, expected: str | None = None) -> str:
        """Points a name at a model.

        Args:
          name: A valid name.
          model_id: An id; "" removes the name.
          expected: What the name must point at, "" for nothing; None for whatever it points at.

        Returns:
          What it pointed at before.

        Raises:
          ModelStateError: NAME_MOVED, if it does not point at what is expected.
        """
        return await self._calls.run(self._move(name, model_id, expected), "write", "a name")

    async def page(self, page_size: int, after: str = "") -> tuple[dict[str, str], str]:
        """Reads a page of names in alphabetical order.

        Returns:
          Ids by name, of the first `page_size` objects above `after`, those of removed names left out; and
          the name after which the next page begins, "" if there is none.
        """
        names = await self._calls.run(self._names(page_size + 1, after), "list", "names")
        covered = names[:page_size]
        ids: list[str] = []
        for start in range(0, len(covered), _READS):
            ids += await asyncio.gather(*map(self.get, covered[start : start + _READS]))
        held = {name: model_id for name, model_id in zip(covered, ids, strict=True) if model_id}
        return held, covered[-1] if len(names) > page_size else ""

    async def _names(self, count: int, after: str) -> list[str]:
        await self._check()
        return await first_names(self._backend, _PREFIX, _name_in, count, _PREFIX + after if after else None)

    async def _get(self, name: str) -> _Held:
        try:
            found = await obstore.get_async(self._backend, _PREFIX + name)
        except FileNotFoundError as error:
            if not says_store_is_there(error):
                await self._check()
            return _Held("", None)
        size = found.meta["size"]
        model_id = _id_in(bytes(await found.bytes_async())) if size == _ID_BYTES else ""
        if size and not model_id:
            log.error("the object of the name %s holds no model id", name)
        version: UpdateVersion = {}
        if found.meta["e_tag"] is not None:
            version["e_tag"] = found.meta["e_tag"]
        if found.meta["version"] is not None:
            version["version"] = found.meta["version"]
        return _Held(model_id, version)

    async def _move(self, name: str, model_id: str, expected: str | None) -> str:
        for _ in range(_MOVE_ATTEMPTS):
            held = await self._get(name)
            if expected not in {None, held.model_id}:
                raise _moved(name, held.model_id, expected)
            if held.model_id == model_id or await self._swap(name, model_id, held):
                return held.model_id
        raise unavailable(f"others keep moving the name {name}", retry_after_s=1.0)

    async def _swap(self, name: str, model_id: str, held: _Held) -> bool:
        """Writes an object unless it has changed since it was read; returns whether it did."""
        if isinstance(self._backend, LocalStore):
            loop, folder = asyncio.get_running_loop(), Path(str(self._backend.prefix))
            return await loop.run_in_executor(self._swaps, self._swap_file, folder, name, model_id, held)
        mode: PutMode = "create" if held.version is None else held.version
        return await put_if(self._backend, _PREFIX + name, model_id.encode(), mode)

    def _swap_file(self, folder: Path, name: str, model_id: str, held: _Held) -> bool:
        """Does so under a lock: obstore 0.12 has no conditional put for files.

        It compares ids, since what obstore calls the e_tag of a file may come again within a tick of the
        file system's clock.
        """
        with _locked(folder / _LOCK):
            try:
                found = _id_in((folder / _PREFIX / name).read_bytes())
            except FileNotFoundError:
                found = ""
            if found != held.model_id:
                return False
            obstore.put(self._backend, _PREFIX + name, model_id.encode())  # another file, renamed over it
            return True


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds a lock that other processes respect, and that ends with this one; also on NFS."""
    path.parent.mkdir(exist_ok=True)
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _name_in(path: str) -> str | None:
    name = path.removeprefix(_PREFIX)
    return name if is_name(name) else None


def _id_in(blob: bytes) -> str:
    return blob.decode() if _ID.fullmatch(blob) else ""


def _moved(name: str, model_id: str, expected: str | None) -> ModelStateError:
    found = f"points at model {model_id}" if model_id else "points at no model"
    wanted = f"model {expected}" if expected else "none"
    return ModelStateError(
        f"the name {name} {found}; expected {wanted}",
        reason="NAME_MOVED",
        metadata={"name": name, "model_id": model_id},
    )
