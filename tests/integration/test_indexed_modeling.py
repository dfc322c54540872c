"""Tables, bit costs and gradients of models with indexes and of PowerLaw, against TFC's own objects."""

from __future__ import annotations

import dataclasses
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tensorflow as tf

from entropyd import (
    ContinuousBatchedConfig,
    ContinuousIndexedConfig,
    InvalidConfigError,
    LocationScaleIndexedConfig,
    PowerLawConfig,
    UniversalIndexedConfig,
    priors,
)
from entropyd.contract.dtypes import element_dtype, numpy_dtype
from entropyd_server.modeling.perturbation import PerturbCall, Perturbed, PerturbKey, PerturbUnits
from entropyd_server.modeling.worker.entropy_model import build_tables
from entropyd_server.modeling.worker.live_model import LiveModel
from entropyd_server.modeling.worker.table_shape import BuildLimits
from tests.support.tfc_indexed import tfc_indexed

if TYPE_CHECKING:
    from entropyd.contract.prior import Prior

RNG = np.random.default_rng(23)
KINDS = (ContinuousIndexedConfig, LocationScaleIndexedConfig, UniversalIndexedConfig)
LIMITS = BuildLimits(2**26, 2**32)


def _scales() -> dict[str, Prior]:
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
    }


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
            loc=priors.affine([-5, 1], [[1.0, 0.0, 2.0], [2.0, 0.5, 0.0]]),
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
    """Configurations of every kind with indexes; kinds in turn, because each takes seconds."""
    made: tuple[tuple[str, Any], ...] = (
        ("continuous", lambda prior: ContinuousIndexedConfig(prior, 1, channel_axis=None)),
        ("scale", lambda prior: LocationScaleIndexedConfig(prior, 1)),
        ("universal", lambda prior: UniversalIndexedConfig(prior, 1, num_noise_levels=3)),
    )
    found: dict[str, Any] = {}
    for number, (name, prior) in enumerate(_scales().items()):
        for kind, make in made if name == "log_spaced" else [made[number % 3]]:
            found[f"{kind} {name}"] = make(prior)
    for number, (name, prior) in enumerate(_grids().items()):
        if number % 2:
            found[f"universal {name}"] = UniversalIndexedConfig(prior, 1, range_coder_precision=14)
        else:
            found[f"continuous {name}"] = ContinuousIndexedConfig(prior, 1, tail_mass=1e-3)
    found["first axis"] = ContinuousIndexedConfig(_grids()["two"], 2, channel_axis=0)
    found["one channel"] = ContinuousIndexedConfig(_scales()["affine"], 2, channel_axis=-1)
    return found


CONFIGS = _configs()
# TFC searches for tails of mixtures for seconds.
BUILT = [name for name in CONFIGS if not name.endswith("mixture of arrays")]


@pytest.mark.parametrize("name", BUILT)
def test_tables_are_those_of_tfc(name: str) -> None:
    config = CONFIGS[name]
    built = build_tables(config, LIMITS).tables
    theirs = tfc_indexed(config)
    np.testing.assert_array_equal(built.cdf, theirs.cdf.numpy())
    np.testing.assert_array_equal(built.cdf_offset, theirs.cdf_offset.numpy())
    assert len(built.cdf_offset) == config.table_rows


# In turn, because each takes a second.
DTYPES = list(zip(CONFIGS, cycle(["float32", "int32", "float64"]), strict=False))
FUNCTIONS = [name for name in CONFIGS if not any(kind in name for kind in ("table", "grid", "ordinary"))]
EXPECTED_GRADS = list(zip(FUNCTIONS, cycle([False, True]), strict=False))


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
    given = None if indexes is None else _elements(indexes)
    call = PerturbCall(config, key, _elements(x), 1, given, first_unit)
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


