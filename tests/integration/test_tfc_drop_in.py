"""TFC's class with the coding done by a server, under TFC's own tests and ours."""

from __future__ import annotations

import copy
import inspect
import json
import re
import subprocess
import sys
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
from tests.support.pages import check_printed
from tests.support.tfc_models import tfc_prior
from tests.support.tfc_suite import names_of, run_passing

if TYPE_CHECKING:
    from collections.abc import Callable

    from entropyd_server.local import LocalServer


def theirs() -> Any:
    """TFC's test case; as a function, lest pytest collect it as one of ours."""
    return universal_test.UniversalBatchedEntropyModelTest


THEIR_TESTS = names_of(theirs())


@pytest.mark.parametrize("name", THEIR_TESTS)
def test_tfcs_own_tests_pass_with_the_remote_class(
    client: entropyd.Client, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert run_passing(theirs()(name), Remote, universal, client, monkeypatch)


def test_their_tests_were_found() -> None:
    assert len(THEIR_TESTS) >= 9


def test_the_page_on_the_class_names_all_of_it_and_has_no_empty_cell() -> None:
    page = (Path(__file__).parents[2] / "docs/tfc-api.md").read_text()
    rows = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("|")]
    assert all(cell.strip() for row in rows for cell in row)
    named = {name for row in rows for name in re.findall(r"`(\w+)[`(]", row[0])}
    for the_class in drop_in._CLASSES:
        assert named >= {name for name in dir(the_class) if not name.startswith("_")}
        assert named >= set(inspect.signature(the_class.__init__).parameters) - {"self"}


def test_the_example_of_the_page_runs_as_it_is_written(
    server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs/tfc-api.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert "127.0.0.1:7070" in code
    exec(code.replace("127.0.0.1:7070", server.target), {})  # noqa: S102 - our own page


def test_the_tutorial_prints_what_it_says(
    server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check_printed("tutorials/tfc-model.md", server)


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


# Variables that change


def _remote(client: entropyd.Client, scale: float) -> Any:
    prior = tfc.NoisyNormal(loc=tf.Variable([0.0, 1.0]), scale=tf.Variable([scale, 2 * scale]))
    return Remote(prior, 2, compression=True, client=client)


@pytest.fixture(scope="module")
def source(client: entropyd.Client) -> Any:
    """The object whose variables others take."""
    return _remote(client, 3.0)


@pytest.fixture
def target(client: entropyd.Client) -> Any:
    return _remote(client, 1.0)


def by_checkpoint(source: Any, target: Any, folder: Path) -> None:
    path = tf.train.Checkpoint(em=source).save(str(folder / "checkpoint"))
    tf.train.Checkpoint(em=target).restore(path).assert_consumed()


def by_keras(source: Any, target: Any, folder: Path) -> None:
    class Codec(tf.keras.Model):  # type: ignore[misc]
        def __init__(self, em: Any) -> None:
            super().__init__()
            self.em = em

        def call(self, x: Any) -> Any:
            return self.em(x)[0]

    models = Codec(source), Codec(target)
    for model in models:
        model(_x())
    models[0].save_weights(str(folder / "weights"))
    models[1].load_weights(str(folder / "weights"))


def by_assign(source: Any, target: Any, _: Path) -> None:
    for variable, value in zip(target.variables, source.variables, strict=True):
        variable.assign(value)


def by_set_weights(source: Any, target: Any, _: Path) -> None:
    target.set_weights(source.get_weights())


RESTORED = {
    "checkpoint": by_checkpoint,
    "keras": by_keras,
    "assign": by_assign,
    "set_weights": by_set_weights,
}


def _codes_as_its_tables_say(em: Any, compress: Any = None, decompress: Any = None) -> None:
    """Strings are those that TFC makes with the tables that `em` shows, and decode to what TFC restores."""
    expected = tfc.UniversalBatchedEntropyModel.compress(em, _x())
    strings = (compress or em.compress)(tf.constant(_x()))
    assert strings.numpy().tolist() == expected.numpy().tolist()
    restored = (decompress or em.decompress)(strings, tf.constant([6]))
    np.testing.assert_array_equal(
        restored, tfc.UniversalBatchedEntropyModel.decompress(em, strings, tf.constant([6]))
    )


@pytest.mark.parametrize("restore", RESTORED.values(), ids=RESTORED)
@pytest.mark.parametrize("traced", [False, True], ids=["eager", "traced before"])
def test_restored_variables_are_coded_with_from_the_next_call_on(
    source: Any, target: Any, tmp_path: Path, restore: Callable[[Any, Any, Path], None], *, traced: bool
) -> None:
    compress = tf.function(target.compress) if traced else target.compress
    decompress = tf.function(target.decompress) if traced else target.decompress
    _codes_as_its_tables_say(target, compress, decompress)
    before = target.cdf.numpy()
    restore(source, target, tmp_path)
    assert not np.array_equal(target.cdf, before)
    _codes_as_its_tables_say(target, compress, decompress)
    np.testing.assert_array_equal(
        target.decompress(source.compress(_x()), (6,)), source.decompress(source.compress(_x()), (6,))
    )
    assert target.remote.prior == drop_in.prior_of(source.prior)
    np.testing.assert_array_equal(target.remote.cdf, source.cdf)


def test_a_graph_that_assigns_tables_codes_with_them_afterwards(source: Any, target: Any) -> None:
    @tf.function  # type: ignore[untyped-decorator]
    def before_and_after(x: Any) -> Any:
        before = target.compress(x)
        for variable, value in zip(target.variables[:2], (source.cdf, source.cdf_offset), strict=True):
            variable.assign(value)
        return before, target.compress(x)

    expected = [em.compress(_x()).numpy().tolist() for em in (target, source)]
    assert [strings.numpy().tolist() for strings in before_and_after(tf.constant(_x()))] == expected


def test_training_leaves_tables_and_strings_as_they_are_and_makes_no_models(
    client: entropyd.Client, target: Any
) -> None:
    before, models = target.compress(_x()).numpy().tolist(), [model.id for model in client.models()]
    for variable in target.prior.trainable_variables:
        variable.assign_add(0.1 * tf.ones(variable.shape))
    _codes_as_its_tables_say(target)
    assert target.compress(_x()).numpy().tolist() == before
    assert [model.id for model in client.models()] == models
    # Asked for the model or its configuration, the object gives those of the prior of now.
    assert target.remote.prior == drop_in.prior_of(target.prior)
    assert target.get_config() == target.remote.config.to_dict()
    assert target.remote.id not in models
    _codes_as_its_tables_say(target)


def test_an_object_whose_variables_stay_has_one_model(client: entropyd.Client, source: Any) -> None:
    models = [model.id for model in client.models()]
    assert source.remote.id in models
    source.decompress(source.compress(_x()), (6,))
    assert source.remote.config.tables is None
    assert [model.id for model in client.models()] == models


def test_variables_that_are_no_tables_are_refused_by_name(target: Any) -> None:
    cdf = target.variables[0]
    for spoilt in (cdf[:-1], tf.zeros_like(cdf), cdf[:0]):
        cdf.assign(spoilt)
        with pytest.raises(entropyd.InvalidConfigError, match=r"cdf|range_coder_precision"):
            target.compress(_x())


def test_a_deep_copy_has_variables_of_its_own(client: entropyd.Client, target: Any) -> None:
    strings = target.compress(_x()).numpy().tolist()
    shared = (client, target.remote)
    copied = copy.deepcopy(target, {id(one): one for one in shared})
    assert copied.compress(_x()).numpy().tolist() == strings
    copied.variables[1].assign_add([1] * len(copied.cdf_offset))
    _codes_as_its_tables_say(copied)
    assert copied.compress(_x()).numpy().tolist() != strings
    assert target.compress(_x()).numpy().tolist() == strings


# SavedModels


class Saved(tf.Module):  # type: ignore[misc]
    """A codec as it is exported."""

    def __init__(self, em: Any) -> None:
        super().__init__()
        self.em = em

    @tf.function(input_signature=[tf.TensorSpec([None, 6, 2], tf.float32)])  # type: ignore[untyped-decorator]
    def compress(self, x: Any) -> Any:
        return self.em.compress(x)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])  # type: ignore[untyped-decorator]
    def decompress(self, strings: Any) -> Any:
        return self.em.decompress(strings, [6])


