"""TensorFlow's stateless integer generator, without TensorFlow.

Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) as
`tf.random.stateless_uniform` drives it for int32. Invariant: element i depends on the seed, the range and i,
never on how many elements are drawn, and does not change, whatever later versions of TensorFlow do.

Sources: `tensorflow/core/lib/random/philox_random.h` (the rounds), `core/kernels/stateless_random_ops.cc`
(`GenerateKey`: the scrambling of the seed), `core/lib/random/random_distributions.h` (lo + bits % range).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from entropyd_server.kernels.jit import at, kernel, kernel_input

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
# The key with which TensorFlow scrambles a seed into the key and counter of the stream.
_SCRAMBLE_KEY = (0x3EC8F720, 0x02461E29)


def philox_4x32(key: tuple[int, int], counter: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Enciphers counters with ten Philox rounds.

    Args:
      key: Two words below 2^32.
      counter: uint64 [4, blocks], every element below 2^32; word 0 of a block is the least significant.

    Returns:
      uint64 [4, blocks], every element below 2^32: four random words per block, word 0 first.
    """
    word0, word1, word2, word3 = counter
    key_a, key_b = _U64(key[0]), _U64(key[1])
    for _ in range(_ROUNDS):
        product_a, product_b = word0 * _MULTIPLIER_A, word2 * _MULTIPLIER_B
        word0 = (product_b >> _BITS_32) ^ word1 ^ key_a
        word1 = product_b & _LOW_32
        word2 = (product_a >> _BITS_32) ^ word3 ^ key_b
        word3 = product_a & _LOW_32
        key_a, key_b = (key_a + _WEYL_A) & _LOW_32, (key_b + _WEYL_B) & _LOW_32
    return np.stack([word0, word1, word2, word3])


def stateless_uniform_int32(
    count: int, seed: tuple[int, int], upper: int, *, first: int = 0
) -> npt.NDArray[np.int32]:
    """Draws elements [first, first + count) of what `tf.random.stateless_uniform` draws.

    Its other arguments are a shape of one axis, the seed, 0, `upper` and tf.int32.

    Args:
      count: Number of elements, not negative.
      seed: Two words below 2^32.
      upper: Exclusive upper bound, 1 to 2^31 - 1.
      first: Number of the first one; the last one is below 2^63.

    Returns:
      int32 [count], each in [0, upper). Where `upper` is no power of two, they have TensorFlow's bias
      of the remainder, below upper / 2^32.
    """
    drawn = np.empty(count, np.int32)
    fill_uniform(_scrambled(seed), first, upper, drawn)
    return drawn


@cache
def _scrambled(seed: tuple[int, int]) -> npt.NDArray[np.uint64]:
    """uint64 [4], the key and the upper half of the counter of a seed's stream."""
    counter = np.array([[seed[0]], [0], [seed[1]], [0]], np.uint64)
    return kernel_input(philox_4x32(_SCRAMBLE_KEY, counter)[:, 0])


@kernel
def fill_uniform(scrambled: npt.NDArray[np.uint64], first: int, upper: int, drawn: Int32s) -> None:
    """Fills `drawn` with elements of a stream, from `first` on.

    The loops over blocks are plain so that LLVM does several blocks with one instruction.

    Args:
      scrambled: uint64 [4], key and upper half of the counter.
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
        words[2, :], words[3, :] = scrambled[2], scrambled[3]
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
        drawn[begin:end] = in_order[begin - position : end - position]
        position += 4 * _BLOCKS
        block += _BLOCKS
