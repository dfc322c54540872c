"""Instructions that Numba does not offer.

Each is a Python function, which runs as it is where Numba is disabled, with an LLVM form beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from entropyd_server.kernels.jit import POLICY, at

if TYPE_CHECKING:
    import numpy.typing as npt

CACHE_LINE_BYTES = 64


@intrinsic  # type: ignore[misc, untyped-decorator, unused-ignore]
def _llvm_prefetch(_typing: Any, array: Any, start: Any, byte: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        pointer, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        element = builder.bitcast(builder.gep(data, [arguments[1]]), pointer)
        address = builder.gep(element, [arguments[2]])
        # LLVM's language reference: to read (0), to keep in all levels of the cache (3), data (1).
        signature_of_llvm = ir.FunctionType(ir.VoidType(), [pointer, word, word, word])
        function = cgutils.get_or_insert_function(builder.module, signature_of_llvm, "llvm.prefetch.p0")
        builder.call(function, [address, word(0), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(array, start, byte), generate


def prefetch(array: npt.NDArray[Any], start: int, line: int) -> None:
    """Prefetches a cache line of a vector, `line` lines behind element `start`; any place is safe.

    Python, and a processor without such an instruction, do nothing.
    """


@overload(prefetch, jit_options=POLICY)  # type: ignore[misc, untyped-decorator, unused-ignore]
def _compiled_prefetch(array: Any, start: Any, line: Any) -> Any:  # noqa: ARG001 -- Numba matches names
    # Counted in bytes: an array's item size is no constant to the compiler, so lines would be divisions.
    def compiled(array: Any, start: Any, line: Any) -> None:
        _llvm_prefetch(array, start, line * CACHE_LINE_BYTES)

    return compiled


@intrinsic  # type: ignore[misc, untyped-decorator, unused-ignore]
def _llvm_load(_typing: Any, array: Any, position: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.load(builder.gep(data, [arguments[1]]), align=1)

    return array.dtype(array, position), generate


def load(array: npt.NDArray[Any], position: int) -> Any:
    """Loads an element of a vector of numbers that need not be aligned.

    Numba declares every array aligned, and LLVM may rely on that where elements are read by index.
    """
    return array[position]


@overload(load, jit_options=POLICY)  # type: ignore[misc, untyped-decorator, unused-ignore]
def _compiled_load(array: Any, position: Any) -> Any:  # noqa: ARG001 -- Numba matches names
    def compiled(array: Any, position: Any) -> Any:
        return _llvm_load(array, position)

    return compiled


@intrinsic  # type: ignore[misc, untyped-decorator, unused-ignore]
def _llvm_indexed_from(_typing: Any, array: Any, start: Any, index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        pointer = builder.gep(builder.gep(data, [arguments[1]]), [arguments[2]])
        # Numba handles a record by its address.
        return pointer if isinstance(array.dtype, types.Record) else builder.load(pointer)

    return array.dtype(array, start, index), generate


def indexed_from(array: npt.NDArray[Any], start: int, index: int) -> Any:
    """Loads array[start + index] of a vector, with the start added to its address first.

    For an index that is known late: LLVM would wait for it before it adds the two numbers.
    """
    return array[int(start) + int(index)]


@overload(indexed_from, jit_options=POLICY)  # type: ignore[misc, untyped-decorator, unused-ignore]
def _compiled_indexed_from(array: Any, start: Any, index: Any) -> Any:  # noqa: ARG001 -- Numba matches names
    def compiled(array: Any, start: Any, index: Any) -> Any:
        return _llvm_indexed_from(array, start, index)

    return compiled


def low_product(first: int, second: int) -> int:
    """Computes the low 64 bits of a product, as uint64, as a machine does and Python does not."""
    return at(int(first) * int(second) & (2**64 - 1))


@overload(low_product, jit_options=POLICY)  # type: ignore[misc, untyped-decorator, unused-ignore]
def _compiled_low_product(first: Any, second: Any) -> Any:  # noqa: ARG001 -- Numba matches names
    def compiled(first: Any, second: Any) -> Any:
        return np.uint64(first * second)

    return compiled


@intrinsic  # type: ignore[misc, untyped-decorator, unused-ignore]
def _llvm_high_product(_typing: Any, _first: Any, _second: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(argument, wide) for argument in arguments))
        return builder.trunc(builder.lshr(product, wide(64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), generate


def high_product(first: int, second: int) -> int:
    """Computes the high 64 bits of the product of two uint64."""
    return at(int(first) * int(second) >> 64)


@overload(high_product, jit_options=POLICY)  # type: ignore[misc, untyped-decorator, unused-ignore]
def _compiled_high_product(first: Any, second: Any) -> Any:  # noqa: ARG001 -- Numba matches names
    def compiled(first: Any, second: Any) -> Any:
        return _llvm_high_product(first, second)

    return compiled
