"""TFC's class with the coding done by a server, under TFC's own tests and ours."""

from __future__ import annotations

import functools
import inspect
import json
import re
import unittest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_compression as tfc
import tensorflow_probability as tfp
from tensorflow_compression.python.entropy_models import universal, universal_test

import entropyd
from entropyd import priors
from entropyd import tfc as drop_in
from entropyd.tfc import RemoteUniversalBatchedEntropyModel as Remote
from tests.integration.test_prior_families import WITH_DENSITY, prior_of
from tests.tfc_models import tfc_prior

if TYPE_CHECKING:
    from collections.abc import Callable


def theirs() -> Any:
    """TFC's test case; as a function, lest pytest collect it as one of ours."""
    return universal_test.UniversalBatchedEntropyModelTest


# But for what tf.test.TestCase brings itself.
THEIR_TESTS = [name for name in unittest.TestLoader().getTestCaseNames(theirs()) if name != "test_session"]


@pytest.mark.parametrize("name", THEIR_TESTS)
def test_tfcs_own_tests_pass_with_the_remote_class(
    client: entropyd.Client, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    made = []

    @functools.wraps(Remote)
    def remote(*arguments: Any, **named: Any) -> Any:
        made.append(Remote(*arguments, client=client, **named))
        return made[-1]

    monkeypatch.setattr(universal, "UniversalBatchedEntropyModel", remote)
    result = unittest.TestResult()
    theirs()(name).run(result)
    assert result.wasSuccessful(), "\n".join(text for _, text in result.failures + result.errors)
    assert result.testsRun == 1
    assert made


def test_their_tests_were_found() -> None:
    assert len(THEIR_TESTS) >= 9


def test_the_page_on_the_class_names_all_of_it_and_has_no_empty_cell() -> None:
    page = (Path(__file__).parents[2] / "docs/tfc-api.md").read_text()
    rows = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("|")]
    assert all(cell.strip() for row in rows for cell in row)
    named = {match[1] for row in rows if (match := re.match(r" `(\w+)", row[0]))}
    the_class = tfc.UniversalBatchedEntropyModel
    assert named >= {name for name in dir(the_class) if not name.startswith("_")}
    assert named >= set(inspect.signature(the_class.__init__).parameters) - {"self"}


def _x() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).normal(0, 3, (4, 6, 2)).astype(np.float32)


def test_strings_decode_on_both_sides(client: entropyd.Client) -> None:
    prior = tfc.NoisyNormal(loc=[0.0, 1.0], scale=[1.0, 3.0])
    local = tfc.UniversalBatchedEntropyModel(prior, 2, compression=True)
    remote = Remote(prior, 2, compression=True, client=client)
    strings = remote.compress(_x())
    assert strings.numpy().tolist() == local.compress(_x()).numpy().tolist()
    np.testing.assert_array_equal(remote.decompress(strings, (6,)), local.decompress(strings, (6,)))


def test_it_works_inside_a_graph(client: entropyd.Client) -> None:
    remote = Remote(tfc.NoisyNormal(loc=[0.0, 1.0], scale=2.0), 2, compression=True, client=client)

    @tf.function  # type: ignore[untyped-decorator]
    def there_and_back(x: Any) -> Any:
        strings = remote.compress(x)
        assert strings.shape == [4]
        return remote.decompress(strings, (6,))

    restored = there_and_back(tf.constant(_x()))
    assert restored.shape == (4, 6, 2)
    assert np.abs(restored - _x()).max() <= 0.5


