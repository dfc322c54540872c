"""Compressed tensors of made-up strings, and what an archive of them is compared with."""

from __future__ import annotations

from io import BytesIO
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from entropyd import UniversalBatchedConfig, pack, priors
from entropyd.archive import ArchiveWriter, CompressedTensor, EmbeddedModel, ExactElements
from entropyd.archive.source import BytesSource
from entropyd.contract.integrity import make_blocks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
STRINGS = st.binary(max_size=6) | st.binary(max_size=3).map(lambda string: string + b"\0\0")

EMBEDDED = EmbeddedModel(
    UniversalBatchedConfig(prior=priors.NoisyNormal(loc=0.0, scale=1.0), coding_rank=1, num_noise_levels=1),
    np.array([-4, 0, 3, 12, 15, 16], np.int32),
    np.array([-1], np.int32),
)


def tensor_of(
    strings: Sequence[bytes],
    batch_shape: tuple[int, ...],
    model: EmbeddedModel | None = None,
    *,
    indexes_crc32c: Sequence[int] | None = None,
    unit_numbers: Sequence[int] | None = None,
) -> CompressedTensor:
    """A tensor of these bit strings."""
    payload, lengths = b"".join(strings), np.array([len(string) for string in strings], np.uint32)
    return CompressedTensor(
        "ab" * 32 if model is None else model.model_id,
        b"\x07" * 32 if model is None else model.tables_digest,
        "float32",
        batch_shape,
        (4, 1),
        payload,
        lengths,
        make_blocks(payload, lengths),
        indexes_crc32c=None if indexes_crc32c is None else np.array(indexes_crc32c, np.uint32),
        unit_numbers=None if unit_numbers is None else np.array(unit_numbers, np.int64),
    )


@st.composite
def tensors(draw: st.DrawFn) -> CompressedTensor:
    """Tensors of a few short strings, some with checksums of indexes and numbers of units."""
    shape = draw(SHAPES)
    units = int(np.prod(shape))

    def of_units(values: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(values, min_size=units, max_size=units))

    numbers = st.integers(0, 5) | st.integers(0, 2**63 - 70000)
    return tensor_of(
        of_units(STRINGS),
        shape,
        indexes_crc32c=of_units(st.integers(0, 2**32 - 1)) if draw(st.booleans()) else None,
        unit_numbers=of_units(numbers) if draw(st.booleans()) else None,
    )


class CountingSource(BytesSource):
    """Remembers which bytes were read."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content, "x")
        self.reads: list[range] = []

    def read_at(self, offset: int, count: int) -> bytes:
        self.reads.append(range(offset, min(offset + count, self.size)))
        return super().read_at(offset, count)


SMALL = tensor_of([b"\x01\x02", b"", b"\x03\0"], (3,))
INDEXED = tensor_of(
    SMALL.strings.tolist(), (3,), indexes_crc32c=[0x01234567, 0, 0x89ABCDEF], unit_numbers=[5, 6, 300]
)


def same(one: CompressedTensor, other: CompressedTensor) -> bool:
    """Whether two tensors are one, checksums included."""
    return one.to_message() == other.to_message()


def archive_bytes(
    *parts: CompressedTensor, exact: Sequence[ExactElements | None] = (), **options: Any
) -> bytes:
    """The file that holds the parts, one after the other, each with its exact elements."""
    stream = BytesIO()
    with ArchiveWriter(stream, **options) as writer:
        for part, elements in zip_longest(parts, exact):
            writer.append(part, elements)
    return stream.getvalue()


def bundle_bytes(
    parts: Mapping[str, CompressedTensor],
    metadata: Mapping[str, Any] | None = None,
    models: Sequence[EmbeddedModel] = (),
) -> bytes:
    """The file that bundles the parts."""
    stream = BytesIO()
    pack(parts, metadata=metadata).save(stream, models=models)
    return stream.getvalue()


def random_strings(units: int, mean_bytes: float, deviation_bytes: float, seed: int = 0) -> list[bytes]:
    """Bit strings of about one length, as units of one model have."""
    rng = np.random.default_rng(seed)
    lengths = rng.normal(mean_bytes, deviation_bytes, units).round().clip(0).astype(int)
    content = rng.bytes(int(lengths.sum()))
    ends = np.cumsum(lengths)
    return [content[end - length : end] for length, end in zip(lengths, ends, strict=True)]


def with_flipped_bits(content: bytes, *, step: int = 1, between: range = range(0)) -> Iterator[bytes]:
    """The file with each `step`th bit flipped, one at a time, but for those of the bytes `between`."""
    damaged = bytearray(content)
    for bit in range(0, 8 * len(content), step):
        if bit // 8 not in between:
            damaged[bit // 8] ^= 1 << bit % 8
            yield bytes(damaged)
            damaged[bit // 8] ^= 1 << bit % 8
