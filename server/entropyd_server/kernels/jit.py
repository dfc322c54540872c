"""The one compilation policy of all kernels.

Owns the Numba options. It must not know what a kernel computes. Invariant: compiled code computes the same
numbers as the Python source under IEEE 754 rules: no fused multiply-add, no reassociation.

- `nogil`: kernels run in the server's own threads; Numba's threading layer is not safe to enter from
  several threads, so nothing here is `parallel`.
- `cache`: machine code is kept beside the source (or under NUMBA_CACHE_DIR), so that only the first start
  after an update compiles.
- `error_model="numpy"`: a division never raises; the kernels never divide by zero.
- `fastmath=False`, `boundscheck=False`: said out loud because strings depend on the first, and because the
  second must hold whatever the environment says: kernels prove their own bounds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

F = TypeVar("F", bound="Callable[..., object]")

# Type checkers see machine integers as `int`, which is what they are in compiled code's arithmetic.
# Numba takes mixed signed and unsigned 64-bit operands to float64, so all arithmetic is on `int64`.
int64 = cast("Callable[[Any], int]", np.int64)
# Indexing with a signed integer costs a test for negative ones, which no kernel uses.
at = cast("Callable[[int], int]", np.uint64)

_POLICY = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": False, "boundscheck": False}


def kernel(function: F) -> F:
    """Compiles an entry point, on its first call with arguments of new types."""
    return cast("F", njit(**_POLICY)(function))


def inlined(function: F) -> F:
    """Compiles a step of a kernel into its callers, so that coder state stays in registers."""
    return cast("F", njit(forceinline=True, **_POLICY)(function))


def kernel_input(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Gives a contiguous, aligned, read-only view, or such a copy where there can be no view.

    Numba compiles a kernel anew for arrays that differ in any of these, which takes seconds. So whatever a
    kernel only reads goes through here, and warming up needs one call per dtype.
    """
    view = np.require(array, requirements=("C", "A")).view()
    view.flags.writeable = False
    return view
