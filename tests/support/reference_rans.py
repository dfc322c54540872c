"""A rANS coder to read, in plain Python integers, against which the kernels are tested.

It shares no code with the kernels and imports no numpy. Rows are those of `reference_coder`, of precision 16.
"""

from __future__ import annotations

from tests.support.reference_coder import CorruptError, UncodableError

START = 1 << 31
DIGITS = [*range(17)]
MAX_DIGITS = 8
# Of magnitude 2^30 - 1, as in the range coder.
MAX_CODE = (1 << 31) - 3

Row = tuple[list[int], int]
# Lower and upper cumulative probability, and the precision: out of 2^precision.
Interval = tuple[int, int, int]


def intervals_of(integer: int, row: Row) -> list[Interval]:
    """The intervals that code an integer, in the order in which they are decoded."""
    bounds, cdf_offset = row
    index, escape = integer - cdf_offset, len(bounds) - 2
    if 0 <= index < escape:
        return [(bounds[index], bounds[index + 1], 16)]
    code = -2 * index - 1 if index < 0 else 2 * (index - escape)
    if code > MAX_CODE:
        raise UncodableError(integer)
    digits = [int(digit, 16) for digit in reversed(f"{code:x}")] if code else []
    return [(bounds[escape], bounds[-1], 16), *((digit, digit + 1, 4) for digit in (len(digits), *digits))]


def encode(integers: list[int], rows: list[Row]) -> bytes:
    """Encodes integers, each with its row; raises UncodableError."""
    state, words = START, b""
    coded = [interval for pair in zip(integers, rows, strict=True) for interval in intervals_of(*pair)]
    for lower, upper, precision in reversed(coded):
        if lower == upper:
            raise UncodableError("an empty interval")
        if state >= (upper - lower) << (63 - precision):
            words = (state % (1 << 32)).to_bytes(4, "little") + words
            state >>= 32
        quotient, rest = divmod(state, upper - lower)
        state = (quotient << precision) + lower + rest
    return state.to_bytes(8, "little") + words


def decode(string: bytes, rows: list[Row]) -> list[int]:
    """Decodes one integer per row; raises CorruptError for a string that `encode` does not write."""
    state, words = int.from_bytes(string[:8], "little"), [string[k : k + 4] for k in range(8, len(string), 4)]
    if not 1 << 31 <= state < 1 << 63:
        raise CorruptError("no encoder ends in this state")

    def index_in(bounds: list[int], precision: int) -> int:
        nonlocal state
        high, low = divmod(state, 1 << precision)
        index = max(k for k in range(len(bounds) - 1) if bounds[k] <= low)
        state = (bounds[index + 1] - bounds[index]) * high + low - bounds[index]
        if state < START:
            if not words or len(words[0]) < 4:
                raise CorruptError("the string ends early")
            state = state << 32 | int.from_bytes(words.pop(0), "little")
        return index

    integers = []
    for bounds, cdf_offset in rows:
        index, escape = index_in(bounds, 16), len(bounds) - 2
        if index == escape:
            count = index_in(DIGITS, 4)
            digits = [index_in(DIGITS, 4) for _ in range(min(count, MAX_DIGITS))]
            code = sum(digit << 4 * place for place, digit in enumerate(digits))
            if count > MAX_DIGITS or (digits and digits[-1] == 0) or code > MAX_CODE:
                raise CorruptError("no encoder writes this escape")
            index = -(code + 1) // 2 if code % 2 else escape + code // 2
        integers.append(cdf_offset + index)
    if state != START or words:
        raise CorruptError("not at the end")
    return integers
