"""The drop-ins of TFC's indexed classes and PowerLaw, under TFC's own tests and ours."""

from __future__ import annotations

import functools
import json
import os
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_compression as tfc
from tensorflow_compression.python.entropy_models import (
    continuous_indexed,
    continuous_indexed_test,
    power_law_test,
    universal,
    universal_test,
)

import entropyd
from entropyd import tfc as drop_in
from tests.support.tfc_suite import names_of, run_passing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType


def theirs() -> dict[str, tuple[Any, ModuleType, type[Any]]]:
    """TFC's test cases, the modules whose class is replaced, and by which.

    As a function, lest pytest collect them as ours.
    """
    return {
        "continuous_indexed": (
            continuous_indexed_test.ContinuousIndexedEntropyModelTest,
            continuous_indexed,
            drop_in.RemoteContinuousIndexedEntropyModel,
        ),
        "location_scale_indexed": (
            continuous_indexed_test.LocationScaleIndexedEntropyModelTest,
            continuous_indexed,
            drop_in.RemoteLocationScaleIndexedEntropyModel,
        ),
        "universal_indexed": (
            universal_test.UniversalIndexedEntropyModelTest,
            universal,
            drop_in.RemoteUniversalIndexedEntropyModel,
        ),
        "power_law": (
            power_law_test.PowerLawEntropyModelTest,
            power_law_test,
            drop_in.RemotePowerLawEntropyModel,
        ),
    }


THEIR_TESTS = [(kind, name) for kind, (case, _, _) in theirs().items() for name in names_of(case)]
# Tests of one number after another differ in it alone: `make tfc-suite` runs them all.
WHOLE = os.environ.get("TFC_SUITE") == "whole"
ONE_OF_EACH = {(kind, re.sub(r"_?[0-9][0-9.e-]*$", "", name)): name for kind, name in THEIR_TESTS}


@pytest.mark.parametrize(
    ("kind", "name"), THEIR_TESTS if WHOLE else [(kind, name) for (kind, _), name in ONE_OF_EACH.items()]
)
def test_tfcs_own_tests_pass_with_the_remote_class(
    client: entropyd.Client, monkeypatch: pytest.MonkeyPatch, kind: str, name: str
) -> None:
    case, module, remote = theirs()[kind]
    run_passing(case(name), remote, module, client, monkeypatch)


def test_their_tests_were_found() -> None:
    assert len(THEIR_TESTS) >= 65


X = np.random.default_rng(0).laplace(0, 4, (3, 4, 5)).astype(np.float32)
INDEXES = np.random.default_rng(1).uniform(-1, 6, X.shape)


def _located(the_class: Any, **more: Any) -> Any:
    return the_class(tfc.NoisyNormal, 6, lambda i: tf.exp(i / 4 - 1), 2, compression=True, **more)


def _mixed(the_class: Any, **more: Any) -> Any:
    return the_class(
        tfc.NoisyLogisticMixture,
        (2, 3),
        {
            "loc": lambda i: i[..., :1] * [-2.0, 2.0],
            "scale": lambda _: 1.0,
            "weight": lambda i: tf.nn.softmax(i[..., 1:] * [-1.0, 1.0]),
        },
        2,
        compression=True,
        **more,
    )


def _both(name: str, make: Callable[..., Any], client: entropyd.Client, **more: Any) -> tuple[Any, Any]:
    """The object of TFC's class, and the drop-in of the same arguments."""
    remote = getattr(drop_in, f"Remote{name}")
    return make(getattr(tfc, name), **more), make(remote, client=client, **more)


@pytest.fixture(scope="module")
def both(client: entropyd.Client) -> Callable[..., tuple[Any, Any]]:
    """Makes what `_both` makes, once for all tests that ask for the same and change nothing of it."""
    return functools.cache(functools.partial(_both, client=client))


