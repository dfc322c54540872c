"""The elements of coding units, as callers send and receive them, and the integers that are coded.

An element is a symbol itself, an int8, int16 or int32; or a float32 or float64 of which a symbol is
rint(element - offset), in that dtype, ties to even. Kernels take elements as bytes, with a number that says
what they are, and read or write some hundred at a time: so none is compiled for each dtype, and no array of
integers is made.
"""

# ruff: noqa: PLR0917 -- a kernel's state is its arguments and locals; Numba keeps no objects.
from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from entropyd_server.kernels.intrinsics import CACHE_LINE_BYTES, load, prefetch, viewed
from entropyd_server.kernels.jit import at, called, inlined, int64
from entropyd_server.kernels.range_coder import Status

if TYPE_CHECKING:
    from entropyd_server.kernels.arrays import Int32s, Integers, Uint8s


class Element(IntEnum):
    """What elements are."""

    INT8 = 0
    INT16 = 1
    INT32 = 2
    FLOAT32 = 3
    FLOAT64 = 4


ELEMENT_OF_DTYPE = {np.dtype(element.name.lower()): int(element) for element in Element}

# What is read or written at once. A power of two.
BLOCK_SYMBOLS = 256

_LIMIT = 2.0**31


@inlined
def _round_all(values, first, offsets, first_offset, integers) -> bool:  # type: ignore[no-untyped-def]
    """Rounds floats less offsets, if there are any; returns whether int32 holds them all."""
    wrong = False
    if len(offsets):
        for index in range(len(integers)):
            rounded = np.rint(load(values, at(first + index)) - offsets[at(first_offset + index)])
            holds = abs(rounded) < _LIMIT  # False for NaN as well; conversion is defined only inside
            wrong |= not holds
            integers[at(index)] = np.int32(rounded if holds else values.dtype.type(0))
    else:
        for index in range(len(integers)):
            rounded = np.rint(load(values, at(first + index)))
            holds = abs(rounded) < _LIMIT
            wrong |= not holds
            integers[at(index)] = np.int32(rounded if holds else values.dtype.type(0))
    return not wrong


@inlined
def _widen_all(values: Integers, first: int, integers: Int32s) -> None:
    for index in range(len(integers)):
        integers[at(index)] = np.int32(load(values, at(first + index)))


@called
def fetch_elements(elements: Uint8s, element: int, first: int, count: int) -> None:
    """Prefetches elements that are soon read or written; any are safe."""
    size = 1 << (element if element < Element.FLOAT32 else element - 1)
    for byte in range(first * size, (first + count) * size, CACHE_LINE_BYTES):
        prefetch(elements, byte, 0)


@called
def read_integers(
    elements: Uint8s, element: int, first: int, offsets: Uint8s, first_offset: int, integers: Int32s
) -> bool:
    """Reads the integers of elements from `first` on; returns whether int32 holds them all.

    Args:
      elements: uint8, the bytes of all elements, at any address.
      element: An Element.
      first: Number of the first one.
      offsets: uint8, the bytes of offsets, floats like the elements; empty without any.
      first_offset: Number of the offset of the first element.
      integers: int32 [count], written; 0 for what int32 does not hold.
    """
    holds = True
    if element == Element.FLOAT32:
        holds = _round_all(
            viewed(elements, np.float32), first, viewed(offsets, np.float32), first_offset, integers
        )
    elif element == Element.FLOAT64:
        holds = _round_all(
            viewed(elements, np.float64), first, viewed(offsets, np.float64), first_offset, integers
        )
    elif element == Element.INT8:
        _widen_all(viewed(elements, np.int8), first, integers)
    elif element == Element.INT16:
        _widen_all(viewed(elements, np.int16), first, integers)
    else:
        _widen_all(viewed(elements, np.int32), first, integers)
    return holds


@called
def is_finite(elements: Uint8s, element: int, index: int) -> bool:
    """Whether a float element is neither NaN nor infinite."""
    if element == Element.FLOAT32:
        return bool(np.isfinite(load(viewed(elements, np.float32), index)))
    return bool(np.isfinite(load(viewed(elements, np.float64), index)))


@inlined
def _restore_all(integers, values, first, offsets, first_offset) -> None:  # type: ignore[no-untyped-def]
    if len(offsets):
        for index in range(len(integers)):
            values[at(first + index)] = (
                values.dtype.type(integers[at(index)]) + offsets[at(first_offset + index)]
            )
    else:
        for index in range(len(integers)):
            values[at(first + index)] = values.dtype.type(integers[at(index)])


@inlined
def _narrow_all(integers, values, first) -> bool:  # type: ignore[no-untyped-def]
    """Returns whether the dtype of `values` holds all integers."""
    lost = False
    for index in range(len(integers)):
        narrow = values.dtype.type(integers[at(index)])
        lost |= int64(narrow) != int64(integers[at(index)])
        values[at(first + index)] = narrow
    return not lost


@called
def write_elements(
    integers: Int32s, elements: Uint8s, element: int, first: int, offsets: Uint8s, first_offset: int
) -> int:
    """Writes the elements of integers, symbol + offset; one rounding each for the conversion and the sum.

    Arguments are as in `read_integers`; `elements` are aligned.

    Returns:
      OK, or TOO_WIDE if some integer does not fit.
    """
    fits = True
    if element == Element.FLOAT32:
        _restore_all(integers, viewed(elements, np.float32), first, viewed(offsets, np.float32), first_offset)
    elif element == Element.FLOAT64:
        _restore_all(integers, viewed(elements, np.float64), first, viewed(offsets, np.float64), first_offset)
    elif element == Element.INT8:
        fits = _narrow_all(integers, viewed(elements, np.int8), first)
    elif element == Element.INT16:
        fits = _narrow_all(integers, viewed(elements, np.int16), first)
    else:
        fits = _narrow_all(integers, viewed(elements, np.int32), first)
    return int64(Status.OK if fits else Status.TOO_WIDE)


@inlined
def _fill(values, first, count, value) -> None:  # type: ignore[no-untyped-def]
    for index in range(first, first + count):
        values[at(index)] = value


@called
def blank(elements: Uint8s, element: int, first: int, count: int) -> None:
    """Writes NaN, or 0 for symbols, over elements from `first` on."""
    if element == Element.FLOAT32:
        _fill(viewed(elements, np.float32), first, count, np.nan)
    elif element == Element.FLOAT64:
        _fill(viewed(elements, np.float64), first, count, np.nan)
    else:
        _fill(elements, first << element, count << element, 0)
