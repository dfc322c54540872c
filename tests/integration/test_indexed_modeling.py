"""Tables, bit costs and gradients of models with indexes and of PowerLaw, against TFC's own objects."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tensorflow as tf

from entropyd import (
    ContinuousIndexedConfig,
    LocationScaleIndexedConfig,
    UniversalIndexedConfig,
    priors,
)
from entropyd.contract.dtypes import element_dtype, numpy_dtype
from entropyd_server.modeling.perturbation import PerturbCall, PerturbKey
from entropyd_server.modeling.worker.entropy_model import build_tables
from entropyd_server.modeling.worker.live_model import LiveModel
from entropyd_server.modeling.worker.table_shape import BuildLimits
from tests.support.tfc_indexed import tfc_indexed

if TYPE_CHECKING:
    from entropyd.contract.prior import Prior
    from entropyd_server.modeling.perturbation import Perturbed

RNG = np.random.default_rng(23)
LIMITS = BuildLimits(2**26, 2**32)


def _scales(**more: Any) -> dict[str, Prior]:
    """Priors of one index, by what is peculiar to them."""
    grid = RNG.uniform(0.3, 9, 7).astype("f")
    return {
        "log_spaced": priors.indexed("NoisyNormal", (64,), loc=0.0, scale=priors.log_spaced(0.11, 256.0)),
        "exp_affine": priors.indexed("NoisyLogistic", (12,), loc=0.0, scale=priors.exp_affine(-1.3, 0.31)),
        "affine": priors.indexed("NoisyLaplace", (5,), loc=0.0, scale=priors.affine(0.7, 1.9)),
        "table": priors.indexed("NoisyNormal", (7,), loc=0.0, scale=priors.table(grid)),
        "grid": priors.indexed("NoisyNormal", (7,), loc=0.0, scale=grid),
        "ordinary": priors.NoisyNormal(loc=0.0, scale=grid),
        "float64": priors.indexed("NoisyNormal", (9,), loc=np.float64(0), scale=priors.log_spaced(0.2, 30)),
        "without noise": priors.indexed("tfp.Cauchy", (4,), loc=0.0, scale=priors.log_spaced(0.5, 2)),
    } | more


def _grids() -> dict[str, Prior]:
    """Priors of several indexes, or of mixtures."""
    return {
        "two": priors.indexed(
            "NoisyNormal", (4, 6), loc=priors.affine(-3, 2.5), scale=priors.log_spaced(0.3, 9, axis=1)
        ),
        "array": priors.indexed(
            "NoisyLogistic",
            (3, 4),
            loc=RNG.normal(0, 3, (3, 1)).astype("f"),
            scale=priors.affine(1, 1, axis=1),
        ),
        "mixture": priors.indexed(
            "NoisyLogisticMixture",
            (3, 4, 5),
            loc=priors.affine([-5, 1], [[1, 0, 2], [2, 0.5, 0]]),
            scale=priors.exp_affine(0.1, 0.3, axis=1),
            weight=priors.softmax_affine([2, -2], [-1, 1], axis=2),
        ),
        "mixture of arrays": priors.indexed(
            "NoisyNormalMixture",
            (4,),
            loc=[-2.0, 0.5, 3.0],
            scale=RNG.uniform(0.5, 3, (4, 3)).astype("f"),
            weight=priors.table(RNG.dirichlet([2, 2, 2], 4)),
        ),
    }


def _configs() -> dict[str, Any]:
    """Configurations of every kind with indexes."""
    found: dict[str, Any] = {}
    for name, prior in _scales().items():
        found[f"continuous {name}"] = ContinuousIndexedConfig(prior, 1, channel_axis=None)
        if name != "ordinary":
            found[f"scale {name}"] = LocationScaleIndexedConfig(prior, 1)
        found[f"universal {name}"] = UniversalIndexedConfig(prior, 1, num_noise_levels=3)
    for name, prior in _grids().items():
        found[f"continuous {name}"] = ContinuousIndexedConfig(prior, 1, tail_mass=1e-3)
        found[f"universal {name}"] = UniversalIndexedConfig(prior, 1, range_coder_precision=14)
    found["first axis"] = ContinuousIndexedConfig(_grids()["two"], 2, channel_axis=0)
    found["one channel"] = ContinuousIndexedConfig(_scales()["affine"], 2, channel_axis=-1)
    return found


CONFIGS = _configs()


@pytest.mark.parametrize("name", CONFIGS)
def test_tables_are_those_of_tfc(name: str) -> None:
    config = CONFIGS[name]
    built = build_tables(config, LIMITS).tables
    theirs = tfc_indexed(config)
    np.testing.assert_array_equal(built.cdf, theirs.cdf.numpy())
    np.testing.assert_array_equal(built.cdf_offset, theirs.cdf_offset.numpy())
    assert len(built.cdf_offset) == config.table_rows


def _perturb(
    config: Any,
    x: Any,
    indexes: Any = None,
    *,
    training: bool = False,
    gradients: bool = False,
    first_unit: int = 0,
    live: LiveModel | None = None,
) -> Perturbed:
    """Perturbs [units, ...]; the axis of indexes that counts ranges comes last."""
    key = PerturbKey(
        config.model_id,
        training,
        gradients,
        x.shape[1:],
        index_gradient=gradients and indexes is not None and indexes.dtype.kind != "i",
        index_dtype=None if indexes is None else indexes.dtype.name,
    )
    call = PerturbCall(
        config, key, _elements(x), 1, None if indexes is None else _elements(indexes), first_unit
    )
    return (live or LiveModel(config)).perturb(key, call.part(0, len(x)))


def _elements(array: Any) -> Any:
    return array.view(element_dtype(array.dtype.name))


def _inputs(config: Any, units: int = 3, dtype: str = "float32") -> tuple[Any, Any]:
    """A bottleneck, and indexes with fractions, some beyond their ranges."""
    shape = (units, *RNG.integers(2, 6, config.coding_rank))
    x = (RNG.normal(0, 6, shape)).astype(numpy_dtype(config.bottleneck_dtype))
    indexes = np.stack([RNG.uniform(-0.7, length + 0.3, shape) for length in config.index_ranges], -1)
    return x, (indexes[..., 0] if config.channel_axis is None else indexes).astype(dtype)


def _as_called(config: Any, indexes: Any) -> Any:
    """The indexes with their axis where TFC's object has it."""
    return indexes if config.channel_axis is None else np.moveaxis(indexes, -1, config.channel_axis)


