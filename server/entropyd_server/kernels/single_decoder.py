"""Range decoding of a single coding unit: a guess finds each symbol without a division.

Invariant: a symbol is what `kernels.range_decoder` defines, however good the guess was.

The proof of a symbol. The parts [a, b) of a row's intervals lie side by side and fill [0, size), so the one
with a <= ahead < b is the symbol, wherever it was looked for first. Intervals of probability zero have a = b
and are passed over. From any interval that is not empty, going down while ahead < a, or up while ahead >= b,
ends at the symbol and so never leaves the row. After a few steps the exact quotient decides.

The guess. Let ratio = ahead / size, below 1, and let [lower, upper) be the symbol's interval, in units of
2^-16. But for a and b being rounded down, the next ratio is

    (ratio * 2^16 - lower) / (upper - lower),

a difference, and a product with a reciprocal from the interval's record. A row's hint for the ratio is the
interval that holds most of the ratios that begin with the same bits. Rounding adds at most 1 / size to the
ratio, by the size before a word is appended, and the word itself, which the guess leaves out, as much. These
errors would grow with every symbol. So each guess starts from the ratio that the state itself had, which is
known by then:

    ratio = ahead * inverse,  inverse = 2^64 / size.

The inverse of one size is that of the size before, times the same reciprocal. Its errors add up: some 2^-15
per symbol, and what a and b lose by rounding. As inverse * size should be 2^64, the low 64 bits of that
product are its error, by which every other symbol corrects it (a Newton step). Where errors were too large
for that, steps from a wrong hint tell, and the inverse is computed anew.

Scale. Ratios and guesses are uint64 fractions of 2^64. One below 0 or above 1 wraps: any guess is safe, since
the hint is looked up by its top bits. Whatever overflows is only another wrong guess. Bounds are scaled to
16 bits at any precision, which leaves a and b as they are:
floor(size * lower / 2^p) = floor(size * (lower * 2^(16-p)) / 2^16).

Speed. From one guess to the next: shift 1, hint 4 or 5, record 4 or 5, shift and difference 2, product 3; all
else runs beside that. Of the main prior's hints, 1 in 13 is wrong. Small tables have the record of each hint
beside it, so that it need not wait for the hint. docs/performance.md has what was measured.
"""

# ruff: noqa: PLR0917 -- a kernel's state is its arguments and locals; Numba keeps no objects.
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from entropyd_server.kernels.decoder_steps import (
    append_word,
    decode_escape,
    end_status,
    escaped_integer,
    fetch_ahead,
    load_word,
    quotient,
)
from entropyd_server.kernels.elements import BLOCK_SYMBOLS, fetch_elements, write_elements
from entropyd_server.kernels.intrinsics import indexed_from, low_product
from entropyd_server.kernels.jit import at, inlined, int64, kernel
from entropyd_server.kernels.range_coder import FULL_SIZE, ROW_FIELDS, Row, Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from entropyd_server.kernels.arrays import Hints, Int32s, Records, Uint8s

# An interval: its first and last cumulative probability, scaled to 16 bits, and floor((2^32 - 1) / width), or
# 0 for an escape. Intervals at the beginning of a row that are empty have the bounds [0, 0]: a row's lower
# bounds do not fall, and no search ends there.
INTERVAL = np.dtype([("lower", "<u2"), ("last", "<u2"), ("reciprocal", "<u4")])
# Precision of an INTERVAL.
_SCALE = 16
# The shift of rows of 2^7 hints. With more of them a guess is often too coarse, as a symbol of many bits
# leaves little of the ratio before the next word is appended; then the hint for the ratio itself is next.
_WIDE_SHIFT = 57
# After so many steps beside the hint the ratio is computed anew; after so many in all the row is searched.
_LOOK_AGAIN = 5
_SEARCH = 10


