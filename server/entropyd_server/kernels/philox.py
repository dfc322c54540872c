"""TensorFlow's stateless integer generator; the contract's `philox` has it in NumPy, and its sources."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from entropyd_server.kernels.jit import at, kernel

if TYPE_CHECKING:
    from entropyd_server.kernels.arrays import Int32s

_U64 = np.uint64
_BITS_32 = _U64(32)
_ONE_32 = _U64(1 << 32)
_LOW_32 = _U64(0xFFFFFFFF)
_MULTIPLIER_A, _MULTIPLIER_B = _U64(0xD2511F53), _U64(0xCD9E8D57)
# The key grows by these (golden ratio, sqrt(3) - 1) between rounds, modulo 2^32.
_WEYL_A, _WEYL_B = _U64(0x9E3779B9), _U64(0xBB67AE85)
_ROUNDS = 10
# Blocks of four words that are enciphered together.
_BLOCKS = 512


@kernel
def fill_uniform(scrambled: npt.NDArray[np.uint64], first: int, upper: int, drawn: Int32s) -> None:
    """Fills `drawn` with elements of a stream, from `first` on.

    The loops over blocks are plain so that LLVM does several blocks with one instruction.

    Args:
      scrambled: uint64 [4], key and upper half of the counter of a stream.
      first: Number of the first element, not negative; the last one is below 2^63.
      upper: 1 to 2^31 - 1.
      drawn: int32 [count], written.
    """
    words, in_order = np.empty((4, _BLOCKS), np.uint32), np.empty(4 * _BLOCKS, np.int32)
    divisor = at(upper)
    # The quotient of a word is this times the word, / 2^32, or one more.
    reciprocal = _ONE_32 // divisor
    position = -(first % 4)
    block = first // 4
    while position < len(drawn):
        for index in range(_BLOCKS):
            words[0, index] = at(block + index) & _LOW_32
            words[1, index] = at(block + index) >> _BITS_32
            words[2, index], words[3, index] = scrambled[2], scrambled[3]
        key_a, key_b = at(scrambled[0]), at(scrambled[1])
        for _ in range(_ROUNDS):
            for index in range(_BLOCKS):
                product_a = at(words[0, index]) * _MULTIPLIER_A
                product_b = at(words[2, index]) * _MULTIPLIER_B
                words[0, index] = (product_b >> _BITS_32) ^ at(words[1, index]) ^ key_a
                words[1, index] = product_b & _LOW_32
                words[2, index] = (product_a >> _BITS_32) ^ at(words[3, index]) ^ key_b
                words[3, index] = product_a & _LOW_32
            key_a, key_b = (key_a + _WEYL_A) & _LOW_32, (key_b + _WEYL_B) & _LOW_32
        for row in range(4):
            for index in range(_BLOCKS):
                word = at(words[row, index])
                rest = word - ((word * reciprocal) >> _BITS_32) * divisor
                words[row, index] = rest - divisor if rest >= divisor else rest
        for index in range(_BLOCKS):
            for row in range(4):
                in_order[4 * index + row] = words[row, index]
        begin, end = max(position, 0), min(position + 4 * _BLOCKS, len(drawn))
        for index in range(begin, end):
            drawn[at(index)] = in_order[at(index - position)]
        position += 4 * _BLOCKS
        block += _BLOCKS
