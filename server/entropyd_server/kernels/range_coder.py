"""The bit stream, the tables as kernels see them, and the statuses: what encoder and decoders share.

Kernels check no table: `coding.tables` has.

The stream reproduces `RangeEncoder` and `RangeDecoder` of TensorFlow Compression 2.14.1
(cc/lib/range_coder.{h,cc}), with the escape of `OverflowEncode` and `OverflowDecode`
(cc/kernels/range_coder_kernels.cc), bit for bit. docs/range-coder.md specifies it.

State. A coder holds the interval [base, base + size) of 32-bit numbers, 2^16 <= size <= 2^32 between
symbols. A symbol whose quantized CDF rises from `lower` to `upper` out of 2^precision keeps

    [base + a, base + b),  a = floor(size * lower / 2^precision),  b = floor(size * upper / 2^precision).

If at most 2^16 of size are left, the top 16 bits of base leave as one big-endian word and the interval is
scaled by 2^16. Since size >= 2^16 >= 2^precision before a symbol, an interval of positive probability keeps
at least size 1, so one word per symbol is always enough.

Tables. `bounds` (uint16, two per interval, all rows one after the other) holds the first and the last
cumulative probability of an interval, lower and upper - 1, so that 16 bits hold either at any precision.
The first of an interval of probability zero is above its last; at the beginning of a row these are 1 and 0.
"""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """How one coding unit ended."""

    OK = 0
    NOT_FINITE = 1
    """Encoding met NaN or an infinity."""
    OUT_OF_RANGE = 2
    """Encoding met a value whose distance from its row is 2^MAX_GAMMA_BITS or more. A run-length gamma code
    has no rows and takes all below 2^31."""
    ZERO_PROBABILITY = 3
    """Encoding met a symbol whose interval is empty."""
    ESCAPE_TOO_LONG = 4
    """Decoding met an escape that no encoder writes."""
    NOT_AT_END = 5
    """All symbols were decoded, but the state is not one in which an encoder ends (decode sanity check)."""
    TRUNCATED = 6
    """Decoding met the end of the string, in a run-length gamma code or a rANS string."""
    RUN_TOO_LONG = 7
    """Decoding a run-length gamma code met more zeros than the unit has elements left."""
    GAMMA_TOO_LONG = 8
    """Decoding a run-length gamma code met a number of more than 31 bits."""
    STATE_OUT_OF_RANGE = 9
    """A rANS string begins with a state in which no encoder ends."""
    TOO_WIDE = 10
    """Decoding met an integer that the elements asked for do not hold."""


class Row(IntEnum):
    """Columns of the row records, int32 [rows, ROW_FIELDS]."""

    START = 0
    """Number of the row's first interval among those of all rows."""
    ESCAPE = 1
    """Index within the row of its last interval, the escape symbol."""
    CDF_OFFSET = 2
    """The integer that interval 0 stands for."""
    HINT_START = 3
    """Position in `hints` of the row's first hint."""
    HINT_SHIFT = 4
    """64 less the base-2 logarithm of the number of the row's hints."""
    LIKELY = 5
    """Index within the row of the first of those intervals that are prefetched."""


# A power of two, so that records do not straddle cache lines.
ROW_FIELDS = 8

# An escape magnitude has at most this many bits, as in TFC, whose loop over int32 does not end beyond.
MAX_GAMMA_BITS = 30
FULL_SIZE = 1 << 32
# At or below this much size a word is due.
WORD_SIZE = 1 << 16
