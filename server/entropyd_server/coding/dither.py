"""The shared dither, drawn by a kernel; `contract.dither` has it in NumPy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from entropyd.contract.dither import SEED
from entropyd.contract.philox import scrambled
from entropyd_server.kernels.jit import kernel_input
from entropyd_server.kernels.philox import fill_uniform

_STREAM = kernel_input(scrambled(SEED))


def noise_levels(count: int, num_noise_levels: int, *, first: int = 0) -> npt.NDArray[np.int32]:
    """What the contract's function of this name draws."""
    drawn = np.empty(count, np.int32)
    fill_uniform(_STREAM, first, num_noise_levels, drawn)
    return drawn
