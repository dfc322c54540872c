"""Compression of measured data with a bound on the error of every element.

Universal quantization restores a bottleneck within 1/2. Data that are divided by a step of almost
2 * max_error before, and multiplied by it afterwards, are therefore restored within max_error. Elements that
rounding would carry beyond it, and missing values, are stored beside the bit strings and restored exactly.

Invariants: |x - restored| <= max_error for every element that is not missing; and compressing a restored
array restores the same array, bit for bit, so that an array may be rewritten in parts any number of times.

bound: the step, and the effect of rounding on it; missing: missing values; filler: the values that are coded
in their place; tensor: all of it together.
"""

from entropyd.bounded.bound import DTYPES, METADATA_NAME, ErrorBound, max_error_problem
from entropyd.bounded.missing import missing_from_json, missing_problem, missing_to_json, missing_values
from entropyd.bounded.tensor import BoundedTensor, compress, compress_elements, decompress

__all__ = [
    "DTYPES",
    "METADATA_NAME",
    "BoundedTensor",
    "ErrorBound",
    "compress",
    "compress_elements",
    "decompress",
    "max_error_problem",
    "missing_from_json",
    "missing_problem",
    "missing_to_json",
    "missing_values",
]
