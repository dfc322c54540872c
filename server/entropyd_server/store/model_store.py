"""The model store: one immutable object per model, named by its id; see `model_object` for the layout.

Invariant: an object is created atomically and never overwritten, and a model that `load` returns matches its
digests.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

import obstore
from obstore.store import LocalStore

from entropyd.contract.config import ModelConfig
from entropyd.contract.errors import DataLossError, ModelNotFoundError
from entropyd_server.coding.tables import CodingTables
from entropyd_server.store import model_object
from entropyd_server.store.calls import BackendCalls, GoneError, says_store_is_there, unavailable
from entropyd_server.store.conditional import put_if
from entropyd_server.store.listing import first_names
from entropyd_server.store.location import open_backend
from entropyd_server.store.model_names import ModelNames
from entropyd_server.store.model_object import ModelObject, ObjectError

log = logging.getLogger(__name__)

_PREFIX = "models/"
_SUFFIX = ".safetensors"
_KEY = re.compile(rf"{_PREFIX}([0-9a-f]{{64}}){re.escape(_SUFFIX)}")
# An empty object for each model that counts against a caller's quota: callers/NAME/MODEL_ID.
_CALLERS = "callers/"
# More than a server with default limits can store.
DEFAULT_MAX_OBJECT_BYTES = 256 * 2**20
# A model may be deleted between its creation and its first read, but hardly several times in a row.
_CREATE_ATTEMPTS = 3


@dataclass(frozen=True, eq=False)
class StoredModel(ModelObject):
    """A model in the store, and when it was written."""

    created_at: datetime

    @cached_property
    def live_config(self) -> ModelConfig:
        """The configuration with the stored quantization offset, so that none has to be computed."""
        return self.config if self.tables is None else self.config.with_fixed_offset(self.tables.raw)

    @property
    def table_bytes(self) -> int:
        """Bytes of the coding tables as they are stored; 0 for a model without any."""
        return 0 if self.tables is None else self.tables.table_bytes


class ModelStore:
    """Models in a folder, in memory, or in an object store.

    Args:
      name: A folder or URL, as for `open_backend`. Credentials, endpoint and region of an object store come
        from the environment, under each provider's own names.
      timeout_s: Longest time for one operation, in seconds, retries included.
      max_object_bytes: Size above which an object counts as damaged and is not read.
      make_folder: Whether to make a missing folder.

    Attributes:
      operations: Number of calls of the backend, by operation and result.
      names: The names of models.

    Raises:
      StoreError: If it cannot be opened; `probe` tells whether it can be reached.
      UnavailableError: From every method, STORE_UNAVAILABLE, while the store is out of reach, too slow, full
        or read-only. The message says which.
    """

    def __init__(
        self,
        name: str,
        timeout_s: float = 20.0,
        max_object_bytes: int = DEFAULT_MAX_OBJECT_BYTES,
        *,
        make_folder: bool = True,
    ) -> None:
        self._max_object_bytes = max_object_bytes
        self._calls = BackendCalls(timeout_s)
        self.operations: Mapping[tuple[str, str], int] = self._calls.counts
        self._backend = open_backend(name, timeout_s, make_folder=make_folder)
        self.names = ModelNames(self._backend, self._calls, self._list_one)
        # A thread of its own, so that a file system that hangs blocks no other work.
        self._lookups = ThreadPoolExecutor(1, "entropyd-store")

    async def probe(self) -> None:
        """Checks with one listing whether the store can be used."""
        await self._calls.run(self._list_one(), "list", "models")

    async def _list_one(self) -> None:
        await self._check_folder()
        async for _ in obstore.list(self._backend, _PREFIX, chunk_size=1):
            return

    async def create(
        self,
        config: ModelConfig,
        tables: CodingTables | None,
        built_with: Mapping[str, str],
        *,
        imported: bool = False,
    ) -> tuple[StoredModel, bool]:
        """Stores a model unless the store has it; `imported` says that its tables come from another store.

        Returns:
          The model that is now in the store, and whether this call put it there. If another call was first,
          the model has that call's tables.

        Raises:
          DataLossError: If the store has the model and it is damaged.
        """
        blob = await asyncio.to_thread(model_object.serialise, config, tables, built_with, imported=imported)
        for _ in range(_CREATE_ATTEMPTS):
            created = await self._calls.run(self._put(config.model_id, blob), "write", "a model")
            # It is missing only if it was deleted meanwhile; then this call counts as the later one.
            with contextlib.suppress(ModelNotFoundError):
                return await self.load(config.model_id), created
        raise unavailable("the model store lost a model that was just stored", retry_after_s=1.0)

    async def _put(self, model_id: str, blob: bytes) -> bool:
        await self._check_folder()
        return await put_if(self._backend, _key(model_id), blob, "create")

    async def load(self, model_id: str) -> StoredModel:
        """Reads a model and checks it against its digests.

        Raises:
          ModelNotFoundError: If the store has none of that id.
          DataLossError: If the object does not match its digests or is larger than a model can be.
        """
        return (await self._read(model_id))[0]

    async def read(self, model_id: str) -> bytes:
        """Reads the object of a model; checks and raises as `load` does."""
        return (await self._read(model_id))[1]

    async def _read(self, model_id: str) -> tuple[StoredModel, bytes]:
        blob, created_at = await self._calls.run(self._get(model_id), "read", "a model")
        try:
            found = await asyncio.to_thread(model_object.parse, blob)
            if found.config.model_id != model_id:
                raise ObjectError(f"configuration hashes to {found.config.model_id}")
        except ObjectError as error:
            log.error("stored model %s is damaged: %s", model_id, error)
            raise DataLossError(
                f"stored model {model_id} does not match its digests", metadata={"model_id": model_id}
            ) from error
        return StoredModel(**vars(found), created_at=created_at), blob

    async def _get(self, model_id: str) -> tuple[bytes, datetime]:
        try:
            found = await obstore.get_async(self._backend, _key(model_id))
        except FileNotFoundError as error:
            raise await self._missing(model_id, error) from None
        if (size := found.meta["size"]) > self._max_object_bytes:
            log.error("stored model %s is too large to be read: %d bytes", model_id, size)
            raise DataLossError(
                f"the object of stored model {model_id} has {size} bytes; expected at most "
                f"{self._max_object_bytes}, which follows from --max-model-bytes and --max-message-bytes",
                metadata={"model_id": model_id},
            )
        return bytes(await found.bytes_async()), found.meta["last_modified"]

    async def has(self, model_id: str) -> bool:
        """Returns whether the store has a model, without reading it."""

        async def head() -> bool:
            try:
                await obstore.head_async(self._backend, _key(model_id))
            except FileNotFoundError as error:
                await self._missing(model_id, error)
                return False
            return True

        return await self._calls.run(head(), "read", "a model")

    async def list_ids(self, page_size: int, after: str = "") -> list[str]:
        """Returns the smallest `page_size` model ids above `after`, in rising order."""

        async def page() -> list[str]:
            await self._check_folder()
            return await first_names(
                self._backend, _PREFIX, _id_in, page_size, _key(after) if after else None
            )

        return await self._calls.run(page(), "list", "models")

    async def delete(self, model_id: str) -> None:
        """Deletes a model, and its place in a caller's quota even if a deletion before left only that.

        Raises:
          ModelNotFoundError: If the store has none of that id.
        """

        async def remove() -> None:
            missing = None
            try:
                await obstore.head_async(self._backend, _key(model_id))
                await obstore.delete_async(self._backend, _key(model_id))
            except FileNotFoundError as error:
                missing = await self._missing(model_id, error)
            async for page in obstore.list(self._backend, _CALLERS):
                for meta in page:
                    if meta["path"].endswith(f"/{model_id}"):
                        await obstore.delete_async(self._backend, meta["path"])
            if missing is not None:
                raise missing

        await self._calls.run(remove(), "delete", "a model")

    async def charge(self, caller: str, model_id: str) -> None:
        """Counts a model against a caller's quota until the model is deleted."""
        put = obstore.put_async(self._backend, f"{_CALLERS}{caller}/{model_id}", b"")
        await self._calls.run(put, "write", "the owner of a model")

    async def count_charged(self, caller: str) -> int:
        async def count() -> int:
            return sum([len(page) async for page in obstore.list(self._backend, f"{_CALLERS}{caller}")])

        return await self._calls.run(count(), "list", "a caller's models")

    async def _missing(self, model_id: str, error: FileNotFoundError) -> ModelNotFoundError:
        """Makes the error for a missing object, after checking that the store itself is there."""
        if not says_store_is_there(error):
            await self._list_one()
        return ModelNotFoundError(f"no model {model_id} in the store", metadata={"model_id": model_id})

    async def _check_folder(self) -> None:
        """Raises GoneError for a missing folder, as when its volume is not mounted."""
        folder = self._backend.prefix if isinstance(self._backend, LocalStore) else None
        if folder is None:
            return
        loop = asyncio.get_running_loop()
        if not await loop.run_in_executor(self._lookups, folder.is_dir):
            raise GoneError(f"{folder} is missing")


def _id_in(path: str) -> str | None:
    return named[1] if (named := _KEY.fullmatch(path)) else None


def _key(model_id: str) -> str:
    return f"{_PREFIX}{model_id}{_SUFFIX}"
