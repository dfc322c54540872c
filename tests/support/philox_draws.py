"""Draws of `tf.random.stateless_uniform` for int32, from TensorFlow 2.14.1."""

SEED = (1234, 1234)
# The upper bound, how many elements come before, and elements.
DRAWS = [
    (15, 0, [5, 13, 11, 12, 1, 7, 1, 7, 1, 4, 1, 2, 2, 8, 11, 8, 11, 11, 5, 1, 5, 2, 12, 14]),
    (3, 0, [2, 1, 2, 0, 1]),
    (64, 1020, [5, 60, 26, 42, 16]),
    (1, 0, [0, 0, 0, 0, 0]),
]
