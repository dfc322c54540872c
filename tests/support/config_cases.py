"""Random configurations of models, as constructor arguments.

Invariant: every configuration that is drawn is legal; every family, dtype and optional argument occurs.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from entropyd import LocationScaleIndexedConfig, UniversalBatchedConfig, priors
from entropyd.contract.dtypes import BOTTLENECK_DTYPES

if TYPE_CHECKING:
    from entropyd.contract.index_functions import IndexFunction
    from entropyd.contract.kinds.indexed import IndexedConfig
    from entropyd.contract.prior import Prior

Array = npt.NDArray[Any]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
INT32 = st.integers(-(2**31), 2**31 - 1)
_SHAPES = hnp.array_shapes(min_dims=0, max_dims=2, max_side=3)


def _floats(dtype: str, low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, width=32 if dtype == "float32" else 64)


@st.composite
def parameters(
    draw: st.DrawFn, dtype: str, shape: tuple[int, ...], low: float = -1024.0, high: float = 1024.0
) -> Any:
    """A parameter that broadcasts to `shape`: an array of it, or an array or a list of its last axis."""
    elements = _floats(dtype, low, high)
    array = draw(hnp.arrays(dtype, draw(st.sampled_from([shape, shape[-1:]])), elements=elements))
    return draw(st.sampled_from([array, array.tolist()]))


@st.composite
def location_scale_priors(draw: st.DrawFn) -> Prior:
    family = draw(st.sampled_from([priors.NoisyNormal, priors.NoisyLogistic, priors.NoisyLaplace]))
    dtype, shape = draw(st.sampled_from(["float32", "float64"])), draw(_SHAPES)
    return family(loc=draw(parameters(dtype, shape)), scale=draw(parameters(dtype, shape, 0.125)))


@st.composite
def mixture_priors(draw: st.DrawFn) -> Prior:
    family = draw(st.sampled_from([priors.NoisyNormalMixture, priors.NoisyLogisticMixture]))
    dtype, components = draw(st.sampled_from(["float32", "float64"])), draw(st.integers(1, 3))
    shape = (*draw(_SHAPES), components)
    shares = draw(hnp.arrays(np.int64, shape, elements=st.integers(1, 9)))
    weight = (shares / shares.sum(axis=-1, keepdims=True)).astype(dtype)
    return family(draw(parameters(dtype, shape)), draw(parameters(dtype, shape, 0.125)), weight)


@st.composite
def deep_factorized_priors(draw: st.DrawFn) -> Prior:
    dtype, shape = draw(st.sampled_from(["float32", "float64"])), draw(_SHAPES)
    num_filters = tuple(draw(st.lists(st.integers(1, 3), max_size=2)))
    variables = {}
    if draw(st.booleans()):
        bias = (prod(shape), [*num_filters, 1][0], 1)
        variables["bias_0"] = draw(hnp.arrays(dtype, bias, elements=_floats(dtype, -8, 8)))
    return priors.NoisyDeepFactorized(
        shape, num_filters, init_scale=draw(st.integers(1, 20)), dtype=np.dtype(dtype), variables=variables
    )


@st.composite
def nested_priors(draw: st.DrawFn) -> Prior:
    """An adapter, or a mixture, of another distribution."""
    dtype, shape = draw(st.sampled_from(["float32", "float64"])), draw(_SHAPES)
    components = (*shape, draw(st.integers(1, 3)))
    name = draw(st.sampled_from(["Normal", "Laplace", "Gumbel"]))
    loc, scale = draw(parameters(dtype, components)), draw(parameters(dtype, components, 0.125))
    base = priors.tfp(name, loc=loc, scale=scale)
    kind = draw(st.sampled_from(["noise", "round", "soft", "mixture", "deep"]))
    if kind == "mixture":
        weight = np.full(components[-1:], 1 / components[-1], base.dtype)
        return priors.NoisyMixtureSameFamily(weight, base)
    if kind == "deep":
        return priors.NoisySoftRoundedDeepFactorized(shape, (2,), dtype=np.dtype(dtype), alpha=3)
    if kind == "round":
        base = priors.RoundAdapter(base)
    elif kind == "soft":
        base = priors.SoftRoundAdapter(base, alpha=draw(st.integers(1, 9)))
    return priors.UniformNoiseAdapter(base)


def any_prior() -> st.SearchStrategy[Prior]:
    return location_scale_priors() | mixture_priors() | deep_factorized_priors() | nested_priors()


@st.composite
def config_arguments(draw: st.DrawFn) -> dict[str, Any]:
    """Constructor arguments of a legal configuration; optional ones are there or not."""
    prior = draw(any_prior())
    vectors = hnp.arrays(np.int32, st.integers(1, 4), elements=INT32)
    optional: dict[str, Any] = {
        "compression": st.booleans(),
        "laplace_tail_mass": st.floats(0, 1, exclude_max=True),
        "expected_grads": st.booleans(),
        "tail_mass": st.floats(0, 1, exclude_min=True, exclude_max=True),
        "range_coder_precision": st.integers(1, 16),
        "bottleneck_dtype": st.sampled_from(BOTTLENECK_DTYPES),
        "num_noise_levels": st.integers(1, 65535),
        "stateless": st.booleans(),
        "decode_sanity_check": st.booleans(),
        "tables": st.tuples(vectors, vectors),
    }
    chosen = draw(st.sets(st.sampled_from(sorted(optional))))
    given = {name: draw(optional[name]) for name in sorted(chosen)}
    if "tables" in given:
        given.pop("compression", None)
    rank = len(prior.batch_shape)
    return {"prior": prior, "coding_rank": draw(st.integers(rank, rank + 3)), **given}


def configs() -> st.SearchStrategy[UniversalBatchedConfig]:
    return config_arguments().map(lambda given: UniversalBatchedConfig(**given))


def _vectors(components: int | None, low: float, high: float) -> st.SearchStrategy[Any]:
    """An argument of a function of the index: a number, or a vector of components."""
    numbers = st.floats(low, high)
    return numbers if components is None else numbers | hnp.arrays(np.float64, components, elements=numbers)


@st.composite
def index_functions(
    draw: st.DrawFn, ranges: tuple[int, ...], components: int | None = None, *, positive: bool = False
) -> IndexFunction:
    """A function of the index over a grid, of numbers or of numbers and vectors; positive or of any sign."""
    axis = draw(st.integers(0, len(ranges) - 1))
    name = draw(st.sampled_from(["exp_affine", "log_spaced", "table"] if positive else ["affine", "table"]))
    if name == "table":
        shape = (ranges[axis], *draw(st.sampled_from([(), () if components is None else (components,)])))
        values = draw(hnp.arrays(np.float64, shape, elements=st.floats(0.125 if positive else -8, 8)))
        return priors.table(values, axis=axis)
    if name == "log_spaced":
        low, high = draw(_vectors(components, 0.125, 8)), draw(_vectors(components, 0.125, 8))
        return priors.log_spaced(low, high, axis=axis)
    offset, slope = draw(_vectors(components, -2, 2)), draw(_vectors(components, -1, 1))
    if components is not None and draw(st.booleans()):
        slope, axis = draw(hnp.arrays(np.float64, (components, len(ranges)), elements=st.floats(-1, 1))), 0
    return (priors.affine if name == "affine" else priors.exp_affine)(offset, slope, axis=axis)


INDEX_RANGES = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)


@st.composite
def indexed_priors(draw: st.DrawFn, ranges: st.SearchStrategy[tuple[int, ...]] = INDEX_RANGES) -> Prior:
    """A prior with index_ranges: numbers, arrays over the grid and functions; simple, mixture or nested."""
    shape, dtype = draw(ranges), draw(st.sampled_from(["float32", "float64"]))
    kind = draw(st.sampled_from(["simple", "mixture", "components", "base"]))
    components = draw(st.integers(1, 3)) if kind in {"mixture", "components"} else None
    grid = shape if components is None else (*shape, components)

    def parameter(low: float, *, positive: bool) -> Any:
        array = hnp.arrays(dtype, st.sampled_from([grid, grid[-1:]]), elements=_floats(dtype, low, 8))
        functions = index_functions(shape, components, positive=positive)
        return draw(st.floats(low, 8) | array | functions)

    loc, scale = parameter(-8, positive=False), parameter(0.125, positive=True)
    if components is None:
        if kind == "base":
            base = priors.indexed("tfp.Logistic", shape, loc=loc, scale=scale)
            return priors.indexed("UniformNoiseAdapter", shape, base=base)
        return priors.indexed("NoisyNormal", shape, loc=loc, scale=scale)
    # Components are counted by both; a number or a plain function alone counts none.
    loc = priors.affine(np.linspace(-1, 1, components), 0.5)
    offset = np.linspace(-2, 2, components)
    weight = draw(
        st.just(np.full(components, 1 / components).tolist())
        | st.builds(priors.softmax_affine, st.just(offset), _vectors(components, -1, 1))
    )
    if kind == "mixture":
        return priors.indexed("NoisyLogisticMixture", shape, loc=loc, scale=scale, weight=weight)
    laplace = priors.indexed("tfp.Laplace", shape, loc=loc, scale=scale)
    return priors.indexed("NoisyMixtureSameFamily", shape, weight=weight, components=laplace)


@st.composite
def ordinary_grid_priors(draw: st.DrawFn) -> Prior:
    """An ordinary prior whose batch shape has at least one axis."""
    return draw(any_prior().filter(lambda prior: len(prior.batch_shape) > 0))


@st.composite
def indexed_configs(draw: st.DrawFn, kind: Any) -> IndexedConfig:
    """A legal configuration of one of the indexed kinds; optional arguments are there or not."""
    vectors = hnp.arrays(np.int32, st.integers(1, 4), elements=INT32)
    one_range = kind is LocationScaleIndexedConfig
    prior = draw(indexed_priors() if not one_range else indexed_priors(st.integers(1, 9).map(lambda n: (n,))))
    if not one_range and draw(st.booleans()):
        prior = draw(ordinary_grid_priors())
    rank = len(prior.batch_shape)
    optional: dict[str, Any] = {
        "compression": st.booleans(),
        "laplace_tail_mass": st.floats(0, 1, exclude_max=True),
        "expected_grads": st.booleans(),
        "tail_mass": st.floats(0, 1, exclude_min=True, exclude_max=True),
        "range_coder_precision": st.integers(1, 16),
        "bottleneck_dtype": st.sampled_from(BOTTLENECK_DTYPES),
        "prior_dtype": st.sampled_from([None, prior.dtype]),
        "stateless": st.booleans(),
        "tables": st.tuples(vectors, vectors),
        "decode_sanity_check": st.booleans(),
        "num_noise_levels": st.integers(1, 65535),
        "channel_axis": st.integers(-rank - 1, rank) | (st.none() if rank == 1 else st.nothing()),
    }
    optional = {name: values for name, values in optional.items() if name in kind.fields}
    given = {name: draw(optional[name]) for name in sorted(draw(st.sets(st.sampled_from(sorted(optional)))))}
    if "tables" in given:
        given.pop("compression", None)
    config: IndexedConfig = kind(prior=prior, coding_rank=draw(st.integers(kind.least_rank, 4)), **given)
    return config


def paths(document: Any) -> list[tuple[Any, ...]]:
    """The way to every value inside a JSON document."""
    if isinstance(document, dict):
        inner = list(document.items())
    elif isinstance(document, list):
        inner = list(enumerate(document))
    else:
        return [()]
    below = ((key, *path) for key, value in inner for path in paths(value))
    return [*((key,) for key, _ in inner), *below]


def with_a_value_replaced(document: Any, value: Any, data: st.DataObject) -> Any:
    """The JSON document with `value` in the place of any other."""
    *way, last = data.draw(st.sampled_from([path for path in paths(document) if path]))
    spot = document
    for key in way:
        spot = spot[key]
    spot[last] = value
    return document
