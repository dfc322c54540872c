"""Random models of every kind, each with a bottleneck, and with indexes and a location where it takes them.

A number gives the same case on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import gcd
from typing import TYPE_CHECKING, Any

import numpy as np

import entropyd
from entropyd import priors
from entropyd.contract.dtypes import BOTTLENECK_DTYPES, numpy_dtype
from entropyd.contract.families import FAMILIES
from entropyd.contract.index_functions import IndexFunction
from tests.draws.configs import FAMILY_NAMES, ordinary_prior

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from entropyd.contract.prior import Prior

    Shape = tuple[int, ...]

KINDS = (
    "universal_batched",
    "continuous_batched",
    "continuous_indexed",
    "location_scale_indexed",
    "universal_indexed",
    "power_law",
)
_BATCHES: Sequence[Shape] = ((), (0,), (1,), (2,), (3,), (5,), (2, 2), (4,))
_RANGES: Sequence[Shape] = ((3,), (5,), (2, 3), (4, 1), (2, 2, 2))
_LEVELS = (1, 2, 3, 6, 10, 15)
_INDEX_DTYPES = ("uint8", "int8", "uint16", "int32", "int64", "float16", "float32", "float64")
_WITH_FUNCTIONS = (
    "NoisyNormal",
    "NoisyLogistic",
    "NoisyLaplace",
    "NoisyNormalMixture",
    "NoisyLogisticMixture",
)
# A multiple of every step of TensorFlow's kernels.
_STEP_ELEMENTS = 64


@dataclass(frozen=True)
class Case:
    """A model and what to code with it.

    Attributes:
      config: Its configuration.
      bottleneck: [*batch, *unit], with values in and out of the tables.
      unit_shape: The innermost axes, one for each of coding_rank.
      indexes: Of a model with indexes, in and out of their ranges, whole numbers or not; else None.
      loc: Of a LocationScaleIndexed model, or None.
    """

    config: Any
    bottleneck: npt.NDArray[Any]
    unit_shape: Shape
    indexes: npt.NDArray[Any] | None = None
    loc: npt.NDArray[Any] | None = None

    @property
    def has_functions(self) -> bool:
        return self.config.prior is not None and self.config.prior.index_ranges is not None

    @property
    def has_callables(self) -> bool:
        """Whether TFC can be given a callable for each parameter, not the densities at all indexes."""
        if self.config.index_ranges is None:
            return False
        family, parameters = FAMILIES[self.config.family], self.config.prior.parameters
        shape = self.config.index_ranges
        values = parameters.values()
        if not any(
            isinstance(value, IndexFunction) or np.shape(value)[: len(shape)] == shape for value in values
        ):
            return False  # TFC builds one row of numbers alone
        if self.config.kind == "location_scale_indexed":
            return parameters.keys() == {"loc", "scale"} and not np.any(parameters["loc"])
        return not family.network and family.nested is None

    @property
    def locations(self) -> list[Any]:
        """Its loc, if there is one."""
        return [] if self.loc is None else [self.loc]

    @property
    def between(self) -> Shape:
        """The axes of a unit that TFC's `decompress` has to be told, where there are no indexes."""
        return self.unit_shape[: len(self.unit_shape) - len(self.config.unit_axes)]

    def repeated(self) -> Case:
        """The same units and the last one again, until the elements are a multiple of 64.

        TensorFlow's CPU kernels compute what is left of an array after steps of a few elements by other
        approximations. Where a density is a small difference of two cumulatives, their last bits are much of
        it. So TFC has 26.776 bits for the third unit of case 351, and 26.786 where more units follow.
        """
        if not self.bottleneck.size:
            return self
        batched = self.bottleneck.ndim > len(self.unit_shape)
        rows = len(self.bottleneck) if batched else 1
        multiple = _STEP_ELEMENTS // gcd(_STEP_ELEMENTS, self.bottleneck.size // rows)
        order = np.minimum(np.arange(rows + -rows % multiple), rows - 1)

        def repeated(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
            array = array if batched else array[None]
            return array[order] if len(array) == rows else array

        indexes, loc = self.indexes, None if self.loc is None else repeated(self.loc)
        if indexes is not None and self.config.channel_axis is not None:
            axis = self.config.channel_axis
            indexes = np.moveaxis(repeated(np.moveaxis(indexes, axis, -1)), -1, axis)
        elif indexes is not None:
            indexes = repeated(indexes)
        return replace(self, bottleneck=repeated(self.bottleneck), indexes=indexes, loc=loc)

    @property
    def in_words(self) -> str:
        config = self.config
        family = "" if config.prior is None else f" of {config.family}"
        functions = " with functions" if self.has_functions else ""
        return f"{config.kind}{family}{functions}, {config.bottleneck_dtype} {self.bottleneck.shape}"


def case(number: int) -> Case:
    """A case of each kind in turn, and of each family in turn within a kind."""
    rng = np.random.default_rng([number, 11])
    kind = KINDS[number % len(KINDS)]
    family = FAMILY_NAMES[number // len(KINDS) % len(FAMILY_NAMES)]
    dtype = str(rng.choice(["float32", "float64"]))
    if kind == "power_law":
        return _power_law(rng)
    same: dict[str, Any] = {
        "tail_mass": float(rng.choice([2.0**-8, 2.0**-8, 1e-3])),
        "range_coder_precision": int(rng.choice([12, 12, 14, 16])),
        "bottleneck_dtype": str(rng.choice(BOTTLENECK_DTYPES)),
        "expected_grads": bool(rng.random() < 0.3),
        "laplace_tail_mass": float(rng.choice([0, 0, 1e-3])),
    }
    if kind != "location_scale_indexed":
        same["decode_sanity_check"] = bool(rng.random() < 0.8)
    if kind.startswith("universal"):
        same["num_noise_levels"] = int(rng.choice(_LEVELS))
    make = _batched if kind.endswith("batched") else _indexed
    return make(kind, rng, family, dtype, same)


def _batched(kind: str, rng: np.random.Generator, family: str, dtype: str, same: dict[str, Any]) -> Case:
    shape = ((), (2,), (3,), (1,), (2, 2))[rng.integers(5)]
    if kind == "continuous_batched":
        same["offset_heuristic"] = bool(rng.random() < 0.8)
        if rng.random() < 0.4:
            given = shape[-1:] if rng.random() < 0.7 else ()
            same["quantization_offset"] = rng.uniform(-0.5, 0.5, given).astype(dtype)
    kinds = {
        "universal_batched": entropyd.UniversalBatchedConfig,
        "continuous_batched": entropyd.ContinuousBatchedConfig,
    }
    extra = int(rng.integers(3))
    prior = ordinary_prior(family, rng, dtype, shape)
    config = kinds[kind](prior=prior, coding_rank=extra + len(shape), **same)
    unit_shape = (*_lengths(rng, extra), *shape)
    return Case(config, _bottleneck(rng, unit_shape, config.bottleneck_dtype), unit_shape)


def _indexed(kind: str, rng: np.random.Generator, family: str, dtype: str, same: dict[str, Any]) -> Case:
    located = kind == "location_scale_indexed"
    ranges = ((4,), (6,), (9,))[rng.integers(3)] if located else _RANGES[rng.integers(len(_RANGES))]
    if rng.random() < 0.5:
        prior = _prior_with_functions(rng, dtype, ranges, located=located)
    else:
        prior = ordinary_prior(family, rng, dtype, ranges)
    rank = int(rng.integers(kind == "universal_indexed", 4))
    unit_shape = _lengths(rng, rank)
    x = _bottleneck(rng, unit_shape, same["bottleneck_dtype"])
    axis: int | None = None
    if kind == "universal_indexed":
        axis = -1
    elif not located and (len(ranges) > 1 or rng.random() < 0.5):
        most = min(x.ndim, len(ranges))
        axis = int(rng.integers(-most - 1, most + 1))
    if kind == "continuous_indexed":
        same["channel_axis"] = axis
    kinds = {
        "continuous_indexed": entropyd.ContinuousIndexedConfig,
        "location_scale_indexed": entropyd.LocationScaleIndexedConfig,
        "universal_indexed": entropyd.UniversalIndexedConfig,
    }
    config = kinds[kind](prior=prior, coding_rank=rank, **same)
    indexes = _indexes(rng, x.shape, ranges, axis)
    loc = _loc(rng, x) if located and rng.random() < 0.8 else None
    if loc is not None and x.dtype.name != "bfloat16" and rng.random() < 0.3:
        x = x.astype(np.float64)
    return Case(config, x, unit_shape, indexes, loc)


def _power_law(rng: np.random.Generator) -> Case:
    rank = int(rng.integers(4))
    dtype = str(rng.choice(BOTTLENECK_DTYPES))
    config = entropyd.PowerLawConfig(rank, alpha=float(10 ** rng.uniform(-3, 0)), bottleneck_dtype=dtype)
    unit_shape = _lengths(rng, rank)
    x = _bottleneck(rng, unit_shape, dtype)
    return Case(config, np.where(rng.random(x.shape) < 0.5, np.zeros((), x.dtype), x), unit_shape)


def _lengths(rng: np.random.Generator, axes: int) -> Shape:
    return tuple(rng.choice([0, 1, 2, 4, 5, 6], p=[0.05, 0.15, 0.2, 0.2, 0.2, 0.2], size=axes).tolist())


def _bottleneck(rng: np.random.Generator, unit_shape: Shape, dtype: str) -> npt.NDArray[Any]:
    shape = (*_BATCHES[rng.integers(len(_BATCHES))], *unit_shape)
    values = np.where(rng.random(shape) < 0.1, rng.normal(0, 300, shape), rng.normal(0, 6, shape))
    return np.asarray(values, numpy_dtype(dtype))


def _indexes(rng: np.random.Generator, shape: Shape, ranges: Shape, axis: int | None) -> npt.NDArray[Any]:
    dtype = np.dtype(str(rng.choice(_INDEX_DTYPES)))
    lowest = 0 if dtype.kind == "u" else -1.5
    channels = [rng.uniform(lowest, length + 0.5, shape).astype(dtype) for length in ranges]
    return channels[0] if axis is None else np.stack(channels, axis)


def _loc(rng: np.random.Generator, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    shape = x.shape if rng.random() < 0.7 or not x.ndim else (*x.shape[:-1], 1)
    # NumPy subtracts nothing wider from bfloat16 in place, as TFC does.
    dtype = (
        x.dtype
        if x.dtype.name == "bfloat16" or rng.random() < 0.5
        else np.dtype(str(rng.choice(["float32", "float64"])))
    )
    return np.asarray(rng.normal(0, 10, shape), dtype)


def _prior_with_functions(rng: np.random.Generator, dtype: str, ranges: Shape, *, located: bool) -> Prior:
    # TFC's class gives a prior_fn nothing but loc and scale.
    family = str(rng.choice(_WITH_FUNCTIONS[: 3 if located else None]))
    within: Shape = (int(rng.integers(2, 4)),) if family.endswith("Mixture") else ()

    def constant(low: float, high: float) -> Any:
        return (
            rng.uniform(low, high, within).astype(dtype)
            if within
            else np.array(rng.uniform(low, high), dtype)
        )

    def axis() -> int:
        return int(rng.integers(len(ranges)))

    def table(values: Callable[[Shape], Any]) -> Any:
        place = int(np.argmax(ranges)) if ranges[place := axis()] == 1 else place
        return priors.table(values((ranges[place], *within)), axis=place)

    def uniform(low: float, high: float) -> Callable[[Shape], Any]:
        return lambda shape: rng.uniform(low, high, shape)

    def grid(low: float, high: float) -> Any:
        return rng.uniform(low, high, (*ranges, *within)).astype(dtype)

    locations = (
        lambda: constant(-3, 3),
        lambda: priors.affine(rng.uniform(-3, 3, within), rng.uniform(-1, 1, within), axis=axis()),
        lambda: table(uniform(-4, 4)),
        lambda: grid(-4, 4),
    )
    scales = (
        lambda: constant(0.5, 4),
        lambda: priors.affine(rng.uniform(0.5, 2, within), rng.uniform(0, 1, within), axis=axis()),
        lambda: priors.exp_affine(rng.uniform(-1, 1, within), rng.uniform(-0.2, 0.2, within), axis=axis()),
        lambda: priors.log_spaced(rng.uniform(0.2, 1, within), rng.uniform(2, 20, within), axis=axis()),
        lambda: table(uniform(0.3, 5)),
        lambda: grid(0.3, 5),
    )
    parameters: dict[str, Any] = {
        "loc": np.zeros((), dtype) if located else locations[rng.integers(len(locations))](),
        "scale": scales[rng.integers(len(scales))](),
    }
    if within:
        parameters["weight"] = (
            table(lambda shape: rng.dirichlet(np.full(within, 2.0), shape[:1]))
            if rng.random() < 0.4
            else priors.softmax_affine(rng.uniform(-1, 1, within), rng.uniform(-1, 1, within), axis=axis())
        )
    return priors.indexed(family, ranges, **parameters)
