"""Compresses a dask.array into a Zarr array, and reads it back, in tasks of Dask."""

from __future__ import annotations

import math
import os
import pickle
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any
from uuid import uuid4

import dask
import dask.array as da
import numpy as np
import numpy.typing as npt
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph
from dask.layers import ArraySliceDep
from zarr.abc.store import Store

from entropyd._client import Client
from entropyd._model import Model
from entropyd.contract.errors import InvalidRequestError
from entropyd.dask.coded_array import CodedArray, create_or_resume, open_array, store_at
from entropyd.dask.layout import Slices, aligned, check_array, regions, zarr_chunks
from entropyd.zarr import EntropydCodec
from entropyd.zarr.codec import coded_by, try_coding_unit
from entropyd.zarr.server import configured_server


def compress(
    array: da.Array,
    model: Model,
    url: str | os.PathLike[str] | Store,
    *,
    max_error: float | None = None,
    missing: Sequence[float] = (),
    fill_value: float = math.nan,
    chunks: Sequence[int] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    compute: bool = True,
    **options: Any,
) -> int | da.Array:
    """Compresses an array into a Zarr v3 array, chunk by chunk, on the Dask cluster in use.

    If the array is there already, from a run that ended early, the chunks that are there are neither computed
    nor coded again. A URL therefore belongs to its data: other data need another one.

    Args:
      array: A dask.array of float16, float32 or float64 with NumPy chunks; without `max_error`, of the
        model's bottleneck_dtype. Its innermost axes are coding units, as in `Model.compress`.
      model: The model. Workers get a copy, which connects anew: so its client has to be one that can be
        pickled, with an address that workers reach.
      url: A folder that all workers share, the URL of an object store (through fsspec), or a
        `zarr.storage.ObjectStore` of one.
      max_error: Bound on the error of every element, as in `entropyd.bounded`; None restores elements within
        1/2.
      missing: Values that mark missing data, beside NaN and the fill value; restored exactly.
      fill_value: The array's fill value, which pads chunks at its ends.
      chunks: Shape of the Zarr chunks; None for Dask's own chunks, cut along the outer axes to at most 16 MiB
        where they can be cut evenly. If a Zarr chunk would reach over Dask chunks, Dask rechunks the array
        first.
      storage_options: Those of fsspec, with a URL of an object store.
      compute: Whether to compute at once. If not, the result is a dask.array without axes, to hand to
        `Client.compute` of Dask.
      options: For `dask.compute`, such as `scheduler`; or `retries` on a distributed cluster.

    Returns:
      The number of chunks that were not there before.

    Raises:
      InvalidTensorError: If the array is no dask.array of plain NumPy chunks and known shape, or the model
        cannot code it.
      InvalidRequestError: If another array is at the URL, or one of other shape, chunks, dtype, fill value,
        model, bound or missing values (names each); or if chunks are not written atomically there.
      TypeError: If the model's client cannot be pickled, see `entropyd.Client`.
      DataLossError: If chunks are not there in the end, because workers do not share the folder.
      EntropydError: As `Model.compress`, in the task that it happened in.
    """
    check_array(array)
    if not isinstance(model, Model):
        raise InvalidRequestError.at("model", f"is a {type(model).__name__}; expected an entropyd.Model")
    pickle.dumps(model)  # Dask's own error would not say why it cannot be sent
    codec = EntropydCodec(model.id, max_error, missing)
    shape = zarr_chunks(array, len(model.prior_shape), chunks)
    info = model._session.server_info()  # noqa: SLF001 - our own
    try_coding_unit(model, info, codec, dtype=array.dtype.name, rank=array.ndim, chunk_shape=shape)
    store = store_at(url, storage_options, writable=True)
    created = create_or_resume(
        store, codec, shape=array.shape, dtype=array.dtype.name, chunks=shape, fill_value=fill_value
    )
    target = CodedArray(created, model)
    # One key of the graph, so that a worker gets one copy, with one connection, for all of its tasks.
    sent = dask.delayed(target, name=f"entropyd-target-{uuid4().hex}", traverse=False)
    gone = target.gone()
    written = _written(aligned(array, shape), target, sent, gone)
    if not compute:
        return written.map_blocks(_counted, sent, len(gone), meta=np.empty((), np.int64))
    dask.compute(written, **options)
    target.check_complete()
    return len(gone)


def decompress(
    url: str | os.PathLike[str] | Store,
    client: Client | None = None,
    *,
    storage_options: Mapping[str, Any] | None = None,
) -> da.Array:
    """The Zarr array at a URL as a dask.array, whose tasks restore a chunk each.

    Args:
      url: As for `compress`, of an array that `compress`, zarr or xarray wrote with EntropydCodec.
      client: A client of a server that has the model; workers get a copy. None for the server that zarr's
        configuration names in this process, see `entropyd.zarr`.
      storage_options: As for `compress`.

    Returns:
      The array, chunked as the Zarr array, or as its shards if it has any. Chunks that were never written
      have the fill value.

    Raises:
      InvalidRequestError: If no array is there, or none with EntropydCodec.
      ModelNotFoundError: If the server does not have its model.
      TypeError: If the client cannot be pickled, see `entropyd.Client`.
      EntropydError: As `Model.decompress`, in the task that it happened in.
    """
    store = store_at(url, storage_options, writable=False)
    array = open_array(store, writable=False)
    if array is None:
        raise InvalidRequestError.at("url", f"{store} has no array; expected one of Zarr v3")
    model_id = coded_by(array)
    if client is None:
        client = configured_server().client()
    coded = CodedArray(array, client.model(model_id))
    pickle.dumps(coded.model)  # as above
    meta = np.empty((0,) * coded.ndim, coded.dtype)
    chunks = array.shards or array.chunks
    return da.from_array(coded, chunks, name=False, asarray=False, fancy=False, meta=meta)


def _written(array: da.Array, target: CodedArray, sent: Delayed, gone: AbstractSet[str]) -> da.Array:
    """Zero, without axes; computing it writes the chunks that are `gone`, and computes nothing for others."""
    blocks = [block for block, region in regions(array) if not gone.isdisjoint(target.keys_of(region))]
    if not blocks:
        return da.zeros((), dtype=np.int64)
    written = array.map_blocks(
        _write,
        ArraySliceDep(array.chunks),
        sent,
        chunks=tuple((1,) * number for number in array.numblocks),
        meta=np.empty((0,) * array.ndim, np.int64),
        name=f"entropyd-compress-{uuid4().hex}",
    )
    # A list of some of its chunks: what Dask does not need for these is no part of the graph.
    name = f"entropyd-written-{uuid4().hex}"
    layer = {(name, at): (written.name, *block) for at, block in enumerate(blocks)}
    graph = HighLevelGraph.from_collections(name, layer, dependencies=[written])
    return da.Array(graph, name, chunks=((1,) * len(blocks),), meta=np.empty((0,), np.int64)).sum()


def _write(data: npt.NDArray[Any], region: Slices, target: CodedArray) -> npt.NDArray[np.int64]:
    target.write(region, data)
    return np.zeros(1, np.int64)


def _counted(written: npt.NDArray[np.int64], target: CodedArray, count: int) -> npt.NDArray[np.int64]:
    target.check_complete()
    return written + count
