"""Compressing one array into one archive, and back, in pieces.

Invariant: memory is that of a piece, however large the array, unless one item of its first batch axis is
larger.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from entropyd import (
    Archive,
    ArchiveWriter,
    EmbeddedModel,
    InvalidRequestError,
    InvalidTensorError,
    ModelNotFoundError,
)
from entropyd.bounded import ErrorBound, compress_elements
from entropyd.cli.npy import write_header
from entropyd.cli.sources import missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    from entropyd import Client, CompressedTensor, Model
    from entropyd._target import Target
    from entropyd.archive import ExactElements
    from entropyd.cli.npy import NpyFile

    Array = npt.NDArray[Any] | NpyFile
    Advance = Callable[[int], None]

_PIECE_BYTES = 8 * 2**20


@dataclass(frozen=True)
class CompressOptions:
    """How an array is compressed.

    Attributes:
      max_error: Bound on the error of each element that is not missing; None compresses the array as it is.
      missing: With max_error, the values that come back exactly, beside NaN.
      cast: Whether an array of another dtype is converted to the model's.
      embed_model: Whether the archive carries the model.
      metadata: JSON values by name, to be kept with the data.
    """

    max_error: float | None = None
    missing: Sequence[float] = ()
    cast: bool = False
    embed_model: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Spent:
    """What compressing an array came to.

    Attributes:
      coding_units, symbols, escaped_symbols: How many there are of each.
      uncompressed_bytes: Bytes of the array.
      compressed_bytes: Bytes of all bit strings and exact elements.
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
        """Bits of bit strings and exact elements per symbol; 0 without symbols."""
        return 8 * self.compressed_bytes / self.symbols if self.symbols else 0.0

    @property
    def figures(self) -> dict[str, Any]:
        """All of it, for a program."""
        return {**asdict(self), "bits_per_symbol": self.bits_per_symbol}

    def __str__(self) -> str:
        sizes = f"{self.uncompressed_bytes:,} -> {self.file_bytes:,} bytes"
        return f"{sizes}, {self.bits_per_symbol:.3f} bits per symbol"


@dataclass(frozen=True)
class Restored:
    """What came of an archive.

    Attributes:
      shape: Of the array.
      dtype: Of the array.
      damaged_units: Numbers of the coding units that are damaged, and NaN in the array.
      missing_units: Coding units that are known to be missing behind the last one.
      complete: Whether the archive says that it had no more coding units.
      problems: What the array lacks of that which was asked for, one sentence each.
    """

    shape: tuple[int, ...]
    dtype: str
    damaged_units: list[int]
    missing_units: int
    complete: bool
    problems: list[str]

    @property
    def figures(self) -> dict[str, Any]:
        """All of it that a program needs; the problems are errors of the command."""
        return {name: value for name, value in asdict(self).items() if name != "problems"}

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"


def compress_array(
    client: Client,
    model: Model,
    array: Array,
    target: Target,
    options: CompressOptions,
    *,
    advance: Advance,
) -> Spent:
    """Compresses an array into an archive; errors as `Model.compress` and `ArchiveWriter`."""
    bound, metadata = None, dict(options.metadata)
    array = _as_the_model_names_it(array, model)
    batch_axes = array.ndim - model.coding_rank
    elements = _piece_elements(client, array.dtype, bounded=options.max_error is not None)
    if options.max_error is None and not options.cast and array.dtype.name != model.config.bottleneck_dtype:
        found = f"has dtype {array.dtype.name}; the model's is {model.config.bottleneck_dtype}"
        raise InvalidTensorError.at("the array", f"{found}: --cast converts it")
    if options.max_error is not None:
        dtype = model.config.bottleneck_dtype
        for piece in _chunks(array, batch_axes, elements):  # the same for each of them, if all can be held
            bound = ErrorBound.holding(options.max_error, piece, dtype, options.missing)
            metadata |= bound.metadata
    embedded = EmbeddedModel.of(model) if options.embed_model else None
    spent = Spent()
    exact_dtype = None if bound is None else bound.dtype
    with ArchiveWriter(target, metadata=metadata, model=embedded, exact_dtype=exact_dtype) as writer:
        for piece in _chunks(array, batch_axes, elements):
            compressed, exact = _compress_piece(model, piece, bound, options)
            writer.append(compressed, exact)
            spent = _added(spent, compressed, exact, piece)
            advance(piece.nbytes)
    return replace(spent, file_bytes=writer.file_bytes)


