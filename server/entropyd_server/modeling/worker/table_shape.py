"""How large coding tables would be, and whether they may be built.

Invariant: configurations that pass cannot make TFC's table builder abort, truncate a row or overflow an
integer, and need no more memory than allowed; each check comes before the allocation it guards.

The arithmetic is that of `_build_tables` in tensorflow_compression/python/entropy_models/continuous_base.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from entropyd.contract.config import ModelConfig
from entropyd.contract.dtypes import Array
from entropyd.contract.errors import InvalidConfigError, LimitExceededError
from entropyd.contract.families import FAMILIES
from entropyd.contract.prior import Prior

MAX_PRECISION = 16
# What the coding plane takes (coding.tables.MAX_CDF_OFFSET): symbol + cdf_offset fits int32.
MAX_CDF_OFFSET = 2**29
_INT_BYTES = 4
# A row is the precision, the leading 0, one integer per interval, and one for the escape; and its offset.
_ROW_EXTRA_INTS = 4

# Arrays as large as the densities that are alive at once while TFC computes them, measured as peak growth of
# the process for TFP 0.22.1; for a mixture, per component.
_LIVE_ARRAYS = {
    "NoisyNormal": 15,
    "NoisyLogistic": 10,
    "NoisyLaplace": 10,
    "NoisyNormalMixture": 20,
    "NoisyLogisticMixture": 10,
}
# For other families: as much as any of the above, and some for each adapter around another prior.
_LIVE_ARRAYS_AT_MOST = 25
_LIVE_ARRAYS_PER_ADAPTER = 5


@dataclass(frozen=True)
class BuildLimits:
    """What building one model may take.

    Attributes:
      max_model_bytes: Bytes of `cdf` and `cdf_offset` together.
      max_build_memory_bytes: Bytes that the build may add to the worker's resident memory.
    """

    max_model_bytes: int
    max_build_memory_bytes: int


def check_rows(config: ModelConfig, limits: BuildLimits) -> None:
    """Raises LimitExceededError for too many rows, before anything of that size exists."""
    least_bytes = config.table_rows * (1 + _ROW_EXTRA_INTS) * _INT_BYTES
    if least_bytes > limits.max_model_bytes:
        rows = f"{config.table_rows} rows ({config.rows_in_words})"
        found = f"coding tables of {rows} have at least {least_bytes} bytes"
        raise _limit_exceeded("max_model_bytes", limits.max_model_bytes, found)


def in_order(offsets: Array, lower_tail: Array, upper_tail: Array) -> bool:
    """Whether every row between two tails, as in `check_extents`, has an integer."""
    minima, maxima = _extents(offsets, lower_tail, upper_tail)
    return not (maxima < minima).any()


def check_extents(
    config: ModelConfig, offsets: Array, lower_tail: Array, upper_tail: Array, limits: BuildLimits
) -> None:
    """Refuses tables that TFC cannot build, or that exceed a limit.

    Args:
      config: The configuration.
      offsets: What is added to the integers of each row where its density is sampled; of the prior's dtype,
        broadcast with the tails to all rows.
      lower_tail: Of the prior's dtype and batch shape, finite.
      upper_tail: The same.
      limits: What the build may take.

    Raises:
      InvalidConfigError: Names tail_mass, range_coder_precision or the prior.
      LimitExceededError: Names max_model_bytes or max_build_memory_bytes.
    """
    minima, maxima = _extents(offsets, lower_tail, upper_tail)
    lengths = maxima - minima + 1
    _check_order(config, lengths)
    _check_width(config, lengths)
    _check_range(config, minima, maxima)
    rows, longest = config.table_rows, int(lengths.max())
    table_bytes = (int(lengths.sum()) + rows * _ROW_EXTRA_INTS) * _INT_BYTES
    if table_bytes > limits.max_model_bytes:
        found = f"coding tables of {rows} rows with up to {longest} integers have {table_bytes} bytes"
        raise _limit_exceeded("max_model_bytes", limits.max_model_bytes, found)
    density_bytes = rows * longest * np.dtype(config.needed_prior.dtype).itemsize
    build_bytes = density_bytes * _live_arrays(config.needed_prior.on_grid())
    if build_bytes > limits.max_build_memory_bytes:
        found = f"the densities of {rows} rows with up to {longest} integers take about {build_bytes} bytes"
        raise _limit_exceeded("max_build_memory_bytes", limits.max_build_memory_bytes, found)


def _extents(
    offsets: Array, lower_tail: Array, upper_tail: Array
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Smallest and largest integer of every row, float64, prior_shape innermost.

    TFC subtracts in the prior's dtype, and then casts to int32 without looking; float64 keeps what overflows.
    """
    minima = np.floor(lower_tail - offsets).astype(np.float64)
    maxima = np.ceil(upper_tail - offsets).astype(np.float64)
    return minima, maxima


