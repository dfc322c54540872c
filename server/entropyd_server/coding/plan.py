"""What coding a unit of one shape needs for every symbol, in coding order.

The shared dither, the arrays that are compiled from it, and their cache. Invariant: a plan depends on the
codec and the broadcast_shape alone, so that every unit of every batch is coded alike.

Source: `UniversalBatchedEntropyModel._compute_indexes_and_offset` in TensorFlow Compression
(python/entropy_models/universal.py).
"""

from __future__ import annotations

import math
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from entropyd_server.coding.cache import BytesLRU
from entropyd_server.kernels.philox import stateless_uniform_int32

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

Shape = tuple[int, ...]

_DITHER_SEED = (1234, 1234)


def noise_levels(count: int, num_noise_levels: int) -> npt.NDArray[np.int32]:
    """Gives the dither: the noise level of each of the first `count` symbols of any coding unit.

    Returns:
      int32 [count], each in [0, num_noise_levels).
    """
    return stateless_uniform_int32(count, _DITHER_SEED, num_noise_levels)


@dataclass(frozen=True, eq=False)
class CodingPlan:
    """Row and quantization offset of every symbol of a coding unit, in coding order.

    Attributes:
      broadcast_shape: Dimensions between the batch dimensions and prior_shape.
      unit_shape: broadcast_shape + prior_shape, the dimensions of one coding unit.
      row_index: int32 [symbols], read-only: noise level * prior size + position in the prior.
      offsets: float32 or float64 [symbols], read-only: quantization offsets in the compute dtype.
      modelled_bits: Mean bits per symbol that a codec's tables expect; NaN in a plan of no codec.
    """

    broadcast_shape: Shape
    unit_shape: Shape
    row_index: npt.NDArray[np.int32]
    offsets: npt.NDArray[Any]
    modelled_bits: float = math.nan

    @classmethod
    def compile(
        cls, broadcast_shape: Shape, prior_shape: Shape, num_noise_levels: int, compute_dtype: npt.DTypeLike
    ) -> CodingPlan:
        """Derives the plan; costs some 50 ns and 20 bytes of passing memory per symbol."""
        unit_shape = broadcast_shape + prior_shape
        prior_size = math.prod(prior_shape)
        levels = noise_levels(math.prod(unit_shape), num_noise_levels)
        position = np.arange(prior_size, dtype=np.int32)
        row_index = (levels.reshape(-1, prior_size) * np.int32(prior_size) + position).reshape(-1)
        # In float64 whatever the compute dtype, because TFC divides Python's way and casts afterwards.
        offset_of_level = (np.arange(num_noise_levels) + 1) / (num_noise_levels + 1) - 0.5
        offsets = offset_of_level.astype(compute_dtype)[levels]
        for array in (row_index, offsets):
            array.flags.writeable = False
        return cls(broadcast_shape, unit_shape, row_index, offsets)

    @property
    def symbols(self) -> int:
        """Number of symbols in a coding unit."""
        return len(self.row_index)

    @property
    def nbytes(self) -> int:
        """Bytes held in memory."""
        return self.row_index.nbytes + self.offsets.nbytes

    def element(self, position: int) -> Shape:
        """Gives the index within the coding unit of the element that is coded as number `position`."""
        return tuple(int(index) for index in np.unravel_index(position, self.unit_shape))


class PlanCache:
    """The plans that were used last, at most `max_plans` of them and `max_bytes` in all; thread-safe.

    A plan that alone exceeds `max_bytes` is still kept until the next one comes: its caller is likely to
    send a second unit of the same shape. Callers that want a plan while it is compiled wait for it.
    """

    def __init__(self, *, max_plans: int, max_bytes: int) -> None:
        self._plans: BytesLRU[Shape, CodingPlan] = BytesLRU(max_bytes, max_plans)
        self._builds: dict[Shape, Future[CodingPlan]] = {}
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes of all plans that are held."""
        return self._plans.nbytes

    def holds(self, broadcast_shape: Shape) -> bool:
        """Says whether the plan is compiled and at hand."""
        return broadcast_shape in self._plans

    def get(self, broadcast_shape: Shape, build: Callable[[Shape], CodingPlan]) -> CodingPlan:
        """Gives the plan, compiling it unless it is held; raises what compiling raises.

        `build` is not kept: as a method of the cache's owner it would make a cycle of the two, which stays in
        memory until garbage is collected.
        """
        with self._lock:
            plan = self._plans.get(broadcast_shape)
            if plan is not None:
                return plan
            theirs = self._builds.get(broadcast_shape)
            if theirs is None:
                mine = self._builds[broadcast_shape] = Future()
        if theirs is not None:
            return theirs.result()
        try:
            plan = build(broadcast_shape)
        except BaseException as error:
            with self._lock:
                del self._builds[broadcast_shape]
            mine.set_exception(error)
            raise
        with self._lock:
            del self._builds[broadcast_shape]
            self._plans.put(broadcast_shape, plan, plan.nbytes)
        mine.set_result(plan)
        return plan
