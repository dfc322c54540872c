"""Elements of an array that are restored exactly, in place of what the bit strings decode to.

Missing values (NaN, fill values) and the few elements that rounding would carry beyond an error bound are
stored beside the bit strings. docs/archive.md describes the bytes.

Invariant: memory grows with the number of runs of equal neighbours, not with their length, and
`unpack(pack())` gives the same elements, bit for bit.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from entropyd.archive.layout import LayoutError
from entropyd.archive.varints import MAX_GROUPS, packed_varints, unpacked_varints
from entropyd.contract.arrays import read_array
from entropyd.contract.errors import InvalidTensorError

# Name of a dtype -> dtype of the stored bit patterns.
BIT_PATTERNS: dict[str, np.dtype[Any]] = {
    "float16": np.dtype("<u2"),
    "bfloat16": np.dtype("<u2"),
    "float32": np.dtype("<u4"),
    "float64": np.dtype("<u8"),
}
# Before deflating: a few bytes of a hostile file must not take all memory.
MAX_PACKED_BYTES = 1 << 26


def exact_dtype_name(dtype: npt.DTypeLike) -> str:
    """Name of a dtype; InvalidTensorError if exact elements cannot have it."""
    name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
    if name not in BIT_PATTERNS:
        found = f"has dtype {name}; expected one of {', '.join(BIT_PATTERNS)}"
        raise InvalidTensorError.at("the array", found)
    return name


@dataclass(frozen=True, eq=False)
class ExactElements:
    """Some elements of an array, as runs of neighbours with equal bit patterns.

    Attributes:
      dtype: Name of the array's dtype: float16, bfloat16, float32 or float64.
      elements: Size of the array; may be 0 where there are no exact elements.
      starts: int64 [runs], position of each run's first element in row-major order, ascending.
      counts: int64 [runs], elements of each run, at least 1.
      bits: uint16, uint32 or uint64 [runs], the bit pattern of each run's elements.
    """

    dtype: str
    elements: int
    starts: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    bits: npt.NDArray[Any]

    @classmethod
    def none(cls, dtype: npt.DTypeLike, elements: int = 0) -> ExactElements:
        """No elements of an array of that dtype and size."""
        name = exact_dtype_name(dtype)
        nothing = np.empty(0, np.int64)
        return cls(name, elements, nothing, nothing, np.empty(0, BIT_PATTERNS[name]))

    @classmethod
    def of(cls, array: npt.NDArray[Any], mask: npt.NDArray[np.bool_]) -> ExactElements:
        """The elements of an array that a mask selects.

        Args:
          array: Any shape; float16, bfloat16 (of ml_dtypes), float32 or float64.
          mask: Boolean, of the same shape.

        Raises:
          InvalidTensorError: If the array has another dtype or is a masked array, or the mask has another
            dtype or shape.
        """
        array, _ = read_array("the array", array)
        name, chosen = exact_dtype_name(array.dtype), read_array("the mask", mask)[0]
        if chosen.dtype != np.bool_ or chosen.shape != array.shape:
            found = f"has dtype {chosen.dtype} and shape {chosen.shape}; expected bool and {array.shape}"
            raise InvalidTensorError.at("the mask", found)
        positions = np.flatnonzero(chosen)
        if not len(positions):
            return cls.none(name, array.size)
        bits = _bits(array)[positions].astype(BIT_PATTERNS[name], copy=False)
        return cls._of_runs(name, array.size, positions, np.ones_like(positions), bits)

    @classmethod
    def joined(
        cls, parts: Sequence[tuple[int, ExactElements]], dtype: npt.DTypeLike, elements: int
    ) -> ExactElements:
        """The elements of several arrays, one after the other, as those of one array.

        Args:
          parts: Position where each array begins, ascending, and its exact elements.
          dtype: The dtype of all.
          elements: Size of the whole array.
        """
        parts = [(begin, part) for begin, part in parts if len(part.starts)]
        if not parts:
            return cls.none(dtype, elements)
        return cls._of_runs(
            exact_dtype_name(dtype),
            elements,
            np.concatenate([begin + part.starts for begin, part in parts]),
            np.concatenate([part.counts for _, part in parts]),
            np.concatenate([part.bits for _, part in parts]),
        )

    @classmethod
    def _of_runs(
        cls,
        dtype: str,
        elements: int,
        starts: npt.NDArray[np.int64],
        counts: npt.NDArray[np.int64],
        bits: npt.NDArray[Any],
    ) -> ExactElements:
        """Joins adjacent runs of equal bits, so that equal elements have equal runs."""
        apart = (starts[1:] != starts[:-1] + counts[:-1]) | (bits[1:] != bits[:-1])
        first = np.concatenate(([0], np.flatnonzero(apart) + 1))
        return cls(dtype, elements, starts[first], np.add.reduceat(counts, first), bits[first])

    def __len__(self) -> int:
        return int(self.counts.sum())

    @property
    def positions(self) -> npt.NDArray[np.int64]:
        """int64 [n], positions of the elements in the array's row-major order, ascending."""
        ends = np.cumsum(self.counts)
        positions: npt.NDArray[np.int64] = np.repeat(self.starts - (ends - self.counts), self.counts)
        positions += np.arange(len(positions))
        return positions

    @property
    def values(self) -> npt.NDArray[Any]:
        """[n], the elements in the array's dtype; uint16 bit patterns for bfloat16."""
        bits = np.repeat(self.bits, self.counts)
        return bits if self.dtype == "bfloat16" else bits.view(np.dtype(self.dtype).newbyteorder("<"))

    def part(self, first: int, last: int) -> ExactElements:
        """The elements of the part of the array from position `first` to `last`, not included."""
        if first >= last:
            return self.none(self.dtype)
        a = int(np.searchsorted(self.starts + self.counts, first, "right"))
        b = int(np.searchsorted(self.starts, last, "left"))
        starts = np.maximum(self.starts[a:b], first)
        counts = np.minimum(self.starts[a:b] + self.counts[a:b], last) - starts
        return type(self)(self.dtype, last - first, starts - first, counts, self.bits[a:b])

    def applied(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A copy of the array with these elements in their places; the array itself where there are none.

        Args:
          array: Any shape of that size, in the same dtype; uint16 bit patterns will do for bfloat16.

        Raises:
          ValueError: If it has another dtype or size.
        """
        if not len(self.starts):
            return array
        if array.dtype.itemsize != self.bits.itemsize or array.size != self.elements:
            found = f"{array.size} elements of {array.dtype.name}"
            raise ValueError(f"{found} cannot take exact ones of {self.elements} of {self.dtype}")
        whole = np.array(array, order="C")
        _bits(whole)[self.positions] = np.repeat(self.bits, self.counts)
        return whole

    def pack(self) -> bytes:
        """Renders a raw deflate stream of the distinct values and of the runs; nothing where there are none.

        Raises:
          InvalidTensorError: If there are too many runs: about 10 million.
        """
        if not len(self.starts):
            return b""
        table, number = np.unique(self.bits, return_inverse=True)
        ends = np.concatenate(([0], self.starts[:-1] + self.counts[:-1]))
        runs = np.stack([self.starts - ends, self.counts, number.reshape(-1)], axis=1).astype(np.uint64)
        raw = packed_varints(np.array([len(table)], np.uint64)) + table.tobytes()
        raw += packed_varints(runs.reshape(-1))
        if len(raw) > MAX_PACKED_BYTES:
            found = f"has exact elements in {len(self.starts)} runs, which take {len(raw)} bytes"
            what = f"{found}; expected at most {MAX_PACKED_BYTES}"
            raise InvalidTensorError.at("the array", what)
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return deflate.compress(raw) + deflate.flush()

    @classmethod
    def unpack(cls, content: bytes, dtype: npt.DTypeLike, elements: int) -> ExactElements:
        """Reads packed elements, in bounded memory whatever the content.

        Args:
          content: What `pack` returned.
          dtype: dtype of the array.
          elements: Size of the array.

        Raises:
          LayoutError: If it is anything else, or an element lies beyond the array.
        """
        name = exact_dtype_name(dtype)
        if not content:
            return cls.none(name, elements)
        raw = _inflated(content)
        table, rest = _table(raw, BIT_PATTERNS[name])
        numbers = unpacked_varints(rest)
        if len(numbers) % 3 or not len(numbers):
            raise LayoutError("has exact elements that do not end where they should")
        gaps, counts, number = numbers.reshape(-1, 3).T
        # Each step is below 2^63: a sum that overflows is less than the one before.
        ends = np.cumsum(np.stack([gaps, counts], axis=1).reshape(-1))
        beyond = int(ends[-1]) > elements or bool((ends[1:] < ends[:-1]).any())
        if beyond or not counts.all() or int(number.max()) >= len(table):
            raise LayoutError("has exact elements where none can be")
        starts = ends[::2].astype(np.int64)
        return cls._of_runs(name, elements, starts, counts.astype(np.int64), table[number.astype(np.int64)])


def _bits(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Bit patterns of an array in row-major order: a view where it is contiguous."""
    bits = np.ascontiguousarray(array).reshape(-1)
    swapped = bits.dtype.byteorder == ">"
    return bits.view(np.dtype(f"{'>' if swapped else '<'}u{bits.dtype.itemsize}"))


def _inflated(content: bytes) -> bytes:
    try:
        inflate = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
        raw = inflate.decompress(content, MAX_PACKED_BYTES + 1)
    except zlib.error as error:
        raise LayoutError(f"has exact elements that cannot be unpacked: {error}") from error
    if not inflate.eof or inflate.unused_data or len(raw) > MAX_PACKED_BYTES:
        raise LayoutError("has exact elements that do not end where they should")
    return raw


def _table(raw: bytes, pattern: np.dtype[Any]) -> tuple[npt.NDArray[Any], bytes]:
    """The distinct values, and the bytes after them."""
    start = next((place + 1 for place, byte in enumerate(raw[:MAX_GROUPS]) if byte < 0x80), 0)
    count = int(unpacked_varints(raw[:start])[0]) if start else 0
    end = start + count * pattern.itemsize
    if not count or end > len(raw):
        raise LayoutError("has exact elements without their values")
    table = np.frombuffer(raw, pattern, count, start)
    if not (table[1:] > table[:-1]).all():
        raise LayoutError("has exact elements whose values are not ascending")
    return table, raw[end:]
