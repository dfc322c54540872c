"""Compressing one array into one archive, and back, in pieces.

Owns the sizes of pieces and what a piece goes through. It must not know flags, nor print. Invariant: memory
is that of a piece, however large the array, unless one item of its first batch axis is larger.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from math import prod
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from entropyd import (
    Archive,
    ArchiveWriter,
    EmbeddedModel,
    InvalidTensorError,
    ModelNotFoundError,
    Violation,
)
from entropyd.bounded import ErrorBound
from entropyd.cli.arrays import ArrayWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from entropyd import Client, CompressedTensor, Model

    Advance = Callable[[int], None]

_PIECE_BYTES = 8 * 2**20


@dataclass(frozen=True)
class CompressOptions:
    """How an array is compressed.

    Attributes:
      max_error: Bound on the error of each element; None compresses the array as it is.
      cast: Whether an array of another dtype is converted to the model's.
      embed_model: Whether the archive carries the model.
      metadata: JSON values by name, to be kept with the data.
    """

    max_error: float | None = None
    cast: bool = False
    embed_model: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Spent:
    """What compressing an array came to.

    Attributes:
      coding_units, symbols, escaped_symbols: How many there are of each.
      uncompressed_bytes: Bytes of the array.
      compressed_bytes: Bytes of all bit strings.
      file_bytes: Bytes of the archive.
    """

    coding_units: int = 0
    symbols: int = 0
    escaped_symbols: int = 0
    uncompressed_bytes: int = 0
    compressed_bytes: int = 0
    file_bytes: int = 0

    @property
    def bits_per_symbol(self) -> float:
        """Bits of the bit strings per symbol; 0 without symbols."""
        return 8 * self.compressed_bytes / self.symbols if self.symbols else 0.0

    @property
    def figures(self) -> dict[str, Any]:
        """All of it, for a program."""
        return {**asdict(self), "bits_per_symbol": self.bits_per_symbol}

    def __str__(self) -> str:
        sizes = f"{self.uncompressed_bytes:,} -> {self.file_bytes:,} bytes"
        return f"{sizes}, {self.bits_per_symbol:.3f} bits per symbol"


def compress_array(
    client: Client,
    model: Model,
    array: npt.NDArray[Any],
    target: Path | BinaryIO,
    options: CompressOptions,
    *,
    advance: Advance,
) -> Spent:
    """Compresses an array into an archive; errors as `Model.compress` and `ArchiveWriter`."""
    bound, metadata = None, dict(options.metadata)
    array = _as_the_model_names_it(array, model)
    if options.max_error is None and not options.cast and array.dtype.name != model.config.bottleneck_dtype:
        found = f"has dtype {array.dtype.name}; the model's is {model.config.bottleneck_dtype}"
        raise InvalidTensorError.of([Violation("the array", f"{found}: --cast converts it")])
    if options.max_error is not None:
        bound = ErrorBound.holding(options.max_error, array, model.config.bottleneck_dtype)
        metadata |= bound.metadata
    embedded = EmbeddedModel.of(model) if options.embed_model else None
    spent = Spent()
    with ArchiveWriter(target, metadata=metadata, model=embedded) as writer:
        for piece in _pieces(array, array.ndim - model.coding_rank, _piece_bytes(client)):
            compressed = _compress_piece(model, piece, bound, cast=options.cast)
            writer.append(compressed)
            spent = _added(spent, compressed, piece)
            advance(piece.nbytes)
    return replace(spent, file_bytes=writer.file_bytes)


def decompress_archive(
    client: Client,
    archive: Archive,
    target: Path,
    items: slice | None,
    *,
    skip_damaged: bool,
    advance: Advance,
) -> tuple[tuple[int, ...], str, list[int]]:
    """Restores an archive, or some items of its first batch axis, into a `.npy` file.

    Returns:
      Shape and dtype of the array, and the numbers of the coding units that are damaged and NaN in it.

    Raises:
      CorruptStringError: If units are damaged and not to be skipped.
      ModelNotFoundError, TablesMismatchError: If the server cannot decode it and it embeds no model.
    """
    model, embedded = _model_of(client, archive)
    bound = ErrorBound.of(archive.metadata)
    dtype = np.dtype(bound.dtype) if bound is not None else model.bottleneck_dtype
    unit_shape = archive.broadcast_shape + model.prior_shape
    selections = _selections(archive, items, _piece_bytes(client) // (prod(unit_shape) * dtype.itemsize or 1))
    chosen = (selections[-1].stop - selections[0].start,) if archive.batch_shape else ()
    shape = chosen + archive.batch_shape[1:] + unit_shape
    damaged: list[int] = []
    with ArrayWriter(target, shape, dtype) as writer:
        for selection in selections:
            key = selection if archive.batch_shape else ...
            compressed = archive.read(key, on_error="skip" if skip_damaged else "raise")
            if embedded is not None:
                compressed = embedded.standalone(compressed)
            if skip_damaged:
                restored, mask = model.decompress(compressed, on_error="skip")
                first_unit = selection.start * prod(archive.batch_shape[1:])
                damaged += (first_unit + np.flatnonzero(mask)).tolist()
            else:
                restored = model.decompress(compressed)
            writer.append(restored if bound is None else bound.data(restored))
            advance(len(compressed.payload))
    return shape, dtype.name, damaged


def _selections(archive: Archive, items: slice | None, units: int) -> list[slice]:
    """Runs of items of about `units` coding units; at least one, so that the model is asked in any case."""
    start, stop, _ = (items or slice(None)).indices(len(archive) if archive.batch_shape else 1)
    stop = max(start, stop)
    step = max(1, units // (prod(archive.batch_shape[1:]) or 1))
    return [slice(first, min(first + step, stop)) for first in range(start, max(stop, start + 1), step)]


def _compress_piece(
    model: Model, piece: npt.NDArray[Any], bound: ErrorBound | None, *, cast: bool
) -> CompressedTensor:
    if bound is None:
        return model.compress(piece.astype(model.bottleneck_dtype) if cast else piece)
    compressed = model.compress(bound.bottleneck(piece, model.bottleneck_dtype))
    bound.check(piece, bound.data(model.decompress(compressed)))
    return compressed


def _model_of(client: Client, archive: Archive) -> tuple[Model, EmbeddedModel | None]:
    """The model that decodes an archive, and the embedded one where the server had to be given that."""
    try:
        model = client.model(archive.model_id)
        if model.tables_digest == archive.tables_digest:
            return model, None
    except ModelNotFoundError:
        if archive.model is None:
            raise
    embedded = archive.model
    if embedded is None:
        return model, None  # the server says TABLES_MISMATCH, and of what
    return client.create_model(embedded.standalone_config), embedded


def _as_the_model_names_it(array: npt.NDArray[Any], model: Model) -> npt.NDArray[Any]:
    # .npy files have no name for bfloat16 and keep it as two bytes of anything.
    if model.config.bottleneck_dtype == "bfloat16" and array.dtype == np.dtype("V2"):
        return array.view(model.bottleneck_dtype)
    return array


def _pieces(array: npt.NDArray[Any], batch_axes: int, piece_bytes: int) -> Iterator[npt.NDArray[Any]]:
    """Runs of items of the first batch axis; one piece for an array without batch axes."""
    if batch_axes < 1 or not array.size:
        yield array
        return
    step = max(1, piece_bytes // (array.nbytes // len(array)))
    for first in range(0, len(array), step):
        yield array[first : first + step]


def _piece_bytes(client: Client) -> int:
    """Small enough for one message, with room for bit strings that are longer than the numbers."""
    return min(_PIECE_BYTES, client.server_info().max_message_bytes // 2)


def _added(spent: Spent, compressed: CompressedTensor, piece: npt.NDArray[Any]) -> Spent:
    rate = compressed.rate
    if rate is None:
        raise AssertionError("a Compress reply carries its rate")
    return Spent(
        spent.coding_units + len(compressed.lengths),
        spent.symbols + rate.symbols,
        spent.escaped_symbols + rate.escaped_symbols,
        spent.uncompressed_bytes + piece.nbytes,
        spent.compressed_bytes + rate.compressed_bytes,
    )
