"""A range coder to read, in plain Python integers, against which the kernels are tested.

It computes the bit stream on one unbounded integer: there is no carry, no delayed word and no renormalised
base. It shares no code with the kernels and imports no numpy. Where a slow way is clearer, it takes that.

A table row is (cumulative, cdf_offset): a list 0, ..., 2^precision that does not fall, and the integer that
its first interval stands for. The last interval is the escape symbol.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_GAMMA_BITS = 30


class UncodableError(Exception):
    """An integer that the row has no code for."""


class CorruptError(Exception):
    """A string that no encoder writes."""


@dataclass
class Interval:
    """[low, low + size) among the numbers of 32 + 16 * words bits."""

    low: int = 0
    size: int = 1 << 32
    words: int = 0

    def narrow(self, lower: int, upper: int, precision: int) -> None:
        """Keeps the part from lower to upper out of 2^precision, then scales to more than 16 bits of size."""
        begin, end = self.size * lower >> precision, self.size * upper >> precision
        self.low += begin
        self.size = end - begin
        if self.size <= 1 << 16:
            self.low <<= 16
            self.size <<= 16
            self.words += 1

    def shortest(self) -> bytes:
        """Names a number in the interval, zeros implied after it."""
        window = self.low % (1 << 32)
        settled = self.low >> 32
        if window + self.size > 1 << 32:
            return (settled + 1).to_bytes(2 * self.words, "big").rstrip(b"\0")
        head = settled.to_bytes(2 * self.words, "big")
        if window == 0:
            return head
        for tail_bytes in (1, 2):
            unit = 1 << (32 - 8 * tail_bytes)
            rounded_up = -(-window // unit) * unit
            if rounded_up < window + self.size:
                return head + (rounded_up // unit).to_bytes(tail_bytes, "big").rstrip(b"\0")
        raise AssertionError("a multiple of 2^16 is always inside")


def split(row: tuple[list[int], int], integer: int) -> tuple[int, int]:
    """Gives the interval that codes an integer, and 0 or the signed magnitude that follows an escape."""
    cumulative, cdf_offset = row
    escape = len(cumulative) - 2
    interval = integer - cdf_offset
    if 0 <= interval < escape:
        return interval, 0
    return escape, interval if interval < 0 else interval - escape + 1


def encode(integers: list[int], rows: list[tuple[list[int], int]], precision: int) -> bytes:
    """Encodes integers, each with its row; raises UncodableError."""
    state = Interval()
    for integer, row in zip(integers, rows, strict=True):
        interval, excess = split(row, integer)
        lower, upper = row[0][interval : interval + 2]
        if lower == upper or abs(excess) >= 1 << MAX_GAMMA_BITS:
            raise UncodableError(integer)
        state.narrow(lower, upper, precision)
        if excess:
            digits = f"{abs(excess):b}"
            for bit in "0" * (len(digits) - 1) + digits + ("1" if excess < 0 else "0"):
                state.narrow(int(bit), int(bit) + 1, 1)
    return state.shortest()


class Decoder:
    """Reads symbols from one string."""

    def __init__(self, string: bytes) -> None:
        self.string = string
        self.state = Interval()

    def value(self) -> int:
        """The number that the bytes read so far name, zeros past the end."""
        length = 4 + 2 * self.state.words
        return int.from_bytes(self.string[:length].ljust(length, b"\0"), "big")

    def interval(self, cumulative: list[int], precision: int) -> int:
        """Decodes one symbol."""
        ahead = self.value() - self.state.low
        found = max(
            k for k in range(len(cumulative) - 1) if self.state.size * cumulative[k] >> precision <= ahead
        )
        self.state.narrow(cumulative[found], cumulative[found + 1], precision)
        return found

    def integer(self, row: tuple[list[int], int], precision: int) -> int:
        """Decodes one integer; raises CorruptError."""
        cumulative, cdf_offset = row
        escape = len(cumulative) - 2
        interval = self.interval(cumulative, precision)
        if interval < escape:
            return cdf_offset + interval
        zeros = 0
        while self.interval([0, 1, 2], 1) == 0:
            zeros += 1
            if zeros == MAX_GAMMA_BITS:
                raise CorruptError("escape too long")
        magnitude = int("1" + "".join(str(self.interval([0, 1, 2], 1)) for _ in range(zeros)), 2)
        negative = self.interval([0, 1, 2], 1)
        return cdf_offset + (-magnitude if negative else escape - 1 + magnitude)

    def is_at_end(self) -> bool:
        """Says whether an encoder could have stopped here: the decode sanity check.

        The string must not go on, and what was read last must be the number that `shortest` names.
        """
        if len(self.string) > 4 + 2 * self.state.words:
            return False
        named = self.state.shortest()
        # Only the last 32 bits are compared, as in TFC.
        length = 4 + 2 * self.state.words
        return (int.from_bytes(named.ljust(length, b"\0"), "big") - self.value()) % (1 << 32) == 0


def decode(
    string: bytes, rows: list[tuple[list[int], int]], precision: int, *, sanity_check: bool
) -> list[int]:
    """Decodes one integer per row; raises CorruptError."""
    decoder = Decoder(string)
    integers = [decoder.integer(row, precision) for row in rows]
    if sanity_check and not decoder.is_at_end():
        raise CorruptError("not at the end")
    return integers
