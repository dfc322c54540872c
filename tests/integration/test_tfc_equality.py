"""The service and TFC agree to the byte, in both directions, over random configurations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

import entropyd
from entropyd import priors
from entropyd.contract.dtypes import BOTTLENECK_DTYPES, numpy_dtype
from tests.support.tfc_models import tfc_model, tfc_strings

if TYPE_CHECKING:
    import numpy.typing as npt

QUICK = ("NoisyNormal", "NoisyLogistic", "NoisyLaplace")
COMPUTE_DTYPE = {"float16": "float32", "bfloat16": "float32", "float32": "float32", "float64": "float64"}


@st.composite
def any_prior(draw: st.DrawFn) -> entropyd.Prior:
    """A prior of any family, with up to 6 elements that differ from one another."""
    shape = draw(array_shapes(min_dims=0, max_dims=2, min_side=1, max_side=3))
    dtype = draw(st.sampled_from(["float32", "float64"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    # What mixtures and networks take is TFC's search for their tails. test_prior_families compares that for
    # each of them; what else a configuration has meets them in one example of three.
    family = draw(st.sampled_from([*2 * QUICK, "NoisyNormalMixture", "NoisyLogisticMixture", "Deep"]))
    if family == "Deep":
        initial = priors.NoisyDeepFactorized(
            shape, num_filters=draw(st.sampled_from([(3, 3), (2,)])), init_scale=3, dtype=dtype
        )
        trained = {
            name: value + rng.normal(0, 0.2, value.shape).astype(dtype)
            for name, value in initial.parameters.items()
            if name != "batch_shape"
        }
        return entropyd.Prior("NoisyDeepFactorized", {"batch_shape": shape, **trained})
    components = (draw(st.integers(1, 3)),) if family.endswith("Mixture") else ()
    loc = rng.uniform(-4, 4, shape + components).astype(dtype)
    # TFC searches the tails of a mixture by gradient from 0 on, for ever where the density there underflows.
    narrowest, widest = (0, 1) if components else (-2, 2)
    scale = np.exp(rng.uniform(narrowest, widest, shape + components)).astype(dtype)
    if not components:
        return entropyd.Prior(family, {"loc": loc, "scale": scale})
    weight = rng.dirichlet(np.ones(components), shape).astype(dtype)
    return entropyd.Prior(family, {"loc": loc, "scale": scale, "weight": weight})


@st.composite
def any_config(draw: st.DrawFn) -> entropyd.UniversalBatchedConfig:
    prior = draw(any_prior())
    return entropyd.UniversalBatchedConfig(
        prior=prior,
        coding_rank=len(prior.batch_shape) + draw(st.integers(0, 2)),
        tail_mass=draw(st.sampled_from([2**-4, 2**-8, 2**-12])),
        range_coder_precision=draw(st.integers(9, 16)),
        bottleneck_dtype=draw(st.sampled_from(BOTTLENECK_DTYPES)),
        num_noise_levels=draw(st.sampled_from([1, 2, 7, 15, 16])),
        decode_sanity_check=draw(st.booleans()),
    )


@st.composite
def any_bottleneck(draw: st.DrawFn, config: entropyd.UniversalBatchedConfig) -> npt.NDArray[Any]:
    """Values of which some lie outside their row, near and far."""
    batch = draw(array_shapes(min_dims=0, max_dims=2, min_side=1, max_side=4))
    free = config.coding_rank - len(config.prior_shape)
    broadcast = draw(st.tuples(*[st.integers(1, 6)] * free))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = batch + broadcast + config.prior_shape
    spread = np.where(rng.random(shape) < 0.1, 10 ** rng.uniform(0, 4, shape), 3)
    x: npt.NDArray[Any] = (rng.normal(0, 1, shape) * spread).astype(numpy_dtype(config.bottleneck_dtype))
    return x


@settings(
    max_examples=15,  # `make draws` makes 400, of every kind
    deadline=None,
    derandomize=True,
    # Without shrinking: every example builds the tables of a model twice.
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_strings_and_values_equal_tfcs_in_both_directions(
    client: entropyd.Client, data: st.DataObject
) -> None:
    config = data.draw(any_config())
    model = client.create_model(config)
    x = data.draw(any_bottleneck(config))
    reference = tfc_model(config)
    np.testing.assert_array_equal(model.cdf, reference.cdf.numpy())
    np.testing.assert_array_equal(model.cdf_offset, reference.cdf_offset.numpy())

    wide = x.astype(COMPUTE_DTYPE[config.bottleneck_dtype])
    compressed = model.compress(x)
    strings = tfc_strings(reference, wide)
    assert compressed.strings.tolist() == strings.tolist()

    restored = reference.decompress(strings, compressed.broadcast_shape).numpy().astype(x.dtype)
    ours = model.decompress(strings, compressed.broadcast_shape)
    assert ours.dtype == x.dtype
    assert ours.tobytes() == restored.tobytes()
    np.testing.assert_array_equal(model.decompress(compressed), ours)
