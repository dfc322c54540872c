"""The Zarr array at a URL, whose chunks a model codes.

Invariant: what makes an array's chunks is in its metadata, and chunks are added only to an array with the
same metadata.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import numpy.typing as npt
import zarr
from zarr.abc.store import Store
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore, ObjectStore

from entropyd._model import Model
from entropyd.contract.errors import DataLossError, InvalidRequestError, Violation
from entropyd.dask.layout import Slices, chunks_within
from entropyd.zarr import EntropydCodec
from entropyd.zarr.server import serving

# Of fsspec: object stores, which show an object when all of it is there.
_ATOMIC = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "oss"}
_EXPECTED = "expected a folder, a URL of an object store, or a zarr.storage.ObjectStore of one"

# Chunks that an error names.
_SHOWN = 3


@dataclass(frozen=True, eq=False)
class CodedArray:
    """An array and the model of its chunks. It can be pickled, and then connects anew.

    Attributes:
      array: Opened for reading, or for writing.
      model: The model of its codec.
    """

    array: Any  # a zarr.Array
    model: Model

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of all axes."""
        return tuple(self.array.shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The elements' dtype."""
        return np.dtype(self.array.dtype)

    def __getitem__(self, region: Any) -> npt.NDArray[Any]:
        """Restores a part; errors as zarr and `Model.decompress`."""
        with serving(self.model):
            restored: npt.NDArray[Any] = self.array[region]
        return restored

    def key(self, chunk: tuple[int, ...]) -> str:
        """The key of a chunk's object in the store."""
        return str(self.array.metadata.encode_chunk_key(chunk))

    def keys_of(self, region: Slices) -> list[str]:
        """The keys of the chunks of a region."""
        return [self.key(chunk) for chunk, _ in chunks_within(region, self.array.chunks)]

    def gone(self) -> set[str]:
        """The keys of all chunks that are not there, as this process sees the store."""

        async def listed() -> set[str]:
            return {key async for key in self.array.store.list()}

        whole = tuple(slice(0, size) for size in self.shape)
        return set(self.keys_of(whole)) - sync(listed())

    def check_complete(self) -> None:
        """Checks that every chunk is there, as this process sees the store.

        Raises:
          DataLossError: If some are not; names the first of them.
        """
        gone = sorted(self.gone())
        if gone:
            shown = ", ".join(gone[:_SHOWN]) + (", ..." if len(gone) > _SHOWN else "")
            found = f"{self.array.store} lacks {len(gone)} chunks that were written: {shown}"
            raise DataLossError(
                f"{found}; expected a folder that all workers share", reason="ARCHIVE_DAMAGED"
            )

    def write(self, region: Slices, data: npt.NDArray[Any]) -> None:
        """Compresses and writes those chunks of a region that are not there.

        Args:
          region: Slices that begin where chunks do, and end there or with the array.
          data: Its elements.
        """
        for chunk, part in chunks_within(region, self.array.chunks):
            if sync(self.array.store.exists(self.key(chunk))):
                continue
            within = tuple(
                slice(one.start - whole.start, one.stop - whole.start)
                for one, whole in zip(part, region, strict=True)
            )
            with serving(self.model):
                self.array[part] = data[within]


def store_at(
    url: str | os.PathLike[str] | Store, storage_options: Mapping[str, Any] | None, *, writable: bool
) -> Store:
    """The store of an array.

    Raises:
      InvalidRequestError: If it is to be written, and other processes would not see what one writes there, or
        would see a part of it.
    """
    store: Any = url
    if isinstance(url, (str, os.PathLike)):
        store = _store_of(os.fspath(url), storage_options)
    elif storage_options is not None:
        raise InvalidRequestError.at("storage_options", "are given with a store; expected them with a URL")
    problem = _sharing_problem(store) if writable else None
    if problem is not None:
        raise InvalidRequestError.at("url", f"{problem}; {_EXPECTED}")
    found: Store = store
    return found


def _sharing_problem(store: Any) -> str | None:
    if isinstance(store, LocalStore):
        return None
    if isinstance(store, FsspecStore):
        found = store.fs.protocol
        protocols = {found} if isinstance(found, str) else set(found)
        return None if protocols & _ATOMIC else f"is a store of fsspec's {'/'.join(sorted(protocols))}"
    if isinstance(store, ObjectStore):
        in_memory = type(store.store).__name__ == "MemoryStore"
        return "is a store in the memory of this process" if in_memory else None
    return f"is a {type(store).__name__}"


def _store_of(url: str, storage_options: Mapping[str, Any] | None) -> Store:
    scheme = urlsplit(url).scheme if "://" in url else ""
    if scheme not in {"", "file", "local"}:
        return FsspecStore.from_url(url, storage_options=dict(storage_options or {}))
    if storage_options is not None:
        raise InvalidRequestError.at("storage_options", "are given with a folder; expected them with a URL")
    # fsspec's own local files show a part of what is being written. Workers may have other current folders.
    return LocalStore(Path(unquote(urlsplit(url).path) if scheme else url).absolute())


def open_array(store: Store, *, writable: bool) -> Any | None:
    """The Zarr array in a store; None if nothing is there.

    Raises:
      InvalidRequestError: If something else is there.
    """
    try:
        found = zarr.open(store, mode="r+" if writable else "r")
    except FileNotFoundError:
        return None
    if not isinstance(found, zarr.Array) or found.metadata.zarr_format != 3:
        kind = "an array of Zarr v2" if isinstance(found, zarr.Array) else "a group"
        raise InvalidRequestError.at("url", f"{store} is {kind}; expected an array of Zarr v3, or nothing")
    return found


def create_or_resume(
    store: Store,
    codec: EntropydCodec,
    *,
    shape: Sequence[int],
    dtype: str,
    chunks: Sequence[int],
    fill_value: float,
) -> Any:
    """The array in a store, created if nothing is there.

    Raises:
      InvalidRequestError: If an array with other metadata is there; names every difference.
    """
    expected: dict[str, Any] = {
        "shape": tuple(shape),
        "chunks": tuple(chunks),
        "dtype": np.dtype(dtype),
        "fill_value": fill_value,
        "serializer": codec.to_dict(),  # which is not tried again
        "compressors": None,
        "zarr_format": 3,
    }
    found = open_array(store, writable=True)
    if found is None:
        found = zarr.create_array(store, **expected)
    problems = list(_differences(found, zarr.create_array({}, **expected), codec))
    if problems:
        raise InvalidRequestError.of(problems)
    # By default zarr leaves out chunks that are all fill value: those would never be there. Its functions
    # that open an array take no configuration (zarr 3.1.5).
    parts: Any = (found.metadata, found.store_path, {"write_empty_chunks": True})
    return zarr.Array(zarr.AsyncArray(*parts))


def _differences(found: Any, expected: Any, codec: EntropydCodec) -> list[Violation]:
    def difference(field: str, there: Any, here: Any) -> list[Violation]:
        if there == here:
            return []
        return [Violation(field, f"is {here!s:.80}; expected {there!s:.80}, as in the array at the url")]

    problems = [
        *difference("shape", found.shape, expected.shape),
        *difference("dtype", found.dtype, expected.dtype),
        *difference("chunks", found.chunks, expected.chunks),
        *difference("fill_value", _comparable(found.fill_value), _comparable(expected.fill_value)),
    ]
    coders = found.metadata.codecs
    if len(coders) != 1 or not isinstance(coders[0], EntropydCodec):
        names = ", ".join(type(coder).__name__ for coder in coders)
        problems.append(Violation("url", f"has an array with codecs {names}; expected EntropydCodec alone"))
    else:
        problems += difference("model", coders[0].model_id, codec.model_id)
        problems += difference("max_error", coders[0].max_error, codec.max_error)
        problems += difference("missing", coders[0].missing, codec.missing)
    layout = ("chunk_grid", "chunk_key_encoding", "storage_transformers")
    if not problems:
        there, here = (array.metadata.to_dict() for array in (found, expected))
        problems += [
            problem for field in layout for problem in difference(field, there.get(field), here.get(field))
        ]
    return problems


def _comparable(fill_value: Any) -> float | str:
    return "NaN" if math.isnan(fill_value) else float(fill_value)