MAKERS: dict[str, tuple[str, Callable[..., Any], tuple[Any, ...]]] = {
    "continuous_indexed": ("ContinuousIndexedEntropyModel", _mixed, (np.stack([INDEXES, INDEXES], -1),)),
    "location_scale_indexed": ("LocationScaleIndexedEntropyModel", _located, (INDEXES, 3 * X[..., :1])),
    "universal_indexed": ("UniversalIndexedEntropyModel", _mixed, (np.stack([INDEXES, INDEXES], -1),)),
    "power_law": ("PowerLawEntropyModel", lambda the_class, **more: the_class(2, **more), ()),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_strings_decode_on_both_sides_in_graphs_too_and_a_registered_object_is_no_other(
    client: entropyd.Client, kind: str
) -> None:
    name, make, inputs = MAKERS[kind]
    local, remote = _both(name, make, client)
    strings = local.compress(X.copy(), *inputs).numpy().tolist()
    beside = inputs or (X.shape[1:],)
    restored = local.decompress(tf.constant(strings), *beside).numpy()

    @tf.function  # type: ignore[untyped-decorator]
    def there_and_back(x: Any, *inputs: Any) -> Any:
        coded = remote.compress(x, *inputs)
        assert coded.shape == [3]
        return coded, remote.decompress(coded, *(inputs or (X.shape[1:],)))

    called = there_and_back(*map(tf.constant, (X, *inputs)))
    for coded, again in ((remote.compress(X, *inputs), remote.decompress(strings, *beside)), called):
        assert coded.numpy().tolist() == strings
        assert again.shape == X.shape
        assert again.numpy().tobytes() == restored.tobytes()
    for em in (local, remote):
        model = drop_in.register(client, em)
        assert model.compress(X, *inputs).strings.tolist() == strings
        np.testing.assert_array_equal(model.decompress(strings, *beside), restored)
    config = json.loads(json.dumps(remote.get_config()))
    assert type(remote.remote.config).from_dict(config) == remote.remote.config


def test_an_array_of_the_caller_is_never_written_to(client: entropyd.Client) -> None:
    local, remote = _both("LocationScaleIndexedEntropyModel", _located, client)
    x, loc = X.copy(), X[:, :1] * np.float32(1.7)
    strings = remote.compress(x, INDEXES, loc)
    np.testing.assert_array_equal(x, X)
    assert strings.numpy().tolist() == local.compress(x, INDEXES, loc).numpy().tolist()
    assert not np.array_equal(x, X)  # what TFC does to it


@pytest.mark.parametrize("x_dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("loc_dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_location_is_subtracted_in_the_dtypes_of_tfc(
    both: Callable[..., tuple[Any, Any]], dtype: str, x_dtype: str, loc_dtype: str
) -> None:
    local, remote = both("LocationScaleIndexedEntropyModel", _located, bottleneck_dtype=dtype)
    # Close to halves, so that the last bit decides a symbol.
    x = (np.rint(X) + 0.5).astype(x_dtype)
    loc = np.random.default_rng(2).normal(0, 3, X.shape).astype(loc_dtype)
    strings = remote.compress(x + loc, INDEXES, loc).numpy().tolist()
    assert strings == local.compress(x + loc, INDEXES, loc).numpy().tolist()
    restored = [em.decompress(strings, INDEXES, loc).numpy().tobytes() for em in (local, remote)]
    assert restored[0] == restored[1]


@pytest.mark.parametrize("kind", MAKERS)
def test_empty_batches_and_nan_have_answers(client: entropyd.Client, kind: str) -> None:
    name, make, inputs = MAKERS[kind]
    remote = make(getattr(drop_in, f"Remote{name}"), client=client)
    empty = [value[:0] for value in (X, *inputs)]
    strings = remote.compress(*empty)
    assert strings.shape == (0,)
    assert remote.decompress(strings, *(empty[1:] or (X.shape[1:],))).shape == (0, 4, 5)
    x = X.copy()
    x[1, 2, 3] = np.nan
    with pytest.raises(entropyd.InvalidTensorError, match=r"coding unit 1, element \(2, 3\)"):
        remote.compress(x, *inputs)
    if inputs:
        indexes = inputs[0].copy()
        indexes[1, 2, 3] = np.nan
        with pytest.raises(entropyd.InvalidTensorError, match=r"indexes\[1, 2, 3.*NaN"):
            remote.compress(X, indexes, *inputs[1:])


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int32", "float16", "bfloat16", "float32"])
def test_the_dither_is_that_of_the_dtype_of_the_indexes(
    both: Callable[..., tuple[Any, Any]], dtype: str
) -> None:
    local, remote = both("UniversalIndexedEntropyModel", _mixed, num_noise_levels=6)
    indexes = tf.cast(tf.constant(np.abs(MAKERS["universal_indexed"][2][0])), dtype)
    strings = local.compress(X, indexes)
    assert remote.compress(X, indexes).numpy().tolist() == strings.numpy().tolist()
    restored = [em.decompress(strings, indexes).numpy().tobytes() for em in (local, remote)]
    assert restored[0] == restored[1]
    large = tf.constant(X + np.float32(2**22))
    if dtype == "int32":
        assert (
            remote.compress(large, indexes).numpy().tolist()
            == local.compress(large, indexes).numpy().tolist()
        )
        return
    with pytest.raises(tf.errors.InvalidArgumentError, match="need indexes of another dtype"):
        remote.compress(large, indexes)


def test_indexes_that_cannot_count_the_noise_levels_are_refused(client: entropyd.Client) -> None:
    _, remote = _both("UniversalIndexedEntropyModel", _mixed, client, num_noise_levels=129)
    with pytest.raises(entropyd.InvalidTensorError, match="int8, which cannot hold 129 noise levels"):
        remote.compress(X, np.zeros((*X.shape, 2), np.int8))


# Variables of mixtures


def test_variables_of_a_mixture_are_listed_set_and_saved(client: entropyd.Client, tmp_path: Path) -> None:
    def batched(loc: float) -> Any:
        components = tf.Variable([loc, loc + 5])
        prior = tfc.NoisyNormalMixture(loc=components, scale=[1.0, 2.0], weight=[0.25, 0.75])
        return drop_in.RemoteContinuousBatchedEntropyModel(prior, 2, compression=True, client=client)

    source, target = batched(0.3), batched(-2.2)
    before = target.compress(X).numpy().tolist()
    assert len(source.variables) == len(source.get_weights()) == 4
    assert len(source.trainable_variables) == 1
    assert {"NoisyNormalMixture", "Normal"} <= {module.name for module in source.submodules}
    target.set_weights(source.get_weights())
    assert target.compress(X).numpy().tolist() == source.compress(X).numpy().tolist() != before
    assert target.remote.prior == drop_in.prior_of(source.prior)

    class Codec(tf.keras.Model):  # type: ignore[misc]
        def __init__(self, em: Any) -> None:
            super().__init__()
            self.em = em

        def call(self, x: Any) -> Any:
            return self.em(x)[0]

    saved, loaded = Codec(source), Codec(batched(-2.2))
    for model in (saved, loaded):
        model(X)
        assert len(model.em.variables) == 4
    saved.save_weights(str(tmp_path / "weights"))
    loaded.load_weights(str(tmp_path / "weights"))
    assert loaded.em.compress(X).numpy().tolist() == source.compress(X).numpy().tolist()
    # TFC's own class reads what the drop-in saves.
    path = tf.train.Checkpoint(em=source).save(str(tmp_path / "checkpoint"))
    prior = tfc.NoisyNormalMixture(loc=tf.Variable([8.8, 9.8]), scale=[1.0, 2.0], weight=[0.25, 0.75])
    plain = tfc.ContinuousBatchedEntropyModel(prior, 2, compression=True)
    tf.train.Checkpoint(em=plain).restore(path).assert_consumed()
    assert plain.compress(X).numpy().tolist() == source.compress(X).numpy().tolist()
    del source.prior
    assert len(source.variables) == 3


def test_variables_behind_an_indexed_mixture_change_the_strings(client: entropyd.Client) -> None:
    inputs = MAKERS["continuous_indexed"][2]
    remote = _mixed(drop_in.RemoteContinuousIndexedEntropyModel, client=client)
    other = _mixed(drop_in.RemoteContinuousIndexedEntropyModel, client=client, range_coder_precision=14)
    assert [variable.name.split("/")[-1] for variable in remote.variables] == ["cdf:0", "cdf_offset:0"]
    strings = other.compress(X, *inputs).numpy().tolist()
    assert remote.compress(X, *inputs).numpy().tolist() != strings
    remote.set_weights(other.get_weights())
    assert remote.compress(X, *inputs).numpy().tolist() == strings
    assert remote.remote.range_coder_precision == 14


# What is registered


def test_functions_become_the_densities_at_all_indexes(client: entropyd.Client) -> None:
    scale = tf.Variable(2.0)
    em = tfc.UniversalIndexedEntropyModel(
        tfc.NoisyNormal,
        (2, 3),
        {"loc": lambda i: i[..., 1], "scale": lambda i: scale * (1 + i[..., 0])},
        1,
        compression=True,
    )
    prior = drop_in.register(client, em).prior
    np.testing.assert_array_equal(prior.parameters["loc"], [[0, 1, 2], [0, 1, 2]])
    np.testing.assert_array_equal(prior.parameters["scale"], [[2, 2, 2], [4, 4, 4]])
    # Training moves the prior, and leaves the tables.
    scale.assign(3.0)
    moved = drop_in.register(client, em)
    np.testing.assert_array_equal(moved.prior.parameters["scale"][1], [6, 6, 6])
    np.testing.assert_array_equal(moved.cdf, em.cdf)


@pytest.mark.parametrize("kind", MAKERS)
def test_what_cannot_compress_is_registered_to_estimate_and_says_so(
    client: entropyd.Client, kind: str
) -> None:
    if kind == "power_law":
        remote = drop_in.RemotePowerLawEntropyModel(2)
        with pytest.raises(RuntimeError, match="client="):
            remote.compress(X)
        assert drop_in.register(client, remote).config.coding_rank == 2
        return
    name, make, inputs = MAKERS[kind]
    em = make(lambda *arguments, **named: getattr(tfc, name)(*arguments, **{**named, "compression": False}))
    model = drop_in.register(client, em)
    whole = [np.clip(np.trunc(inputs[0]), 0, 1).astype(np.float32), *inputs[1:]]
    np.testing.assert_allclose(
        model(X, *whole, training=False)[1], em(X, *whole, training=False)[1], rtol=1e-5
    )
    with pytest.raises(entropyd.ModelStateError):
        model.compress(X, *whole)
