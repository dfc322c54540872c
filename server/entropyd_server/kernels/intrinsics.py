"""Instructions that Numba does not offer.

Each is a Python function, which is called where Numba is disabled, with an LLVM form before it, which kernels
take elsewhere. Two are functions of their own nevertheless: LLVM then takes them into a kernel after it has
optimized the rest, and decoding one unit takes a twentieth less.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import config, types
from numba.core import cgutils
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic

from entropyd_server.kernels.jit import at, called

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

F = TypeVar("F", bound="Callable[..., object]")

CACHE_LINE_BYTES = 64


def _compiled_as(form: Callable[..., Any]) -> Callable[[F], F]:
    """Puts an LLVM form in the place of a function, then its `__wrapped__`, unless Numba is disabled."""

    def choose(function: F) -> F:
        if config.DISABLE_JIT:
            return function
        instruction = intrinsic(form)
        instruction.__wrapped__ = function
        return cast("F", instruction)

    return choose


def _data(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """The address of the elements of the array that is the first argument."""
    return context.make_array(signature.args[0])(context, builder, arguments[0]).data


def _llvm_prefetch(_typing: Any, array: Any, start: Any, line: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        element = builder.gep(_data(context, builder, signature, arguments), [arguments[1]])
        # Counted in bytes: an array's item size is no constant to the compiler, so lines would be divisions.
        byte = builder.mul(arguments[2], arguments[2].type(CACHE_LINE_BYTES))
        address = builder.gep(builder.bitcast(element, pointer), [byte])
        # LLVM's language reference: to read (0), to keep in all levels of the cache (3), data (1).
        signature_of_llvm = ir.FunctionType(ir.VoidType(), [pointer, word, word, word])
        function = cgutils.get_or_insert_function(builder.module, signature_of_llvm, "llvm.prefetch.p0")
        builder.call(function, [address, word(0), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(array, start, line), generate


@_compiled_as(_llvm_prefetch)
def _prefetch(array: npt.NDArray[Any], start: int, line: int) -> None: ...


@called
def prefetch(array: npt.NDArray[Any], start: int, line: int) -> None:
    """Prefetches a cache line of a vector, `line` lines behind element `start`; any place is safe.

    Python, and a processor without such an instruction, do nothing.
    """
    _prefetch(array, start, line)


def _llvm_load(_typing: Any, array: Any, position: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = _data(context, builder, signature, arguments)
        return builder.load(builder.gep(data, [arguments[1]]), align=1)

    return array.dtype(array, position), generate


@_compiled_as(_llvm_load)
def load(array: npt.NDArray[Any], position: int) -> Any:
    """Loads an element of a vector of numbers that need not be aligned.

    Numba declares every array aligned, and LLVM may rely on that where elements are read by index.
    """
    return array[position]


def _llvm_indexed(_typing: Any, array: Any, start: Any, index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = _data(context, builder, signature, arguments)
        pointer = builder.gep(builder.gep(data, [arguments[1]]), [arguments[2]])
        # Numba handles a record by its address.
        return pointer if isinstance(array.dtype, types.Record) else builder.load(pointer)

    return array.dtype(array, start, index), generate


@_compiled_as(_llvm_indexed)
def _indexed(array: npt.NDArray[Any], start: int, index: int) -> Any:
    return array[int(start) + int(index)]


@called
def indexed_from(array: npt.NDArray[Any], start: int, index: int) -> Any:
    """Loads array[start + index] of a vector, with the start added to its address first.

    For an index that is known late: LLVM would wait for it before it adds the two numbers.
    """
    return _indexed(array, start, index)


def _llvm_viewed(_typing: Any, content: Any, dtype: Any) -> Any:
    number = dtype.dtype
    view_type = content.copy(dtype=number)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source = context.make_array(signature.args[0])(context, builder, arguments[0])
        view = context.make_array(view_type)(context, builder)
        item = context.get_constant(types.intp, number.bitwidth // 8)
        view.data = builder.bitcast(source.data, view.data.type)
        view.itemsize = item
        view.nitems = builder.udiv(source.nitems, item)
        view.shape = cgutils.pack_array(builder, [view.nitems])
        view.strides = cgutils.pack_array(builder, [item])
        view.meminfo, view.parent = source.meminfo, source.parent
        return impl_ret_borrowed(context, builder, view_type, view._getvalue())  # noqa: SLF001 - as Numba does

    return view_type(content, dtype), generate


@_compiled_as(_llvm_viewed)
def viewed(content: npt.NDArray[np.uint8], dtype: Any) -> Any:
    """Views bytes as numbers. Numba's own `view` takes longer to compile than what the numbers are for."""
    return content.view(dtype)


def _llvm_low_product(_typing: Any, first: Any, second: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.mul(*arguments)

    return types.uint64(first, second), generate


@_compiled_as(_llvm_low_product)
def low_product(first: int, second: int) -> int:
    """Computes the low 64 bits of a product, as uint64, as a machine does and Python does not."""
    return at(int(first) * int(second) & (2**64 - 1))


def _llvm_high_product(_typing: Any, _first: Any, _second: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(argument, wide) for argument in arguments))
        return builder.trunc(builder.lshr(product, wide(64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), generate


@_compiled_as(_llvm_high_product)
def high_product(first: int, second: int) -> int:
    """Computes the high 64 bits of the product of two uint64."""
    return at(int(first) * int(second) >> 64)


def _llvm_long_quotient(_typing: Any, _high: Any, _low: Any, _divisor: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        high, low, divisor = arguments
        # To LLVM an exclusive or is likely to be long, so it adds no branch for a division of 32 bits.
        return builder.udiv(builder.xor(high, low), divisor)

    return types.int64(types.int64, types.int64, types.int64), generate


@_compiled_as(_llvm_long_quotient)
def long_quotient(high: int, low: int, divisor: int) -> int:
    """Computes (high + low) / divisor, rounded down, of a dividend that is nearly always above 2^32.

    `high` and `low` have no bits in common, and none is negative. Numba would test for a divisor of 0, which
    must not be, and LLVM for a short dividend.
    """
    return (high ^ low) // divisor