@pytest.mark.parametrize("dtype", ["float32", "int32"])
@pytest.mark.parametrize("name", CONFIGS)
def test_without_training_results_are_those_of_tfc(name: str, dtype: str) -> None:
    config = CONFIGS[name]
    x, indexes = _inputs(config, dtype=dtype)
    ours = _perturb(config, x, indexes, gradients=True)
    model = tfc_indexed(config, compression=False)
    given = tf.constant(_as_called(config, indexes))
    with tf.GradientTape() as tape:
        bottleneck = tf.constant(x)
        tape.watch([bottleneck, given] if dtype == "float32" else [bottleneck])
        perturbed, bits = model(bottleneck, given, training=False)
        total = tf.reduce_sum(bits)
    gradient, index_gradient = tape.gradient(total, [bottleneck, given])
    np.testing.assert_array_equal(ours.perturbed, perturbed.numpy())
    np.testing.assert_allclose(ours.bits, bits.numpy(), rtol=1e-5)
    _assert_gradients(config, ours, gradient, index_gradient)


def _assert_gradients(config: Any, ours: Perturbed, gradient: Any, index_gradient: Any) -> None:
    """Gradients of TFC, None for no connection, to 1e-5 of the largest."""
    if index_gradient is not None and config.channel_axis is not None:
        index_gradient = np.moveaxis(np.asarray(index_gradient), config.channel_axis, -1)
    for found, expected in ((ours.gradient, gradient), (ours.index_gradient, index_gradient)):
        if found is ours.index_gradient and expected is None:
            continue
        assert found is not None
        expected = np.zeros_like(found) if expected is None else np.asarray(expected)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


FUNCTIONS = [
    name for name in CONFIGS if "table" not in name and "grid" not in name and "ordinary" not in name
]


@pytest.mark.parametrize("expected_grads", [False, True])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_in_training_are_those_of_tfc(
    name: str, expected_grads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The same noise in both, of the shape of the bottleneck.
    noise = {"float32": RNG.uniform(-0.5, 0.5, 10**4).astype("f"), "float64": RNG.uniform(-0.5, 0.5, 10**4)}

    def uniform(shape: Any, minval: float, maxval: float, dtype: Any) -> Any:
        del minval, maxval
        return tf.reshape(tf.constant(noise[tf.as_dtype(dtype).name])[: tf.reduce_prod(shape)], shape)

    config = dataclasses.replace(CONFIGS[name], expected_grads=expected_grads, laplace_tail_mass=1e-3)
    x, indexes = _inputs(config)
    monkeypatch.setattr(tf.random, "uniform", uniform)
    ours = _perturb(config, x, indexes, training=True, gradients=True)
    model = tfc_indexed(config, compression=False)
    bottleneck, given = tf.constant(x), tf.constant(_as_called(config, indexes))
    with tf.GradientTape() as tape:
        tape.watch([bottleneck, given])
        perturbed, bits = model(bottleneck, given, training=True)
        total = tf.reduce_sum(bits)
    np.testing.assert_array_equal(ours.perturbed, perturbed.numpy())
    np.testing.assert_allclose(ours.bits, bits.numpy(), rtol=1e-5)
    _assert_gradients(config, ours, *tape.gradient(total, [bottleneck, given]))
