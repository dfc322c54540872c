"""Compiled kernels: flat arrays in, a status and a position per coding unit out.

Invariant: a kernel ends for every input, raises nothing and touches no memory but its arguments and its own.
"""
