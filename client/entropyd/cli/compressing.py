"""Compresses an array into an archive, in parts.

Invariant: memory is that of a part, unless one item of the first batch axis is larger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import EllipsisType
from typing import Any

import numpy as np
import numpy.typing as npt

from entropyd import ArchiveWriter, Client, EmbeddedModel, InvalidTensorError, MeasuredTensor, Model
from entropyd._arrays import broadcast_bottleneck
from entropyd._target import Target
from entropyd.archive import ExactElements
from entropyd.bounded import ErrorBound, compress_elements
from entropyd.cli.inputs import NO_INPUTS, Array, CodingInputs

Advance = Callable[[int], None]

_PART_BYTES = 8 * 2**20
# Kinds of NumPy's dtypes: booleans, integers and floats. A cast of others loses what they mean.
_CAST_KINDS = "biuf"


@dataclass(frozen=True)
class CompressOptions:
    """How an array is compressed.

    Attributes:
      max_error: Bound on the error of each element that is not missing; None compresses the array as it is.
      missing: With max_error, the values that are restored exactly, besides NaN.
      cast: Whether an array of another dtype is converted to the model's; not with max_error.
      embed_model: Whether the archive embeds the model.
      metadata: JSON values by name, to store with the data.
    """

    max_error: float | None = None
    missing: Sequence[float] = ()
    cast: bool = False
    embed_model: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Spent:
    """Sizes of a compressed array.

    Attributes:
      coding_units, symbols, escaped_symbols: Number of each.
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
        return {**asdict(self), "bits_per_symbol": self.bits_per_symbol}

    def __str__(self) -> str:
        sizes = f"{self.uncompressed_bytes:,} -> {self.file_bytes:,} bytes"
        return f"{sizes}, {self.bits_per_symbol:.3f} bits per symbol"


def compress_array(
    client: Client,
    model: Model,
    array: Array,
    target: Target,
    options: CompressOptions,
    *,
    advance: Advance,
    inputs: CodingInputs = NO_INPUTS,
) -> Spent:
    """Compresses an array into an archive; errors as `Model.compress` and `ArchiveWriter`."""
    bound, metadata = None, dict(options.metadata)
    if model.config.bottleneck_dtype == "bfloat16" and array.dtype == np.dtype("V2"):
        # .npy files have no name for bfloat16: its elements are two bytes of any kind.
        array = array.view(model.bottleneck_dtype)
    shape = inputs.shape(model.config)
    if shape is not None and array.shape != shape:
        array = broadcast_bottleneck(array[...], shape)
    batch_axes = array.ndim - model.coding_rank
    elements = part_elements(client, array.dtype, bounded=options.max_error is not None)
    if options.max_error is None and array.dtype.name != model.config.bottleneck_dtype:
        found = f"has dtype {array.dtype.name}; the model's is {model.config.bottleneck_dtype}"
        if array.dtype.kind not in _CAST_KINDS:
            raise InvalidTensorError.at("the array", f"{found}, and --cast converts real numbers alone")
        if not options.cast and inputs.loc is None:
            raise InvalidTensorError.at("the array", f"{found}: --cast converts it")
    if options.max_error is not None:
        dtype = model.config.bottleneck_dtype
        for items in _parts(array, batch_axes, elements):  # the bound is the same for all parts
            bound = ErrorBound.holding(options.max_error, array[items], dtype, options.missing)
            metadata |= bound.metadata
    embedded = EmbeddedModel.of(model) if options.embed_model else None
    spent = Spent()
    exact_dtype = None if bound is None else bound.dtype
    with ArchiveWriter(target, metadata=metadata, model=embedded, exact_dtype=exact_dtype) as writer:
        for items in _parts(array, batch_axes, elements):
            part = array[items]
            if bound is None:
                typed = part.astype(model.bottleneck_dtype) if options.cast else part
                indexes, loc = inputs.part(model.config, items)
                compressed = model.compress(typed, indexes, loc, first_unit=spent.coding_units)
                exact = None
            else:
                compressed, exact = compress_elements(model, part, bound, options.missing)
            writer.append(compressed, exact)
            spent = _added(spent, compressed, exact, part)
            advance(part.nbytes)
    return replace(spent, file_bytes=writer.file_bytes)


def part_elements(client: Client, dtype: np.dtype[Any], *, bounded: bool) -> int:
    """Elements of a part: few enough for one message, even if bit strings are longer than the numbers."""
    # With a bound, computation is in float64.
    itemsize = 8 if bounded else dtype.itemsize
    return min(_PART_BYTES, client.server_info().max_message_bytes // 2) // itemsize


def _parts(array: Array, batch_axes: int, elements: int) -> Iterator[slice | EllipsisType]:
    """Runs of items of the first batch axis; the whole array if it has no batch axes."""
    if batch_axes < 1 or not array.size:
        yield ...
        return
    step = max(1, elements // (array.size // len(array)))
    for first in range(0, len(array), step):
        yield slice(first, min(first + step, len(array)))


def _added(
    spent: Spent, compressed: MeasuredTensor, exact: ExactElements | None, part: npt.NDArray[Any]
) -> Spent:
    rate = compressed.rate
    return Spent(
        spent.coding_units + len(compressed.lengths),
        spent.symbols + rate.symbols,
        spent.escaped_symbols + rate.escaped_symbols,
        spent.uncompressed_bytes + part.nbytes,
        spent.compressed_bytes + rate.compressed_bytes + (0 if exact is None else len(exact.pack())),
    )
