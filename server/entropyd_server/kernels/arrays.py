"""Types of the arrays that kernels take, for type checkers only."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Uint8s = npt.NDArray[np.uint8]
Uint16s = npt.NDArray[np.uint16]
Uint32s = npt.NDArray[np.uint32]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]
Hints = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
Records = npt.NDArray[np.void]
Floats = npt.NDArray[np.floating[Any]]
Integers = npt.NDArray[np.integer[Any]]
