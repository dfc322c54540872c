"""Integer and rounding kernels of the coding plane: flat arrays in, a status per coding unit out.

Owns nothing but numpy and numba code. It must not know models, requests or errors. Invariant: a kernel
ends for every input; it never raises, allocates, or reads outside the arrays that it was given.
"""
