"""Bit costs and gradients from a running server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import entropyd
from entropyd import priors
from entropyd.contract.dtypes import numpy_dtype

if TYPE_CHECKING:
    from collections.abc import Callable

RNG = np.random.default_rng(11)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_without_training_the_perturbed_array_is_what_decoding_restores(
    client: entropyd.Client, dtype: str
) -> None:
    config = entropyd.UniversalBatchedConfig(
        prior=priors.NoisyNormal(loc=[0.0, 1.0, -2.0], scale=[0.5, 2.0, 6.0]),
        coding_rank=2,
        bottleneck_dtype=dtype,
    )
    model = client.create_model(config)
    x = RNG.normal([0.0, 1.0, -2.0], [0.5, 2.0, 6.0], (4, 40, 3)).astype(numpy_dtype(dtype))
    perturbed, bits = model(x, training=False)
    assert perturbed.dtype == x.dtype
    np.testing.assert_array_equal(perturbed, model.decompress(model.compress(x)))
    actual = [8 * len(string) for string in model.compress(x).strings]
    np.testing.assert_allclose(bits, actual, rtol=0.05, atol=24)


def test_training_noise_is_within_half_an_integer(client: entropyd.Client, model: entropyd.Model) -> None:
    x = RNG.normal(0, 3, (2, 5, 7, 3)).astype(np.float32)
    perturbed, bits = model(x)
    assert perturbed.shape == x.shape
    assert bits.shape == (2, 5)
    assert 0 < np.abs(perturbed - x).max() <= 0.5 + 1e-6


def test_the_gradient_comes_on_request(model: entropyd.Model) -> None:
    x = RNG.normal(0, 3, (5, 7, 3)).astype(np.float32)
    assert model.perturb(x).gradient is None
    answer = model.perturb(x, training=True, gradient=True)
    assert answer.gradient is not None
    assert answer.gradient.shape == x.shape
    downhill = model.perturb(x - 0.02 * answer.gradient, training=True).bits.sum()
    assert downhill < answer.bits.sum()


def test_calls_that_are_joined_get_what_each_gets_alone(model: entropyd.Model) -> None:
    arrays = [RNG.normal(0, 3, (1 + i % 3, 7, 3)).astype(np.float32) for i in range(48)]
    alone = [model(x, training=False) for x in arrays]
    with ThreadPoolExecutor(16) as pool:
        joined = list(pool.map(lambda x: model(x, training=False), arrays))
    for (perturbed, bits), (perturbed_alone, bits_alone) in zip(joined, alone, strict=True):
        assert perturbed.tobytes() == perturbed_alone.tobytes()
        assert bits.tobytes() == bits_alone.tobytes()


def test_empty_batches_and_units_cost_nothing(model: entropyd.Model) -> None:
    answer = model.perturb(np.zeros((0, 7, 3), np.float32), training=False, gradient=True)
    assert answer.bits.shape == (0,)
    assert answer.gradient is not None
    perturbed, bits = model(np.zeros((2, 0, 3), np.float32), training=False)
    assert perturbed.shape == (2, 0, 3)
    np.testing.assert_array_equal(bits, [0, 0])


def test_a_model_without_compression_estimates_too(client: entropyd.Client) -> None:
    prior = priors.NoisyDeepFactorized((2,), init_scale=3)
    config = entropyd.UniversalBatchedConfig(prior=prior, coding_rank=1, compression=False)
    _, bits = client.create_model(config)(np.zeros((3, 2), np.float32))
    assert (bits > 0).all()


BAD: dict[str, tuple[Callable[[np.ndarray[Any, Any]], Any], str]] = {
    "rank": (lambda x: x[0, 0], "bottleneck has rank 1; coding_rank 2"),
    "shape": (lambda x: x[..., :2], r"bottleneck.shape\[2\] is 2; expected 3"),
    "dtype": (lambda x: x.astype(np.float64), "bottleneck has dtype float64"),
    "nan": (lambda x: np.where(x == x[1, 0, 2], np.float32(np.nan), x), r"bottleneck\[1, 0, 2\] is NaN"),
    "infinity": (lambda x: np.where(x == x[0, 0, 0], np.float32(np.inf), x), r"bottleneck\[0, 0, 0\]"),
}


@pytest.mark.parametrize(("spoil", "message"), BAD.values(), ids=BAD)
def test_a_bottleneck_that_does_not_fit_is_refused_by_name(
    model: entropyd.Model, spoil: Callable[[np.ndarray[Any, Any]], Any], message: str
) -> None:
    x = RNG.normal(0, 3, (2, 4, 3)).astype(np.float32)
    with pytest.raises(entropyd.InvalidTensorError, match=message):
        model.perturb(spoil(x), training=False)


def test_bit_costs_are_answered_while_tables_are_built(
    client: entropyd.Client, model: entropyd.Model
) -> None:
    x = np.zeros((1, 3), np.float32)
    model(x, training=False)
    slow = entropyd.UniversalBatchedConfig(
        prior=priors.NoisyDeepFactorized((8,), init_scale=3), coding_rank=1
    )
    answered = 0
    with ThreadPoolExecutor(1) as pool:
        build = pool.submit(client.create_model, slow)
        while not build.done():
            model(x, training=False)
            answered += 1
        build.result()
    # Behind the build there would have been one.
    assert answered > 3