@pytest.mark.parametrize(("name", "dtype"), DTYPES)
def test_without_training_results_are_those_of_tfc(name: str, dtype: str) -> None:
    config = CONFIGS[name]
    x, indexes = _inputs(config, dtype=dtype)
    ours = _perturb(config, x, indexes, gradients=True)
    model = tfc_indexed(config, compression=False)
    given = tf.constant(_as_called(config, indexes))
    with tf.GradientTape() as tape:
        bottleneck = tf.constant(x)
        tape.watch([bottleneck, given] if given.dtype.is_floating else [bottleneck])
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
        theirs = np.zeros_like(found) if expected is None else np.asarray(expected)
        np.testing.assert_allclose(found, theirs, rtol=1e-5, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.parametrize(("name", "expected_grads"), EXPECTED_GRADS)
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


def test_a_unit_takes_the_dither_of_its_number() -> None:
    config = UniversalIndexedConfig(_scales()["affine"], 2, num_noise_levels=7)
    live = LiveModel(config)
    x, indexes = _inputs(config, units=5)
    whole = _perturb(config, x, indexes, live=live)
    for first in range(1, 5):
        piece = _perturb(config, x[first:], indexes[first:], live=live, first_unit=first)
        np.testing.assert_array_equal(piece.perturbed, whole.perturbed[first:])
        np.testing.assert_array_equal(piece.bits, whole.bits[first:])
    assert (_perturb(config, x, indexes, live=live, first_unit=1).perturbed != whole.perturbed).any()


def test_a_number_far_away_takes_no_longer() -> None:
    config = UniversalIndexedConfig(_scales()["affine"], 1, num_noise_levels=7)
    x, indexes = _inputs(config, units=1)
    far = [_perturb(config, x, indexes, first_unit=2**50 + number).perturbed for number in range(2)]
    assert (far[0] != far[1]).any()


def test_units_of_several_callers_get_what_each_gets_alone() -> None:
    config = UniversalIndexedConfig(_grids()["two"], 1)
    live = LiveModel(config)
    x, indexes = _inputs(config, units=6)
    key = PerturbKey("", training=False, gradient=True, coding_shape=x.shape[1:], index_dtype="float32")
    first_units = [7, 0, 2**40]
    parts = [
        PerturbCall(config, key, x[i : i + 2], 1, indexes[i : i + 2], first).part(0, 2)
        for i, first in zip((0, 2, 4), first_units, strict=True)
    ]
    together = live.perturb(key, PerturbUnits.join(parts))
    alone = Perturbed.join([live.perturb(key, part) for part in parts])
    for name, array in alone.by_name.items():
        np.testing.assert_array_equal(together.by_name[name], array)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_without_training_the_perturbed_array_is_what_tfc_decodes(kind: Any, dtype: str) -> None:
    no_channel = {"channel_axis": None} if kind is ContinuousIndexedConfig else {}
    config = kind(_scales()["exp_affine"], 2, bottleneck_dtype=dtype, **no_channel)
    x, indexes = _inputs(config, dtype="int32")
    ours = _perturb(config, x, indexes).perturbed
    model = tfc_indexed(config)
    computed = x.astype(model.bottleneck_dtype.as_numpy_dtype)
    theirs = model.decompress(model.compress(computed, tf.constant(indexes)), tf.constant(indexes)).numpy()
    np.testing.assert_array_equal(ours.view(x.dtype), theirs.astype(x.dtype))


def test_offsets_are_those_of_int32_indexes_whatever_the_dtype() -> None:
    # 7 is no power of two, so that offsets in float32 are others.
    config = UniversalIndexedConfig(_scales()["affine"], 2, num_noise_levels=6, bottleneck_dtype="float64")
    x, indexes = _inputs(config, dtype="int32")
    ours = _perturb(config, x, indexes.astype("float32")).perturbed
    theirs, _ = tfc_indexed(config, compression=False)(x, tf.constant(indexes), training=False)
    np.testing.assert_array_equal(ours, theirs.numpy())


@pytest.mark.parametrize(
    "prior",
    [
        priors.NoisyDeepFactorized((4,), init_scale=3),
        priors.NoisySoftRoundedDeepFactorized((4,), alpha=3),
        priors.NoisyRoundedDeepFactorized((2, 2), (2,), dtype=np.float64),
        priors.DeepFactorized((4,)),
        priors.UniformNoiseAdapter(
            priors.SoftRoundAdapter(priors.tfp("Normal", loc=[0, 1, 2, 3.0], scale=1), 3)
        ),
        priors.NoisyMixtureSameFamily(
            [0.3, 0.7], priors.tfp("Laplace", loc=RNG.normal(0, 3, (4, 2)), scale=np.ones((4, 1)))
        ),
        priors.NoisyNormalMixture(loc=[[0.0, 3.0]] * 4, scale=2.0, weight=[0.5, 0.5]),
    ],
    ids=lambda prior: prior.family,
)
def test_an_index_that_is_the_position_gives_the_bits_of_the_batched_model(prior: Prior) -> None:
    batched = ContinuousBatchedConfig(prior, len(prior.batch_shape), offset_heuristic=False)
    indexed = ContinuousIndexedConfig(prior, len(prior.batch_shape))
    x = RNG.normal(0, 3, (3, *prior.batch_shape)).astype(np.float32)
    position = np.moveaxis(np.indices(prior.batch_shape), 0, -1).astype(np.float32)
    by_position = _perturb(batched, x, gradients=True)
    by_index = _perturb(indexed, x, np.broadcast_to(position, (3, *position.shape)).copy(), gradients=True)
    for name in ("perturbed", "bits", "gradient"):
        np.testing.assert_allclose(by_index.by_name[name], by_position.by_name[name], rtol=1e-5, atol=1e-6)


def test_numbers_alone_are_repeated_over_the_index_ranges() -> None:
    prior = priors.indexed("NoisyNormalMixture", (3, 2), loc=[0.0, 4.0], scale=1.0, weight=[0.5, 0.5])
    config = ContinuousIndexedConfig(prior, 1)
    tables = build_tables(config, LIMITS).tables
    rows = np.split(tables.cdf, 6)
    assert len(tables.cdf_offset) == 6
    assert all((row == rows[0]).all() for row in rows)
    x, indexes = _inputs(config)
    again = _perturb(config, x, np.zeros_like(indexes))
    np.testing.assert_array_equal(_perturb(config, x, indexes).bits, again.bits)


@pytest.mark.parametrize(
    ("loc", "scale", "precision"),
    [([0.0, 1e4], 0.01, 16), ([0.0, 1e4], 0.01, 12), ([3.0, 3.0], 0.05, 12), ([0.0, 300.0], 1e-3, 12)],
)
def test_mixtures_whose_tails_tfc_never_finds_are_built_or_refused(
    loc: list[float], scale: float, precision: int
) -> None:
    parameters: dict[str, Any] = {
        "loc": loc,
        "scale": priors.log_spaced(scale, 2 * scale),
        "weight": [0.5, 0.5],
    }
    prior = priors.indexed("NoisyNormalMixture", (64,), **parameters)
    config = ContinuousIndexedConfig(prior, 1, range_coder_precision=precision)
    if precision == 16 or max(loc) < 2**12:
        assert len(build_tables(config, LIMITS).tables.cdf_offset) == 64
    else:
        with pytest.raises(InvalidConfigError, match="raise range_coder_precision to at least 14"):
            build_tables(config, LIMITS)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_power_law_gives_the_values_and_the_penalty_of_tfc(dtype: str, training: bool) -> None:
    config = PowerLawConfig(1, 0.3, bottleneck_dtype=dtype)
    x = RNG.normal(0, 9, (4, 5)).astype(numpy_dtype(dtype))
    ours = _perturb(config, x, training=training, gradients=True)
    bottleneck = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(bottleneck)
        values, penalty = tfc_indexed(config)(bottleneck)
    np.testing.assert_array_equal(ours.perturbed, _elements(values.numpy()))
    # TensorFlow's approximations differ in the last bit between packets and single elements.
    for found, expected in (
        (ours.bits, penalty),
        (ours.by_name["gradient"], tape.gradient(penalty, bottleneck)),
    ):
        exact = expected.numpy().astype(np.float64)
        eps = 2.0**-7 if dtype == "bfloat16" else float(np.finfo(dtype).eps)
        np.testing.assert_allclose(found.view(x.dtype).astype(np.float64), exact, rtol=2 * eps)
