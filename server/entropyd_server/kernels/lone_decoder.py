"""Range decoding of one coding unit alone, as fast as its chain of symbols allows.

Owns the guess by which a symbol is found without a division. It must not know models, shapes or other units.
Invariant: a symbol is what `kernels.range_decoder` defines, however good the guess was; for every byte string
the kernel ends within the bound stated there and touches no memory but its arguments.

The proof of a symbol. The parts [a, b) of a row's intervals lie side by side and fill [0, size), so the one
with a <= ahead < b is the symbol, wherever it was looked for first. Intervals of probability zero have a = b
and are passed over. From any other interval, going down while ahead < a, or up while ahead >= b, ends at the
symbol and so never leaves the row; after _MAX_STEPS the exact quotient decides, for which the row is searched
from its first interval that is not empty.

The guess. Let ratio = ahead / size, below 1, and let [lower, upper) be the symbol's interval. But for a and b
being rounded down, the next symbol's ratio is

    (ratio * 2^p - lower) / (upper - lower),

one difference, and one product with a reciprocal from a table. A row's hint for the guessed ratio is the
interval that holds most of the ratios that begin with the same bits. What rounding adds to the ratio is at
most 1 / size before a word is appended, and the word itself is unknown as well: at most 2 / size in all, a
few in a thousand symbols at usual rates. That error would grow with every symbol. So the guess is compared
with the state once that is known,

    ahead - guess * size,

and this excess, divided by size to seven bits, corrects the ratio from which the next guess is made.

Scale. Guesses are uint64 fractions of 2^64. A guess below 0 or above 1 wraps: any guess is safe, because the
hint is looked up by its top bits. Where the excess of a guess that went wrong overflows, that too is only
another wrong guess. `scaled` is ratio * 2^(p + 32).

Speed. From one symbol to the next: shift 1, hint 4, addition 1, bounds 4, width 2, reciprocal 4, product 3,
some 19 cycles; a, b, size, ahead and the correction run beside that. With some 100 instructions per symbol, a
processor that finishes four per cycle has nothing left to gain from a shorter chain.
"""

# ruff: noqa: PLR0917 -- a kernel's state is its arguments and locals; Numba keeps no objects.
from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from entropyd_server.kernels.decoder_steps import (
    decode_escape,
    escaped_integer,
    fetch_ahead,
    is_at_end,
    load_word,
    quotient,
    search,
)
from entropyd_server.kernels.jit import at, inlined, int64, kernel, leading_zeros, low_product
from entropyd_server.kernels.range_coder import FULL_SIZE, ROW_FIELDS, WORD_SIZE, Row, Status

if TYPE_CHECKING:
    import numpy.typing as npt

    from entropyd_server.kernels.arrays import Floats, Int32s, Uint8s, Uint16s, Uint32s

# Intervals that are tried beside the first one before dividing.
_MAX_STEPS = 4
# Leading bits of size by which its reciprocal is looked up.
_SIZE_BITS = 8
# The reciprocal of those bits m is 2^32 / m; 2^11 more, and the product with the excess is scaled so that
# shifting it right by 67 - p less the zeros before size (at least 4 bits, at p = 16) gives `scaled`.
_EXCESS_BITS = 11
_SCALED_SHIFT = 67