def test_arrays_are_cast_as_by_the_class_and_refused_where_they_would_lose_a_part(
    client: entropyd.Client,
) -> None:
    prior = tfc.NoisyNormal(loc=[0.0, 1.0], scale=[1.0, 3.0])
    local = tfc.UniversalBatchedEntropyModel(prior, 2, compression=True)
    remote = Remote(prior, 2, compression=True, client=client)
    x = np.rint(_x())
    expected = local.compress(x).numpy().tolist()
    for same in (x.astype(np.float64), x.astype(np.int32), x.tolist(), list(x), list(map(tf.constant, x))):
        assert remote.compress(same).numpy().tolist() == expected
    masked: Any = np.ma.masked_array
    for bad in (masked(x, x > 0), x.astype(str), x.astype(str).tolist(), x * 1j, {"x": x}, None, [[1.0], []]):
        with pytest.raises(entropyd.InvalidTensorError, match="bottleneck"):
            remote.compress(bad)
    strings = local.compress(x).numpy()
    for same in (strings, strings.tolist(), tf.constant(strings)):
        np.testing.assert_array_equal(remote.decompress(same, (6,)), local.decompress(strings, (6,)))
    for bad in (strings.astype("S"), masked(strings), list(strings.astype("S")), ["text"], None):
        with pytest.raises(entropyd.InvalidRequestError, match="strings"):
            remote.decompress(bad, (6,))


def test_a_trained_model_is_registered_with_its_exact_tables(client: entropyd.Client) -> None:
    prior = tfc.NoisyDeepFactorized(batch_shape=(2,), init_scale=2)
    local = tfc.UniversalBatchedEntropyModel(prior, 2, compression=True)
    for variable in local.prior.trainable_variables:
        variable.assign_add(0.1 * tf.random.normal(variable.shape))  # after the tables: they stay as they are
    model = drop_in.register(client, local)
    for one, other in zip(model.get_weights(), local.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    strings = local.compress(_x()).numpy()
    assert model.compress(_x()).strings.tolist() == strings.tolist()
    np.testing.assert_array_equal(model.decompress(strings, (6,)), local.decompress(strings, (6,)))
    np.testing.assert_allclose(model(_x(), training=False)[1], local(_x(), training=False)[1], rtol=1e-5)


def test_new_weights_make_the_server_code_with_them(client: entropyd.Client) -> None:
    def remote(init_scale: float) -> Any:
        prior = tfc.NoisyDeepFactorized(batch_shape=(2,), init_scale=init_scale)
        return Remote(prior, 2, compression=True, num_noise_levels=2, client=client)

    one, other = remote(1), remote(2)
    one.set_weights(other.get_weights())
    assert one.compress(_x()).numpy().tolist() == other.compress(_x()).numpy().tolist()


def test_its_config_is_json_and_raises_where_the_class_does(client: entropyd.Client) -> None:
    prior = tfc.NoisyNormal(loc=0.0, scale=1.0)
    config = json.loads(json.dumps(Remote(prior, 1, compression=True, client=client).get_config()))
    assert entropyd.UniversalBatchedConfig.from_dict(config).coding_rank == 1
    for arguments in ({"compression": False}, {"compression": True, "stateless": True}):
        with pytest.raises(RuntimeError):
            Remote(prior, 1, client=client, **arguments).get_config()
    with pytest.raises(RuntimeError):
        Remote(prior, 1).compress([0.0])
    with pytest.raises(ValueError, match="client"):
        Remote(prior, 1, compression=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("family", WITH_DENSITY)
def test_a_distribution_of_every_family_becomes_its_prior(family: str, dtype: str) -> None:
    prior = prior_of(family, dtype)
    again = drop_in.prior_of(tfc_prior(prior))
    assert (again.family, again.dtype, again.batch_shape) == (prior.family, prior.dtype, prior.batch_shape)
    assert again == prior


OTHERS: dict[str, Callable[[], Any]] = {
    "not on the list": lambda: tfp.distributions.Poisson(rate=1.0),
    "own subclass": lambda: type("Mine", (tfc.NoisyNormal,), {})(loc=0.0, scale=1.0),
    "no distribution": lambda: 3,
}


@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_a_distribution_that_is_no_data_is_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(entropyd.InvalidConfigError, match="which entropyd does not know"):
        drop_in.prior_of(make())


def test_adapters_without_a_public_name_are_known_too() -> None:
    from tensorflow_compression.python.distributions import round_adapters  # noqa: PLC0415

    normal = tfp.distributions.Normal(loc=0.0, scale=1.0)
    expected = priors.UniformNoiseAdapter(priors.RoundAdapter(priors.tfp("Normal", loc=0.0, scale=1.0)))
    assert drop_in.prior_of(round_adapters.NoisyRoundAdapter(normal)) == expected
