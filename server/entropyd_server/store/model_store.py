"""The model store: one immutable safetensors object per model, named by its id.

Owns the object's layout and its verification. It must not know who serves the models or how tables are
built. Invariant: an object is created atomically and never overwritten, and a model that `load` returns has
been checked against its own digests, so a damaged object is an error and never other tables.

Layout of `models/<model_id>.safetensors`: tensors `cdf` and `cdf_offset` (int32 vectors; absent for a model
without compression); metadata `entropyd.format`, `entropyd.config` (canonical JSON, whose SHA-256 is the
model id), `entropyd.tables_digest` (hex), `entropyd.built_with` (JSON), and `entropyd.seal`, the SHA-256 of
the other metadata in canonical JSON.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import json
import logging
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import obstore
import rfc8785
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import from_url
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from entropyd.contract.config import UniversalBatchedConfig
from entropyd.contract.errors import DataLossError, EntropydError, ModelNotFoundError, UnavailableError
from entropyd_server.coding.tables import CodingTables

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

log = logging.getLogger(__name__)

_FORMAT = "1"
_PREFIX = "models/"
_SUFFIX = ".safetensors"


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
        blob = _serialise(config, tables, built_with)
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
        with _reachable():
            try:
                answer = await obstore.get_async(self._backend, _key(model_id))
            except FileNotFoundError:
                raise _not_found(model_id) from None
            blob = bytes(await answer.bytes_async())
        try:
            config, tables, built_with = await asyncio.to_thread(_deserialise, blob, model_id)
        except (ValueError, KeyError, TypeError, SafetensorError, EntropydError) as error:
            log.error("stored model %s is damaged: %s: %s", model_id, type(error).__name__, error)
            raise DataLossError(
                f"stored model {model_id} does not match its digests", metadata={"model_id": model_id}
            ) from error
        return StoredModel(config, tables, built_with, answer.meta["last_modified"])

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


def _serialise(
    config: UniversalBatchedConfig, tables: CodingTables | None, built_with: Mapping[str, str]
) -> bytes:
    metadata = {
        "entropyd.format": _FORMAT,
        "entropyd.config": config.canonical_json.decode("ascii"),
        "entropyd.tables_digest": "" if tables is None else tables.digest.hex(),
        "entropyd.built_with": json.dumps(dict(built_with), sort_keys=True),
    }
    metadata["entropyd.seal"] = _seal(metadata)
    tensors = {} if tables is None else {"cdf": tables.cdf, "cdf_offset": tables.cdf_offset}
    return save_tensors(tensors, metadata)


def _deserialise(
    blob: bytes, model_id: str
) -> tuple[UniversalBatchedConfig, CodingTables | None, Mapping[str, str]]:
    tensors = load_tensors(blob)
    header_bytes = int.from_bytes(blob[:8], "little")
    metadata = json.loads(blob[8 : 8 + header_bytes])["__metadata__"]
    if metadata.pop("entropyd.seal") != _seal(metadata):
        raise ValueError("metadata do not match their seal")
    if metadata["entropyd.format"] != _FORMAT:
        raise ValueError(f"format {metadata['entropyd.format']}, expected {_FORMAT}")
    config = UniversalBatchedConfig.from_dict(json.loads(metadata["entropyd.config"]))
    if config.model_id != model_id:
        raise ValueError(f"configuration hashes to {config.model_id}")
    tables = CodingTables.parse(tensors["cdf"], tensors["cdf_offset"]) if config.compression else None
    digest = "" if tables is None else tables.digest.hex()
    if digest != metadata["entropyd.tables_digest"]:
        raise ValueError(f"tables hash to {digest}")
    return config, tables, json.loads(metadata["entropyd.built_with"])


def _seal(metadata: Mapping[str, str]) -> str:
    return hashlib.sha256(rfc8785.dumps(dict(metadata))).hexdigest()