@inlined
def _inverse(size: int) -> int:
    """Computes 2^64 / size, to two bits less."""
    return ((1 << 62) // size) << 2


@inlined
def _corrected(inverse: int, size: int) -> int:
    """Takes a Newton step towards 2^64 / size; the error of the product is taken to 32 bits."""
    error = int64(low_product(inverse, size)) >> 32
    return inverse - (int64(low_product(inverse >> 16, error)) >> 16)


@kernel
def search(intervals: Records, start: int, escape: int, ahead: int, size: int) -> int:
    """Bisects a row for the interval that holds `ahead`: the last that does not begin after the quotient."""
    q = quotient(ahead, size, _SCALE)
    found = int64(0)
    while found < escape:
        middle = (found + escape + 1) >> 1
        if int64(intervals[at(start + middle)]["lower"]) <= q:
            found = middle
        else:
            escape = middle - 1
    return found


def _decoder(*, far: bool) -> Callable[..., tuple[int, int]]:  # noqa: PLR0915 -- the kernel is one function
    """Makes the kernel for large tables, which are prefetched, or for small ones.

    For those, `intervals` are followed by the interval of each hint.
    """

    @kernel
    def decode(  # noqa: PLR0912, PLR0915 -- the coder's state does not leave this function
        payload: Uint8s,
        begin: int,
        end: int,
        row_index: Int32s,
        rows: Int32s,
        hints: Hints,
        intervals: Records,
        sanity_check: bool,
        elements: Uint8s,
        element: int,
        first: int,
        offsets: Uint8s,
        first_offset: int,
    ) -> tuple[int, int]:
        """Decodes the unit [begin, end) of `payload`; see `decode_units`.

        Its elements are written from `first` on, their offsets begin at `first_offset`, and `row_index` is
        that of the unit, [symbols]. What a unit that fails leaves in `elements` has no meaning.

        Returns:
          status: A Status.
          position: First element that failed; -1 if none did or the end is wrong.
        """
        records = rows.reshape(-1)
        # Where the intervals of hints begin.
        hinted = len(intervals) - len(hints)
        ahead = (load_word(payload, begin, end) << 16) | load_word(payload, begin + 2, end)
        position = begin + 4
        size = int64(FULL_SIZE)
        inverse = int64(1 << 32)
        ratio = guess = at(ahead) << at(32)
        integers = np.empty(BLOCK_SYMBOLS, np.int32)
        symbols = len(row_index)
        written = int64(Status.OK)
        for block in range(0, symbols, BLOCK_SYMBOLS):
            block_end = min(block + BLOCK_SYMBOLS, symbols)
            fetch_elements(elements, element, first + block, block_end - block)
            for symbol in range(block, block_end):
                if far:
                    fetch_ahead(row_index, symbol, records, hints, intervals, 1)
                row = ROW_FIELDS * int64(row_index[at(symbol)])
                start, hint = int64(records[at(row + Row.START)]), int64(records[at(row + Row.HINT_START)])
                hint_shift = at(records[at(row + Row.HINT_SHIFT)])
                part = guess >> hint_shift
                integer = int64(indexed_from(hints, hint, part))
                interval = (
                    indexed_from(intervals, start, integer)
                    if far
                    else indexed_from(intervals, hinted + hint, part)
                )
                steps = 0
                while True:
                    lower = int64(interval["lower"])
                    a = (size * lower) >> _SCALE
                    width = ((size * int64(interval["last"]) + size) >> _SCALE) - a
                    rest = ahead - a
                    if at(rest) < at(width):
                        break
                    steps += 1
                    if steps == 1 and hint_shift < at(_WIDE_SHIFT):
                        part = ratio >> hint_shift
                        integer = int64(indexed_from(hints, hint, part))
                        if not far:
                            interval = indexed_from(intervals, hinted + hint, part)
                            continue
                    elif steps == _LOOK_AGAIN:
                        inverse = _inverse(size)
                        ratio = low_product(ahead, inverse)
                        integer = int64(indexed_from(hints, hint, ratio >> hint_shift))
                    elif steps == _SEARCH:
                        integer = search(intervals, start, int64(records[at(row + Row.ESCAPE)]), ahead, size)
                    else:
                        integer += 1 if rest >= 0 else -1
                    interval = indexed_from(intervals, start, integer)

                reciprocal = int64(interval["reciprocal"])
                guess = low_product(int64(ratio >> at(16)) - (lower << 32), reciprocal)
                position, ahead, size, shift = append_word(payload, position, end, rest, width)
                inverse = int64(low_product(inverse >> 16, reciprocal) >> at(shift))
                ratio = low_product(ahead, inverse)
                if reciprocal == 0:
                    position, ahead, size, magnitude = decode_escape(payload, position, end, ahead, size)
                    if magnitude == 0:
                        return int64(Status.ESCAPE_TOO_LONG), symbol
                    integer = escaped_integer(magnitude, integer)
                    inverse = _inverse(size)
                    ratio = guess = low_product(ahead, inverse)
                if symbol & 1:
                    inverse = _corrected(inverse, size)
                integers[at(symbol - block)] = integer + int64(records[at(row + Row.CDF_OFFSET)])
            written |= write_elements(
                integers[: block_end - block], elements, element, first + block, offsets, first_offset + block
            )
        status = end_status(payload, position, end, ahead, size, sanity_check)
        return status if status != Status.OK else written, int64(-1)

    return decode


decode_far = _decoder(far=True)
decode_near = _decoder(far=False)
