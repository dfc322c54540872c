"""TensorFlow's stateless integer generator, without TensorFlow.

Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) as
`tf.random.stateless_uniform` drives it for int32. Invariant: element i depends on the seed, the range and i,
never on how many elements are drawn, and does not change, whatever later versions of TensorFlow do.

Sources: `tensorflow/core/lib/random/philox_random.h` (the rounds), `core/kernels/stateless_random_ops.cc`
(`GenerateKey`: the scrambling of the seed), `core/lib/random/random_distributions.h` (lo + bits % range).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_U64 = np.uint64
_LOW_32 = _U64(0xFFFFFFFF)
_MULTIPLIER_A, _MULTIPLIER_B = _U64(0xD2511F53), _U64(0xCD9E8D57)
# The key grows by these (golden ratio, sqrt(3) - 1) between rounds, modulo 2^32.
_WEYL_A, _WEYL_B = 0x9E3779B9, 0xBB67AE85
_ROUNDS = 10
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
    key_a, key_b = key
    for _ in range(_ROUNDS):
        product_a, product_b = word0 * _MULTIPLIER_A, word2 * _MULTIPLIER_B
        word0 = (product_b >> _U64(32)) ^ word1 ^ _U64(key_a)
        word1 = product_b & _LOW_32
        word2 = (product_a >> _U64(32)) ^ word3 ^ _U64(key_b)
        word3 = product_a & _LOW_32
        key_a, key_b = (key_a + _WEYL_A) & 0xFFFFFFFF, (key_b + _WEYL_B) & 0xFFFFFFFF
    return np.stack([word0, word1, word2, word3])


def stateless_uniform_int32(count: int, seed: tuple[int, int], upper: int) -> npt.NDArray[np.int32]:
    """Draws what `tf.random.stateless_uniform([count], seed, 0, upper, tf.int32)` draws.

    Args:
      count: Number of elements, not negative.
      seed: Two words below 2^32.
      upper: Exclusive upper bound, 1 to 2^31 - 1.

    Returns:
      int32 [count], each in [0, upper). Where `upper` is no power of two, they have TensorFlow's bias
      of the remainder, below upper / 2^32.
    """
    scrambled = philox_4x32(_SCRAMBLE_KEY, np.array([[seed[0]], [0], [seed[1]], [0]], np.uint64))[:, 0]
    blocks = -(-count // 4)
    counter = np.zeros((4, blocks), np.uint64)
    # Words 0 and 1 count blocks; fewer than 2^32 blocks are ever drawn, so word 1 stays 0.
    counter[0] = np.arange(blocks, dtype=np.uint64)
    counter[2], counter[3] = scrambled[2], scrambled[3]
    words = philox_4x32((int(scrambled[0]), int(scrambled[1])), counter)
    return (words.T.reshape(-1)[:count] % _U64(upper)).astype(np.int32)
