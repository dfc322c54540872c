"""Bits from a server as a tensor of TensorFlow, against TFC's own classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import entropyd
from entropyd import priors
from entropyd.tfc import rate
from tests.support.recorded_model import RecordedModel
from tests.support.tfc_indexed import tfc_indexed

RNG = np.random.default_rng(31)
LOG_SPACED = priors.log_spaced(np.float64(0.3), 30.0)


def _by_scale(scale: Any = LOG_SPACED, coding_rank: int = 2) -> Any:
    prior = priors.indexed("NoisyNormal", (16,), loc=np.float64(0), scale=scale)
    return entropyd.LocationScaleIndexedConfig(
        prior, coding_rank, compression=False, bottleneck_dtype="float64"
    )


def _by_two(channel_axis: int) -> Any:
    loc, scale = np.linspace(-3, 4, 4)[:, None], priors.log_spaced(0.3, 9, axis=1)
    prior = priors.indexed("NoisyLogistic", (4, 6), loc=loc, scale=scale)
    return entropyd.ContinuousIndexedConfig(
        prior, 2, channel_axis=channel_axis, compression=False, bottleneck_dtype="float64"
    )


def _indexes(*shape: int, high: float = 15) -> Any:
    return RNG.uniform(0, high, shape)


Y = RNG.normal(0, 4, (3, 5, 2))
# A configuration, and arguments; units share those that have fewer or shorter axes than the elements.
CASES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "loc of each channel": (_by_scale(), (Y, _indexes(3, 5, 2), RNG.normal(0, 3, 2))),
    "one y": (_by_scale(), (Y[0], _indexes(3, 5, 2), RNG.normal(0, 3, (3, 1, 1)))),
    "two indexes": (_by_two(-1), (Y, _indexes(3, 5, 2, 2, high=3))),
    "two indexes on the first axis": (_by_two(0), (Y, _indexes(2, 3, 5, 2, high=3))),
    "integer indexes": (_by_scale(), (Y, RNG.integers(0, 16, (3, 5, 2)), np.float64(1.5))),
    "power law": (entropyd.PowerLawConfig(2, bottleneck_dtype="float64"), (Y,)),
}
WEIGHTS = tf.constant([0.3, -2.0, 5.0], tf.float64)


def _weighted(bits: Any) -> Any:
    """A sum to which each unit contributes differently."""
    return tf.reduce_sum(WEIGHTS * bits)


def _assert_same(ours: list[Any], theirs: list[Any]) -> None:
    for gradient, expected in zip(ours, theirs, strict=True):
        if expected is None:
            assert gradient is None
        else:
            assert gradient.dtype == expected.dtype
            np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize(("config", "arrays"), CASES.values(), ids=CASES)
def test_gradients_of_weighted_bits_are_those_of_tfc_with_the_noise_of_the_server(
    client: entropyd.Client, monkeypatch: pytest.MonkeyPatch, config: Any, arrays: tuple[Any, ...]
) -> None:
    model = RecordedModel(client.create_model(config))
    inputs = list(map(tf.constant, arrays))
    with tf.GradientTape() as tape:
        tape.watch([x for x in inputs if x.dtype.is_floating])
        bits = rate(model, *inputs)
        total = _weighted(bits)
    gradients = tape.gradient(total, inputs)
    ((asked, found),) = model.calls
    assert asked

    noise = found.perturbed - arrays[0]
    monkeypatch.setattr(tf.random, "uniform", lambda *_, **__: tf.constant(noise))
    em = tfc_indexed(config, compression=False)
    with tf.GradientTape() as tape:
        tape.watch([x for x in inputs if x.dtype.is_floating])
        _, expected = em(*inputs)
        total = _weighted(expected)
    np.testing.assert_allclose(bits, expected, rtol=1e-6)
    _assert_same(gradients, tape.gradient(total, inputs))


def test_in_a_graph_bits_and_gradients_are_the_same_and_shapes_are_known(client: entropyd.Client) -> None:
    config, arrays = CASES["loc of each channel"]
    model, em = client.create_model(config), tfc_indexed(config, compression=False)
    inputs = list(map(tf.constant, arrays))
    signature = [tf.TensorSpec([None, None, 2], tf.float64)] * 2 + [tf.TensorSpec([2], tf.float64)]

    def bits(*inputs: Any) -> Any:
        found = rate(model, *inputs, training=False)
        assert found.shape.as_list() == [None]
        return found

    def gradients_inside(*inputs: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            total = _weighted(rate(model, *inputs, training=False))
        found = tape.gradient(total, inputs)
        assert [x.shape.as_list() for x in found] == [[None, None, 2], [None, None, 2], [2]]
        return found

    with tf.GradientTape(persistent=True) as tape:
        tape.watch(inputs)
        ours = tf.function(bits, signature)(*inputs)
        _, theirs = em(*inputs, training=False)
        totals = [_weighted(x) for x in (ours, theirs)]
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    outside, expected = (tape.gradient(total, inputs) for total in totals)
    _assert_same(outside, expected)
    _assert_same(tf.function(gradients_inside, signature)(*inputs), expected)


def test_indexes_beyond_their_range_are_drawn_back_as_in_tfc(client: entropyd.Client) -> None:
    config = _by_scale()
    model, em = client.create_model(config), tfc_indexed(config, compression=False)
    y, indexes = tf.constant(Y), tf.constant(_indexes(3, 5, 2, high=40) - 12)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(indexes)
        ours, theirs = rate(model, y, indexes, training=False), em(y, indexes, training=False)[1]
    gradients = [tape.gradient(bits, indexes) for bits in (ours, theirs)]
    assert 0 < np.count_nonzero(gradients[1]) < Y.size
    _assert_same(gradients[:1], gradients[1:])


def test_indexes_of_a_prior_without_functions_have_no_gradient(client: entropyd.Client) -> None:
    model = client.create_model(_by_scale(np.linspace(1, 9, 16)))
    y, indexes = tf.constant(Y), tf.constant(_indexes(3, 5, 2))
    for call in (rate, tf.function(rate)):
        with tf.GradientTape() as tape:
            tape.watch([y, indexes])
            bits = call(model, y, indexes)
        gradients = tape.gradient(bits, [y, indexes])
        assert gradients[0] is not None
        assert gradients[1] is None


def test_gradients_are_asked_for_only_if_a_tape_watches_an_argument(client: entropyd.Client) -> None:
    model = RecordedModel(client.create_model(_by_scale()))
    y, indexes, loc = tf.constant(Y), tf.constant(_indexes(3, 5, 2)), tf.Variable(1.0, dtype=tf.float64)
    rate(model, y, indexes, loc)
    with tf.GradientTape():
        rate(model, y, indexes)
        rate(model, y, indexes, loc)
    with tf.GradientTape() as tape, tape.stop_recording():
        rate(model, y, indexes, loc)
    assert [call.gradient for call in model.calls] == [False, False, True, False]


def test_a_second_derivative_is_refused(client: entropyd.Client) -> None:
    model = client.create_model(_by_scale())
    y, indexes = tf.constant(Y), tf.constant(_indexes(3, 5, 2))
    with tf.GradientTape() as outer:
        outer.watch(y)
        with tf.GradientTape() as tape:
            tape.watch(y)
            bits = rate(model, y, indexes)
        slope = tape.gradient(bits, y)
    with pytest.raises(LookupError, match="no second derivative"):
        outer.gradient(slope, y)


def test_errors_are_those_of_perturb(client: entropyd.Client) -> None:
    model = client.create_model(_by_scale())
    indexes = _indexes(3, 5, 2)
    with pytest.raises(entropyd.InvalidTensorError, match="indexes are missing"):
        rate(model, Y)
    with pytest.raises(entropyd.InvalidTensorError, match=r"loc has shape \(7,\)"):
        rate(model, Y, indexes, np.zeros(7))
    with pytest.raises(entropyd.InvalidTensorError, match=r"bottleneck has shape \(4, 5, 2\)"):
        rate(model, np.zeros((4, 5, 2)), indexes)
    with pytest.raises(tf.errors.UnknownError, match="bottleneck has dtype float32"):
        tf.function(rate)(model, Y.astype(np.float32), indexes)


def test_a_toy_trains_as_with_local_bits(client: entropyd.Client) -> None:
    model = client.create_model(_by_scale(coding_rank=1))
    deviations = tf.constant([0.2, 1.0, 5.0, 20.0], tf.float64)

    def local(y: Any, indexes: Any, loc: Any) -> Any:
        # In the right tail, where the difference does not cancel. TFC's class takes ten seconds to trace.
        distance = tf.abs(y - loc + tf.random.uniform(y.shape, -0.5, 0.5, tf.float64))
        width = 2**0.5 * 0.3 * 100 ** (indexes / 15)
        mass = (tf.math.erfc((distance - 0.5) / width) - tf.math.erfc((distance + 0.5) / width)) / 2
        return -tf.reduce_sum(tf.math.log(mass), axis=1) / np.log(2)

    def loss(bits: Any, x: Any, gain: Any, indexes: Any, loc: Any) -> Any:
        y = x * tf.exp(gain)
        restored = (y + tf.random.uniform(y.shape, -0.5, 0.5, tf.float64)) * tf.exp(-gain)
        error = tf.reduce_sum((restored - x) ** 2, axis=1)
        return tf.reduce_mean(bits(y, tf.broadcast_to(indexes, y.shape), loc) + 3 * error)

    def trained(bits: Any, steps: int = 50) -> float:
        """The loss, by local bits, after a training with some bits."""
        tf.random.set_seed(0)
        variables = [tf.Variable(tf.fill([4], tf.constant(value, tf.float64))) for value in (0.0, 8.0, 0.0)]
        optimizer = tf.keras.optimizers.legacy.Adam(0.2)

        def step() -> None:
            x = 2 + deviations * tf.random.normal([256, 4], dtype=tf.float64)
            with tf.GradientTape() as tape:
                value = loss(bits, x, *variables)
            optimizer.apply_gradients(zip(tape.gradient(value, variables), variables, strict=True))

        step_in_graph = tf.function(step)
        for _ in range(steps):
            step_in_graph()
        tf.random.set_seed(1)
        return float(loss(local, 2 + deviations * tf.random.normal([10**4, 4], dtype=tf.float64), *variables))

    expected = trained(local)
    assert expected < 0.5 * trained(local, steps=0)
    assert trained(lambda *inputs: rate(model, *inputs)) == pytest.approx(expected, rel=0.02)
