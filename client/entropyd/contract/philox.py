"""TensorFlow's stateless integer generator, without TensorFlow.

Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) as
`tf.random.stateless_uniform` drives it for int32. Invariant: element i depends on the seed, the range and i,
never on how many elements are drawn, and does not change, whatever later versions of TensorFlow do.

Sources: `tensorflow/core/lib/random/philox_random.h` (the rounds), `core/kernels/stateless_random_ops.cc`
(`GenerateKey`: the scrambling of the seed), `core/lib/random/random_distributions.h` (lo + bits % range).
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

_U64 = np.uint64
_BITS_32 = _U64(32)
_LOW_32 = _U64(0xFFFFFFFF)
_MULTIPLIER_A, _MULTIPLIER_B = _U64(0xD2511F53), _U64(0xCD9E8D57)
# The key grows by these (golden ratio, sqrt(3) - 1) between rounds, modulo 2^32.
_WEYL_A, _WEYL_B = _U64(0x9E3779B9), _U64(0xBB67AE85)
_ROUNDS = 10
# The key with which TensorFlow scrambles a seed into the key and counter of the stream.
_SCRAMBLE_KEY = (0x3EC8F720, 0x02461E29)
# Blocks of four words that are enciphered together, so that they stay in the second-level cache.
_BLOCKS = 1 << 13


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


@cache
def scrambled(seed: tuple[int, int]) -> npt.NDArray[np.uint64]:
    """uint64 [4], the key and the upper half of the counter of a seed's stream; read-only.

    The seed is two words below 2^32.
    """
    counter = np.array([[seed[0]], [0], [seed[1]], [0]], np.uint64)
    stream = philox_4x32(_SCRAMBLE_KEY, counter)[:, 0].copy()
    stream.setflags(write=False)
    return stream


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
    key_a, key_b, *upper_half = scrambled(seed)
    begin, end = first // 4, (first + count + 3) // 4
    drawn = np.empty((end - begin, 4), np.int32)
    for start in range(begin, end, _BLOCKS):
        stop = min(start + _BLOCKS, end)
        number = np.arange(start, stop, dtype=np.uint64)
        counter = np.empty((4, stop - start), np.uint64)
        counter[0], counter[1] = number & _LOW_32, number >> _BITS_32
        counter[2:] = np.reshape(upper_half, (2, 1))
        words = philox_4x32((int(key_a), int(key_b)), counter).astype(np.uint32)
        drawn[start - begin : stop - begin] = (words % np.uint32(upper)).T
    return drawn.reshape(-1)[first % 4 : first % 4 + count]