@lru_cache(maxsize=16)  # all precisions
def reciprocals_of(precision: int) -> npt.NDArray[np.uint32]:
    """Gives uint32 [...], read-only, floor((2^32 - 1) / n) at n, for any width of an interval; 0 at 0."""
    numbers = np.arange(max(1 << precision, 1 << _SIZE_BITS) + 1)
    reciprocals = np.where(numbers, (2**32 - 1) // np.maximum(numbers, 1), 0).astype(np.uint32)
    reciprocals.flags.writeable = False
    return reciprocals


@inlined
def _bounds(bounds: Uint16s, interval: int, size: int, precision: int) -> tuple[int, int]:
    """The part [a, b) of an interval."""
    lower, last = int64(bounds[at(2 * interval)]), int64(bounds[at(2 * interval + 1)])
    return (size * lower) >> precision, (size * last + size) >> precision


@inlined
def _exact_ratio(ahead: int, size: int) -> int:
    """The 32 bits after the point of ahead / size."""
    return int64((at(ahead) << at(32)) // at(size))


@kernel
def _search_row(records: Int32s, row: int, bounds: Uint16s, ahead: int, size: int, precision: int) -> int:
    """Gives the interval that holds `ahead`, by the exact quotient."""
    start = int64(records[at(row + Row.START)])
    first, escape = start + int64(records[at(row + Row.FIRST)]), start + int64(records[at(row + Row.ESCAPE)])
    return search(bounds, first, escape, quotient(ahead, size, precision))[0]


@kernel
def decode_alone(
    payload: Uint8s,
    begin: int,
    end: int,
    offsets: Floats,
    row_index: Int32s,
    records: Int32s,
    bounds: Uint16s,
    hints: Uint16s,
    reciprocals: Uint32s,
    precision: int,
    sanity_check: bool,
    values: Floats,
) -> tuple[int, int]:
    """Decodes one unit into a row of `values`; gives its status and position."""
    ahead = (load_word(payload, begin, end) << 16) | load_word(payload, begin + 2, end)
    position = begin + 4
    size = int64(FULL_SIZE)
    ratio = ahead
    guess = at(ratio) << at(32)
    scaled = ratio << precision
    for symbol in range(len(row_index)):
        fetch_ahead(row_index, symbol, records, bounds, hints, int64(Row.HINT_START))
        row = ROW_FIELDS * int64(row_index[symbol])
        start = int64(records[at(row + Row.START)])
        hint = int64(records[at(row + Row.HINT_START)]) + int64(
            guess >> at(records[at(row + Row.HINT_SHIFT)])
        )
        found = start + int64(hints[at(hint)])
        a, b = _bounds(bounds, found, size, precision)
        steps = 0
        while steps < _MAX_STEPS and (ahead < a or ahead >= b):
            found += 1 if ahead >= b else -1
            a, b = _bounds(bounds, found, size, precision)
            steps += 1
        if ahead < a or ahead >= b:
            found = _search_row(records, row, bounds, ahead, size, precision)
            a, b = _bounds(bounds, found, size, precision)
            scaled = _exact_ratio(ahead, size) << precision

        lower = int64(bounds[at(2 * found)])
        width = int64(bounds[at(2 * found + 1)]) + 1 - lower
        guess = low_product(scaled - (lower << 32), int64(reciprocals[at(width)]))

        word = load_word(payload, position, end)
        size = b - a
        # Whether a word is due cannot be predicted, so these are masks rather than a branch.
        due = (size - (WORD_SIZE + 1)) >> 63
        shift = due & 16
        position += due & 2
        ahead = ((ahead - a) << shift) | (word & due)

        half = guess >> at(32)
        excess = ahead - int64((half * at(size)) >> at(32 - shift))
        zeros = leading_zeros(size)
        reciprocal = int64(reciprocals[at((at(size) << at(zeros)) >> at(64 - _SIZE_BITS))])
        correction = int64(low_product(excess << _EXCESS_BITS, reciprocal))
        scaled = (int64(half) << precision) + (correction >> (_SCALED_SHIFT - precision - zeros + shift))
        size <<= shift

        integer = found - start
        escape = int64(records[at(row + Row.ESCAPE)])
        if integer == escape:
            position, ahead, size, magnitude = decode_escape(payload, position, end, ahead, size)
            if magnitude == 0:
                return int64(Status.ESCAPE_TOO_LONG), symbol
            integer = escaped_integer(magnitude, escape)
            ratio = _exact_ratio(ahead, size)
            guess = at(ratio) << at(32)
            scaled = ratio << precision
        integer += int64(records[at(row + Row.CDF_OFFSET)])
        values[symbol] = values.dtype.type(integer) + offsets[symbol]
    if sanity_check and not is_at_end(payload, position, end, ahead, size):
        return int64(Status.NOT_AT_END), int64(-1)
    return int64(Status.OK), int64(-1)
