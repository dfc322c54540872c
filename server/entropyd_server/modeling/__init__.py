"""The modeling plane: floating point, in worker processes that may die.

The server imports `supervisor` (with `process` and `protocol` below it) and never TensorFlow; what imports
TensorFlow (`entropy_model`, `priors`, `tails`) runs in `worker` processes only.
"""