def decompress_archive(
    client: Client,
    archive: Archive,
    target: Target,
    items: slice | None,
    *,
    skip_damaged: bool,
    advance: Advance,
) -> Restored:
    """Restores an archive, or some items of its first batch axis, into a `.npy` file.

    Raises:
      CorruptStringError: If units are damaged and not to be skipped.
      InvalidRequestError: If the archive does not have all of the items.
      ModelNotFoundError, TablesMismatchError: If the server cannot decode it and it embeds no model.
    """
    model, embedded = _model_of(client, archive)
    bound = ErrorBound.of(archive.metadata)
    dtype = np.dtype(bound.dtype) if bound is not None else model.bottleneck_dtype
    unit_shape = archive.broadcast_shape + model.prior_shape
    selections = _selections(
        archive, items, _piece_elements(client, dtype, bounded=bound is not None) // (prod(unit_shape) or 1)
    )
    chosen = (selections[-1].stop - selections[0].start,) if archive.batch_shape else ()
    shape = chosen + archive.batch_shape[1:] + unit_shape
    damaged: list[int] = []
    write_header(target, shape, dtype)
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
        exact = archive.exact(key, on_error="skip" if skip_damaged else "raise")
        target.write(exact.applied(restored if bound is None else bound.data(restored)).tobytes())
        advance(len(compressed.payload))
    problems = []
    if damaged:
        problems.append(f"{len(damaged)} damaged coding units are NaN: {_some(damaged)}")
    if not archive.complete and _asks_for_the_end(items):
        found = f"{archive.units:,} coding units were found, and {missing(archive)}"
        problems.append(f"{archive.name} is not complete: {found}")
    return Restored(shape, dtype.name, damaged, archive.missing_units, archive.complete, problems)


def _asks_for_the_end(items: slice | None) -> bool:
    """Whether items are counted from the end, or reach to it, wherever that is."""
    return items is None or items.stop is None or min(items.start or 0, items.stop) < 0


def _some(units: list[int]) -> str:
    return ", ".join(map(str, units[:10])) + (", ..." if len(units) > 10 else "")


def _selections(archive: Archive, items: slice | None, units: int) -> list[slice]:
    """Runs of items of about `units` coding units; at least one, so that the model is asked in any case."""
    count = len(archive) if archive.batch_shape else 1
    start, stop = (0, count) if items is None else _within(items, count, archive)
    step = max(1, units // (prod(archive.batch_shape[1:]) or 1))
    return [slice(first, min(first + step, stop)) for first in range(start, max(stop, start + 1), step)]


def _within(items: slice, count: int, archive: Archive) -> tuple[int, int]:
    """First of some items and the one after their last; negative numbers count from the end."""
    ends = [0 if items.start is None else items.start, count if items.stop is None else items.stop]
    start, stop = (end + count if end < 0 else end for end in ends)
    if not 0 <= start < stop <= count:
        units = "coding units" if len(archive.batch_shape) < 2 else "items of the first batch axis"
        found = f"are {ends[0]}:{ends[1]}; {archive.name} holds {count:,} {units}, 0:{count}"
        raise InvalidRequestError.at("units", found)
    return start, stop


def _compress_piece(
    model: Model, piece: npt.NDArray[Any], bound: ErrorBound | None, options: CompressOptions
) -> tuple[CompressedTensor, ExactElements | None]:
    if bound is None:
        return model.compress(piece.astype(model.bottleneck_dtype) if options.cast else piece), None
    return compress_elements(model, piece, bound, options.missing)


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


def _as_the_model_names_it(array: Array, model: Model) -> Array:
    # .npy files have no name for bfloat16 and keep it as two bytes of anything.
    if model.config.bottleneck_dtype == "bfloat16" and array.dtype == np.dtype("V2"):
        return array.view(model.bottleneck_dtype)
    return array


def _chunks(array: Array, batch_axes: int, elements: int) -> Iterator[npt.NDArray[Any]]:
    """Runs of items of the first batch axis; one piece for an array without batch axes."""
    if batch_axes < 1 or not array.size:
        yield array[...]
        return
    step = max(1, elements // (array.size // len(array)))
    for first in range(0, len(array), step):
        yield array[first : first + step]


def _piece_elements(client: Client, dtype: np.dtype[Any], *, bounded: bool) -> int:
    """Few enough for one message, with room for bit strings that are longer than the numbers."""
    # What a bound takes is computed in float64, whatever the dtype.
    itemsize = 8 if bounded else dtype.itemsize
    return min(_PIECE_BYTES, client.server_info().max_message_bytes // 2) // itemsize


def _added(
    spent: Spent, compressed: CompressedTensor, exact: ExactElements | None, piece: npt.NDArray[Any]
) -> Spent:
    rate = compressed.rate
    if rate is None:
        raise AssertionError("a Compress reply carries its rate")
    return Spent(
        spent.coding_units + len(compressed.lengths),
        spent.symbols + rate.symbols,
        spent.escaped_symbols + rate.escaped_symbols,
        spent.uncompressed_bytes + piece.nbytes,
        spent.compressed_bytes + rate.compressed_bytes + (0 if exact is None else len(exact.pack())),
    )
