"""The rANS stream and its tables as kernels see them: what encoder and decoder share.

The stream reproduces `RansEncoder` and `RansDecoder` of CompressAI 1.2.8 (compressai/cpp_exts/rans), bit for
bit. docs/rans.md specifies it.

State. A coder holds a number, 2^31 <= state < 2^63 between intervals. An interval [lower, upper) out of
2^precision, of width upper - lower, takes the encoder to

    floor(state / width) * 2^precision + lower + state mod width,

after the low 32 bits of the state have left as a word if state >= width * 2^(63 - precision). The decoder
undoes that from the last interval to the first, so the encoder begins with the last symbol.

Every step is a bijection, so a string that a decoder takes to the state with which encoding begins, with no
word left, is the one that an encoder writes for these symbols.
"""

from __future__ import annotations

import numpy as np

PRECISION = 16
# With which encoding begins and decoding ends; also the smallest state.
FIRST_STATE = 1 << 31
STATE_BITS = 63
WORD_BYTES = 4
STATE_BYTES = 8

# An escape is followed by the number of its digits, then these, the lowest first; each takes 4 bits.
DIGIT_BITS = 4
MAX_DIGITS = 8
# That of magnitude 2^30 - 1 below the row; the largest above it is one less.
MAX_CODE = (1 << 31) - 3

# An interval as the encoder takes it: with width = 2^16 - complement and
# quotient = (state * reciprocal / 2^64) >> shift, which is floor(state / width) for a state that needs no
# word, the next state is state + bias + quotient * complement. An interval of probability zero has the
# reciprocal 0.
#
# The reciprocal is 2^(64 + shift) / width, rounded up, with 2^shift < width <= 2^(shift + 1). It is too large
# by less than 1, so state * reciprocal by less than 2^63, and the quotient by less than
# 2^63 / 2^(64 + shift) <= 1 / width: not enough to reach the next integer. A width of 1 would need 2^64. One
# less gives state - 1, which the bias makes good; a width of 2^16 has complement 0 and needs no quotient.
DIVIDER = np.dtype([("reciprocal", "<u8"), ("bias", "<u4"), ("complement", "<u2"), ("shift", "<u2")])

# What the decoder looks up by the row and the top bits of the low 16 of the state: the interval that holds
# most of such numbers. `span` is its width less 1, `index` its number in the row.
SLOT = np.dtype([("lower", "<u2"), ("span", "<u2"), ("index", "<u4")])
