"""How kernels are compiled: the options of Numba.

Invariant: compiled code computes the same numbers as the Python source under IEEE 754 rules, without fused
multiply-add or reassociation.

- `nogil`: kernels run in the server's threads. Nothing is `parallel`, because several threads cannot enter
  Numba's own threading layer.
- `error_model="numpy"`: a division never raises; the kernels never divide by zero.
- `fastmath=False`, because strings depend on it; `boundscheck=False`, whatever the environment says, because
  kernels prove their own bounds.
- `kernels.cached` stores machine code in files.

With NUMBA_DISABLE_JIT=1 kernels run as Python, where an index out of bounds raises; the fuzzers use that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from numba import njit

from entropyd_server.kernels.cached import stored

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

F = TypeVar("F", bound="Callable[..., object]")

# Type checkers see machine integers as `int`, which is what they are in compiled code's arithmetic.
# Numba takes mixed signed and unsigned 64-bit operands to float64, so all arithmetic is on `int64`.
int64 = cast("Callable[[Any], int]", np.int64)
# Indexing with a signed integer costs a test for negative ones, which no kernel uses.
at = cast("Callable[[int], int]", np.uint64)

_POLICY = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": False,
    "boundscheck": False,
    "no_cfunc_wrapper": True,  # nothing calls kernels from C
}
# Steps and passes make no arrays. Numba would count references to their arguments, and where it fails to see
# that the counts cancel out, coding takes three times as long.
_PASS_POLICY = {**_POLICY, "_nrt": False}
# What Python would need to call a step is not compiled; if it did nevertheless, the process would end.
_STEP_POLICY = {**_PASS_POLICY, "forceinline": True, "no_cpython_wrapper": True}


def kernel(function: F) -> F:
    """Compiles a kernel on its first call with arguments of new types."""
    return cast("F", stored(njit(**_POLICY)(function)))


def called(function: F) -> F:
    """Compiles a function that kernels call, such as a pass over a block, and that LLVM may inline."""
    return cast("F", stored(njit(**_PASS_POLICY)(function)))


def inlined(function: F) -> F:
    """Compiles a step of a kernel into its callers, so that coder state stays in registers."""
    return cast("F", stored(njit(**_STEP_POLICY)(function)))


def kernel_input(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Returns a contiguous, read-only view of an array, or such a copy.

    Numba compiles a kernel anew, which takes seconds, for arrays that differ in either. So everything that a
    kernel only reads goes through here. Unaligned arrays, as within a message, are views too: kernels read
    them by `intrinsics.load`.
    """
    if not array.flags.c_contiguous:
        array = np.ascontiguousarray(array)
    elif not array.flags.writeable:
        return array
    view = array.view()
    view.setflags(write=False)
    return view


def kernel_bytes(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Returns the bytes of an array as `kernel_input` does: uint8 [bytes]."""
    flat: npt.NDArray[np.uint8] = kernel_input(array).reshape(-1).view(np.uint8)
    return flat
