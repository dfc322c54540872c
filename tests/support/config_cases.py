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

from entropyd import UniversalBatchedConfig, priors
from entropyd.contract.dtypes import BOTTLENECK_DTYPES

if TYPE_CHECKING:
    from entropyd.contract.prior import Prior

Array = npt.NDArray[Any]
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
