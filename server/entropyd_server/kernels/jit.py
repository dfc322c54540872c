"""The one compilation policy of all kernels: the options of Numba.

Invariant: compiled code computes the same
numbers as the Python source under IEEE 754 rules: no fused multiply-add, no reassociation.

- `nogil`: kernels run in the server's own threads; Numba's threading layer is not safe to enter from
  several threads, so nothing here is `parallel`.
- Machine code is kept beside the source (or under NUMBA_CACHE_DIR), so that only the first start after an
  update compiles; `cached` has the files.
- `error_model="numpy"`: a division never raises; the kernels never divide by zero.
- With NUMBA_DISABLE_JIT=1 kernels run as Python, where an index out of bounds raises: so they are fuzzed.
- `fastmath=False`, `boundscheck=False`: said out loud because strings depend on the first, and because the
  second must hold whatever the environment says: kernels prove their own bounds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from entropyd_server.kernels.cached import kept

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

F = TypeVar("F", bound="Callable[..., object]")

# Type checkers see machine integers as `int`, which is what they are in compiled code's arithmetic.
# Numba takes mixed signed and unsigned 64-bit operands to float64, so all arithmetic is on `int64`.
int64 = cast("Callable[[Any], int]", np.int64)
# Indexing with a signed integer costs a test for negative ones, which no kernel uses.
at = cast("Callable[[int], int]", np.uint64)

_CACHE_LINE_BYTES = 64
_POLICY = {"nogil": True, "error_model": "numpy", "fastmath": False, "boundscheck": False}


def kernel(function: F) -> F:
    """Compiles an entry point, on its first call with arguments of new types."""
    return cast("F", kept(njit(**_POLICY)(function)))


def inlined(function: F) -> F:
    """Compiles a step of a kernel into its callers, so that coder state stays in registers."""
    return cast("F", kept(njit(forceinline=True, **_POLICY)(function)))


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
    """Asks for a cache line of a vector, `line` lines behind element `start`; any place is safe.

    Changes no result. A processor without such an instruction does nothing here, and neither does Python.
    """


@overload(prefetch, jit_options=_POLICY)  # type: ignore[misc, untyped-decorator, unused-ignore]
def _compiled_prefetch(array: Any, start: Any, line: Any) -> Any:  # noqa: ARG001 -- Numba matches names
    # Counted in bytes: an array's item size is no constant to the compiler, so lines would be divisions.
    def compiled(array: Any, start: Any, line: Any) -> None:
        _llvm_prefetch(array, start, line * _CACHE_LINE_BYTES)

    return compiled


@intrinsic  # type: ignore[misc, untyped-decorator, unused-ignore]
def _llvm_load(_typing: Any, array: Any, position: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.load(builder.gep(data, [arguments[1]]), align=1)

    return array.dtype(array, position), generate


def load(array: npt.NDArray[Any], position: int) -> Any:
    """Gives an element of a vector of numbers, at whatever address it lies.

    Numba takes every array for an aligned one, and LLVM may rely on that where elements are read otherwise.
    """
    return array[position]


@overload(load, jit_options=_POLICY)  # type: ignore[misc, untyped-decorator, unused-ignore]
def _compiled_load(array: Any, position: Any) -> Any:  # noqa: ARG001 -- Numba matches names
    def compiled(array: Any, position: Any) -> Any:
        return _llvm_load(array, position)

    return compiled


@intrinsic  # type: ignore[misc, untyped-decorator, unused-ignore]
def _llvm_element(_typing: Any, array: Any, start: Any, index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        pointer = builder.gep(builder.gep(data, [arguments[1]]), [arguments[2]])
        # Numba handles a record by its address.
        return pointer if isinstance(array.dtype, types.Record) else builder.load(pointer)

    return array.dtype(array, start, index), generate


def element(array: npt.NDArray[Any], start: int, index: int) -> Any:
    """Gives array[start + index] of a vector, with the start added to its address first.

    For an index that much depends on and that comes late: LLVM would add the two numbers when it is there.
    """
    return array[int(start) + int(index)]


@overload(element, jit_options=_POLICY)  # type: ignore[misc, untyped-decorator, unused-ignore]
def _compiled_element(array: Any, start: Any, index: Any) -> Any:  # noqa: ARG001 -- Numba matches names
    def compiled(array: Any, start: Any, index: Any) -> Any:
        return _llvm_element(array, start, index)

    return compiled


def low_product(first: int, second: int) -> int:
    """The low 64 bits of a product, as uint64: what a machine's product is, and Python's is not."""
    return at(int(first) * int(second) & (2**64 - 1))


@overload(low_product, jit_options=_POLICY)  # type: ignore[misc, untyped-decorator, unused-ignore]
def _compiled_low_product(first: Any, second: Any) -> Any:  # noqa: ARG001 -- Numba matches names
    def compiled(first: Any, second: Any) -> Any:
        return np.uint64(first * second)

    return compiled


def kernel_input(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Gives a contiguous, read-only view, or such a copy where there can be no view.

    Numba compiles a kernel anew for arrays that differ in any of these, which takes seconds. So whatever a
    kernel only reads goes through here, and warming up needs one call per dtype. Where elements may lie at
    any address, as those of an array within a message do, the kernel reads them by `load`.
    """
    if not array.flags.c_contiguous:
        array = np.ascontiguousarray(array)
    elif not array.flags.writeable:
        return array
    view = array.view()
    view.flags.writeable = False
    return view