def _check_order(config: ModelConfig, lengths: npt.NDArray[np.float64]) -> None:
    shortest = lengths.min()
    if shortest < 1:
        element = element_name(config.prior_shape, int(lengths.argmin()))
        found = f"is {config.tail_mass:g}, at which the tails{element} cross by {1 - shortest:.0f} integers"
        raise InvalidConfigError.at("tail_mass", f"{found}; expected less")


def _check_width(config: ModelConfig, lengths: npt.NDArray[np.float64]) -> None:
    """A row needs a probability of at least 2^-precision for each integer and for the escape."""
    longest = float(lengths.max())
    room = 2**config.range_coder_precision - 1
    if longest <= room:
        return
    element = element_name(config.prior_shape, int(lengths.argmax()))
    extent = f"{longest:.12g} integers{element} between its tails at tail_mass {config.tail_mass:.9g}"
    if longest > 2**MAX_PRECISION - 1:
        most = 2**MAX_PRECISION - 1
        problem = f"covers {extent}, but even range_coder_precision {MAX_PRECISION} leaves room for {most}"
        raise InvalidConfigError.at("prior", f"{problem}: raise tail_mass, or use a narrower prior")
    needed = int(longest).bit_length()
    precision = config.range_coder_precision
    problem = f"is {precision}, which leaves room for {room}, but the prior covers {extent}"
    remedy = f"raise range_coder_precision to at least {needed}, raise tail_mass, or use a narrower prior"
    raise InvalidConfigError.at("range_coder_precision", f"{problem}: {remedy}")


def _check_range(
    config: ModelConfig, minima: npt.NDArray[np.float64], maxima: npt.NDArray[np.float64]
) -> None:
    """The densities are differences of the CDF half an integer to both sides, so halves must be exact."""
    dtype = config.needed_prior.dtype
    most = min(2 ** np.finfo(dtype).nmant, MAX_CDF_OFFSET)
    distance = np.maximum(np.abs(minima), np.abs(maxima))
    if distance.max() < most:
        return
    element = element_name(config.prior_shape, int(distance.argmax()))
    remedy = " or one with float64 parameters" if dtype == "float32" else ""
    found = f"covers integers as far as {distance.max():.12g} from 0{element}"
    expected = f"tables of a {dtype} prior reach {most}; expected a prior nearer to 0{remedy}"
    raise InvalidConfigError.at("prior", f"{found}; {expected}")


def _live_arrays(prior: Prior) -> int:
    if prior.nested is not None:
        live = _live_arrays(prior.nested) + _LIVE_ARRAYS_PER_ADAPTER
    elif FAMILIES[prior.family].network:
        live = 10 + 3 * max(array.shape[1] for name, array in prior.variables.items() if "matrix" in name)
    else:
        live = _LIVE_ARRAYS.get(prior.family, _LIVE_ARRAYS_AT_MOST)
    weight = prior.parameters.get("weight")
    return live if weight is None else live * int(np.shape(weight)[-1])


def element_name(prior_shape: tuple[int, ...], flat_index: int) -> str:
    """Names an element of the prior in a message, ` in element [2, 0]`; nothing if it has only one.

    `flat_index` is the position in an array whose last axes are prior_shape.
    """
    if not prior_shape:
        return ""
    index = np.unravel_index(flat_index % prod(prior_shape), prior_shape)
    return f" in element [{', '.join(str(int(i)) for i in index)}]"


def _limit_exceeded(limit: str, value: int, found: str) -> LimitExceededError:
    metadata = {"limit": limit, "value": str(value)}
    return LimitExceededError(f"{found}; the server's {limit} is {value}", metadata=metadata)
