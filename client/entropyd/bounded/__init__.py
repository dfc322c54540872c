"""Compression of data that are no latents, with a bound on the error of every element.

Universal quantization keeps a bottleneck within 1/2 of itself. Data that are divided by a step of almost
2 * max_error, and multiplied by it again, therefore keep within max_error. What rounding would carry beyond
it, and missing values, are stored beside the bit strings and come back bit for bit.

Invariants: |x - restored| <= max_error for every element that is not missing; and compressing what was
restored gives that very array again, bit for bit, so that an array may be rewritten in parts any number of
times.

bound: the step, and what floating point does to it; missing: values that stand for no datum; filler: what is
coded in their place; coding: all of it together; tensor: the result.
"""

from entropyd.bounded.bound import DTYPES, METADATA_NAME, ErrorBound, max_error_problem
from entropyd.bounded.coding import compress_elements
from entropyd.bounded.missing import missing_from_json, missing_problem, missing_to_json, missing_values
from entropyd.bounded.tensor import BoundedTensor, compress, decompress

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
