"""The model store: one immutable object per model, named by its id.

Owns where objects are and how they come there. It must not know who serves the models or how tables are
built; `model_object` has the layout. Invariant: an object is created atomically and never overwritten, and a
model that `load` returns has been checked against its own digests, so a damaged object is an error and never
other tables.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import from_url

from entropyd.contract.errors import DataLossError, ModelNotFoundError, UnavailableError
from entropyd_server.store import model_object
from entropyd_server.store.model_object import ObjectError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from entropyd.contract.config import UniversalBatchedConfig
    from entropyd_server.coding.tables import CodingTables

log = logging.getLogger(__name__)

_PREFIX = "models/"
_SUFFIX = ".safetensors"
# An empty object for each model of a caller whose models are counted: callers/NAME/MODEL_ID.
_CALLERS = "callers/"


@dataclass(frozen=True, eq=False)
class StoredModel:
    """A model as the store holds it.

    Attributes:
      config: Its configuration, every default filled in.
      tables: Its coding tables; None without compression.
      built_with: Versions of the libraries that built the tables, by name.
      created_at: When the object was written.
    """

    config: UniversalBatchedConfig
    tables: CodingTables | None
    built_with: Mapping[str, str]
    created_at: datetime

    @property
    def table_bytes(self) -> int:
        """Bytes of the coding tables as they are stored; 0 without compression."""
        return 0 if self.tables is None else self.tables.cdf.nbytes + self.tables.cdf_offset.nbytes


class ModelStore:
    """Models in a folder, in memory, or in an object store.

    Args:
      url: `file:///folder` (made if missing), `memory:///`, or what obstore opens: `s3://`, `gs://`, `az://`.

    Raises:
      UnavailableError: From every method, STORE_UNAVAILABLE, when the store cannot be reached.
    """

    def __init__(self, url: str) -> None:
        # obstore's stubs type each backend's options apart; `mkdir` belongs to the local one.
        options: dict[str, Any] = {"mkdir": True} if url.startswith("file:") else {}
        self._backend = from_url(url, **options)

    async def probe(self) -> None:
        """Asks the store for one listing, to learn whether it answers."""
        with _reachable():
            async for _ in obstore.list(self._backend, _PREFIX, chunk_size=1):
                return

    async def create(
        self, config: UniversalBatchedConfig, tables: CodingTables | None, built_with: Mapping[str, str]
    ) -> tuple[StoredModel, bool]:
        """Stores a model unless it is there already.

        Returns:
          The model that is now in the store, and whether this call put it there. Where another call was
          first, its tables win.

        Raises:
          DataLossError: If the model is there already and damaged.
        """
        blob = model_object.serialise(config, tables, built_with)
        with _reachable():
            try:
                await obstore.put_async(self._backend, _key(config.model_id), blob, mode="create")
            except AlreadyExistsError:
                created = False
            else:
                created = True
        return await self.load(config.model_id), created

    async def load(self, model_id: str) -> StoredModel:
        """Reads a model and checks it against its digests.

        Raises:
          ModelNotFoundError: If there is none of that id.
          DataLossError: If the object does not match its digests.
        """
        return (await self._read(model_id))[0]

    async def read(self, model_id: str) -> bytes:
        """Reads the object of a model, checked as by `load`.

        Raises:
          ModelNotFoundError, DataLossError: As `load`.
        """
        return (await self._read(model_id))[1]

    async def _read(self, model_id: str) -> tuple[StoredModel, bytes]:
        with _reachable():
            try:
                answer = await obstore.get_async(self._backend, _key(model_id))
            except FileNotFoundError:
                raise _not_found(model_id) from None
            blob = bytes(await answer.bytes_async())
        try:
            config, tables, built_with = await asyncio.to_thread(model_object.parse, blob)
            if config.model_id != model_id:
                raise ObjectError(f"configuration hashes to {config.model_id}")
        except ObjectError as error:
            log.error("stored model %s is damaged: %s", model_id, error)
            raise DataLossError(
                f"stored model {model_id} does not match its digests", metadata={"model_id": model_id}
            ) from error
        return StoredModel(config, tables, built_with, answer.meta["last_modified"]), blob

    async def list_ids(self, page_size: int, after: str = "") -> list[str]:
        """The smallest `page_size` model ids above `after`, in rising order."""
        with _reachable():
            # Local folders list in no order, so all names are read; they are short.
            names = [
                meta["path"].removeprefix(_PREFIX).removesuffix(_SUFFIX)
                async for page in obstore.list(self._backend, _PREFIX)
                for meta in page
                if meta["path"].endswith(_SUFFIX)
            ]
        return heapq.nsmallest(page_size, (name for name in names if name > after))

    async def delete(self, model_id: str) -> None:
        """Removes a model.

        Raises:
          ModelNotFoundError: If there is none of that id.
        """
        with _reachable():
            try:
                await obstore.head_async(self._backend, _key(model_id))
                await obstore.delete_async(self._backend, _key(model_id))
            except FileNotFoundError:
                raise _not_found(model_id) from None
            async for page in obstore.list(self._backend, _CALLERS):
                for meta in page:
                    if meta["path"].endswith(f"/{model_id}"):
                        await obstore.delete_async(self._backend, meta["path"])

    async def charge(self, caller: str, model_id: str) -> None:
        """Notes that a caller made a model, until it is deleted."""
        with _reachable():
            await obstore.put_async(self._backend, f"{_CALLERS}{caller}/{model_id}", b"")

    async def count_charged(self, caller: str) -> int:
        """The models that a caller made and that were not deleted."""
        with _reachable():
            pages = obstore.list(self._backend, f"{_CALLERS}{caller}")
            return sum([len(page) async for page in pages])


def _key(model_id: str) -> str:
    return f"{_PREFIX}{model_id}{_SUFFIX}"


def _not_found(model_id: str) -> ModelNotFoundError:
    return ModelNotFoundError(f"no model {model_id} in the store", metadata={"model_id": model_id})


@contextmanager
def _reachable() -> Iterator[None]:
    """Turns a backend's failure into an error without its internals, which go to the log."""
    try:
        yield
    except (BaseError, OSError) as error:
        log.error("model store: %s: %s", type(error).__name__, error)
        raise UnavailableError(
            "the model store cannot be reached", reason="STORE_UNAVAILABLE", retry_after_s=1.0
        ) from error