class Bits(tf.Module):  # type: ignore[misc]
    """What is exported of a model in training."""

    def __init__(self, em: Any) -> None:
        super().__init__()
        self.em = em

    @tf.function(input_signature=[tf.TensorSpec([None, 6, 2], tf.float32)])  # type: ignore[untyped-decorator]
    def bits(self, x: Any) -> Any:
        return self.em(x, training=False)[1]


@pytest.mark.parametrize("traced", [False, True], ids=["not traced", "traced before"])
def test_a_saved_model_that_would_call_this_process_is_refused_with_what_to_do(
    target: Any, tmp_path: Path, *, traced: bool
) -> None:
    saved = Saved(target)
    if traced:
        saved.compress(_x())
    with pytest.raises(RuntimeError, match=r"SavedModel\..*Save its weights.*codes locally"):
        tf.saved_model.save(saved, str(tmp_path / "saved"))
    assert not (tmp_path / "saved" / "saved_model.pb").exists()


def test_a_saved_model_that_only_estimates_bits_is_saved(target: Any, tmp_path: Path) -> None:
    target.compress(_x())
    tf.saved_model.save(Bits(target), str(tmp_path / "saved"))
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    np.testing.assert_allclose(loaded.bits(_x()), target(_x(), training=False)[1], rtol=1e-5)


LOCALLY = """
import ast, sys
import tensorflow as tf, tensorflow_compression
saved = tf.saved_model.load(sys.argv[1])
print(saved.compress(tf.constant(ast.literal_eval(sys.argv[2]))).numpy().tolist())
"""


def test_a_local_object_with_the_weights_is_saved_and_makes_the_same_strings_elsewhere(
    source: Any, tmp_path: Path
) -> None:
    prior = tfc.NoisyNormal(loc=tf.Variable([0.0, 0.0]), scale=tf.Variable([1.0, 1.0]))
    local = tfc.UniversalBatchedEntropyModel(prior, 2, compression=True)
    local.set_weights(source.get_weights())
    tf.saved_model.save(Saved(local), str(tmp_path))
    command = [sys.executable, "-c", LOCALLY, str(tmp_path), repr(_x().tolist())]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == repr(source.compress(_x()).numpy().tolist())


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
