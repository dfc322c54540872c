"""ContinuousBatchedEntropyModel end to end, under TFC's own tests and ours."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_compression as tfc
from tensorflow_compression.python.entropy_models import continuous_batched_test

import entropyd
from entropyd import aio, bounded, priors
from entropyd import tfc as drop_in
from entropyd.archive import Archive, ArchiveWriter, EmbeddedModel
from entropyd.contract.dtypes import BOTTLENECK_DTYPES, numpy_dtype
from entropyd.tfc import RemoteContinuousBatchedEntropyModel as Remote
from tests.support.tfc_continuous_batched import tfc_continuous_batched
from tests.support.tfc_suite import names_of, run_passing

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from entropyd_server.local import LocalServer

PRIOR = priors.NoisyNormal(loc=[0.0, 1.3, -2.25], scale=[0.5, 2.0, 6.0])
OFFSETS: dict[str, dict[str, Any]] = {
    "computed": {},
    "computed as none": {"prior": priors.NoisyNormal(loc=[0.0, 1.0, -2.0], scale=[0.5, 2.0, 6.0])},
    "searched": {"prior": priors.NoisyDeepFactorized((3,), (2,), init_scale=1, variables=None)},
    "none": {"offset_heuristic": False},
    "given": {"quantization_offset": [0.1, -0.3, 0.45]},
    "given for all": {"quantization_offset": 0.2},
}


def theirs() -> Any:
    """TFC's test case; as a function, lest pytest collect it as one of ours."""
    return continuous_batched_test.ContinuousBatchedEntropyModelTest


THEIR_TESTS = names_of(theirs())


@pytest.mark.parametrize("name", THEIR_TESTS)
def test_tfcs_own_tests_pass_with_the_remote_class(
    client: entropyd.Client, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    run_passing(theirs()(name), Remote, continuous_batched_test, client, monkeypatch)


def test_their_tests_were_found() -> None:
    assert len(THEIR_TESTS) >= 25


def config(**arguments: Any) -> entropyd.ContinuousBatchedConfig:
    return entropyd.ContinuousBatchedConfig(**{"prior": PRIOR, "coding_rank": 2, **arguments})


def bottleneck(dtype: str = "float32") -> npt.NDArray[Any]:
    """[2, 2, 6, 3], some of it escapes."""
    x = np.random.default_rng(0).laplace(0, 4, (2, 2, 6, 3))
    x[0, 0, 0] = 1000
    return x.astype(numpy_dtype(dtype))


@pytest.mark.parametrize("dtype", BOTTLENECK_DTYPES)
@pytest.mark.parametrize("arguments", OFFSETS.values(), ids=OFFSETS)
def test_strings_values_bits_and_weights_are_those_of_tfc(
    client: entropyd.Client, arguments: dict[str, Any], dtype: str
) -> None:
    model = client.create_model(config(bottleneck_dtype=dtype, **arguments))
    local = tfc_continuous_batched(model.config)
    x = bottleneck(dtype)
    compressed = model.compress(x)
    strings = local.compress(x).numpy()
    assert compressed.strings.tolist() == strings.tolist()
    restored = model.decompress(strings, (6,))
    assert restored.dtype == numpy_dtype(dtype)
    assert restored.tobytes() == np.asarray(local.decompress(compressed.strings, (6,))).tobytes()
    assert model.decompress(compressed).tobytes() == restored.tobytes()
    perturbed, bits = model(x, training=False)
    np.testing.assert_array_equal(perturbed, restored)  # but for the sign of 0, as in TFC
    np.testing.assert_allclose(bits, local(x, training=False)[1], rtol=1e-5)
    for one, other in zip(model.get_weights(), local.get_weights(), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    offset = local.quantization_offset
    expected = None if offset is None else np.asarray(offset.numpy())
    np.testing.assert_equal(model.quantization_offset, expected)


@pytest.mark.parametrize("arguments", OFFSETS.values(), ids=OFFSETS)
def test_a_model_without_compression_estimates_as_tfc_does(
    client: entropyd.Client, arguments: dict[str, Any]
) -> None:
    model = client.create_model(config(compression=False, **arguments))
    x = bottleneck()
    perturbed, bits = model(x, training=False)
    local = tfc_continuous_batched(model.config)
    np.testing.assert_array_equal(perturbed, local(x, training=False)[0])
    np.testing.assert_allclose(bits, local(x, training=False)[1], rtol=1e-5)
    with pytest.raises(entropyd.ModelStateError):
        model.compress(x)


def test_weights_set_on_their_model_are_its_own_and_others_make_another(client: entropyd.Client) -> None:
    model = client.create_model(config())
    weights = model.get_weights()
    assert model.set_weights(weights).id == model.id
    assert weights[2].tolist() == pytest.approx([0, 0.3, -0.25])
    moved = model.set_weights([*weights[:2], weights[2] + np.float32(0.125)])
    assert moved.id != model.id
    np.testing.assert_array_equal(moved.get_weights()[2], weights[2] + np.float32(0.125))
    x = bottleneck()
    local = tfc_continuous_batched(model.config)
    local.set_weights([np.asarray(weight) for weight in moved.get_weights()])
    assert moved.compress(x).strings.tolist() == local.compress(x).numpy().tolist()
    assert moved(x, training=False)[0].tobytes() == local.quantize(x).numpy().tobytes()
    for bad in (
        [weights[0], weights[1]],
        [*weights[:2], weights[2][:2]],
        [*weights[:2], weights[2] * np.nan],
    ):
        with pytest.raises(entropyd.InvalidTensorError, match="weights"):
            model.set_weights(bad)


def test_a_model_of_tables_alone_codes_and_says_that_it_has_no_density(client: entropyd.Client) -> None:
    built = client.create_model(config())
    alone = client.create_model(
        entropyd.ContinuousBatchedConfig(
            coding_rank=2,
            prior_shape=(3,),
            cdf=built.cdf,
            cdf_offset=built.cdf_offset,
            quantization_offset=built.quantization_offset,
        )
    )
    assert alone.tables_digest == built.tables_digest
    x = bottleneck()
    strings = alone.compress(x).strings
    assert strings.tolist() == built.compress(x).strings.tolist()
    np.testing.assert_array_equal(alone.decompress(strings, (6,)), built.decompress(strings, (6,)))
    assert len(alone.get_weights()) == 3
    assert "prior_shape=(3,)" in repr(alone)
    for call in (lambda: alone(x), lambda: alone.prior):
        with pytest.raises(entropyd.ModelStateError, match="density") as caught:
            call()
        assert caught.value.reason == "MODEL_WITHOUT_PRIOR"


def test_what_cannot_be_coded_is_refused_by_name_and_nothing_gives_nothing(client: entropyd.Client) -> None:
    for dtype in BOTTLENECK_DTYPES:
        model = client.create_model(config(bottleneck_dtype=dtype))
        x = bottleneck(dtype)
        for bad in (np.nan, np.inf):
            x[1, 0, 2, 1] = bad
            with pytest.raises(entropyd.InvalidTensorError, match=r"coding unit 2, element \(2, 1\)"):
                model.compress(x)
        empty = np.zeros((0, 6, 3), x.dtype)
        assert model.compress(empty).strings.shape == (0,)
        assert model.decompress(model.compress(empty)).shape == (0, 6, 3)
        units = model.compress(np.zeros((4, 0, 3), x.dtype))
        assert units.strings.tolist() == [b""] * 4


def test_a_model_travels_with_its_offset(client: entropyd.Client, tmp_path: Path) -> None:
    model = client.create_model(config(bottleneck_dtype="bfloat16", tail_mass=0.01))
    compressed = model.compress(bottleneck("bfloat16"))
    expected = model.decompress(compressed).tobytes()
    path = tmp_path / "x.entropyd"
    with ArchiveWriter(path, model=EmbeddedModel.of(model)) as writer:
        writer.append(compressed)
    exported = model.export()
    client.delete_model(model.id)
    with Archive.open(path) as archive:
        embedded = archive.model
        assert embedded is not None
        assert embedded.tables_digest == model.tables_digest
        alone = client.create_model(embedded.standalone_config)
        assert alone.tables_digest == model.tables_digest
        assert alone.decompress(embedded.standalone(archive.read())).tobytes() == expected
    imported = client.import_model(exported)
    assert imported.id == model.id
    assert imported.decompress(compressed).tobytes() == expected


def test_the_asynchronous_client_gives_the_same(client: entropyd.Client, server: LocalServer) -> None:
    model = client.create_model(config())
    x = bottleneck()

    async def calls() -> tuple[Any, ...]:
        async with aio.Client(server.target) as connected:
            found = await connected.create_model(config())
            compressed = await found.compress(x)
            restored = await found.decompress(compressed)
            return found.id, compressed.strings.tolist(), restored, await found.quantization_offset()

    model_id, strings, restored, offset = asyncio.run(calls())
    assert model_id == model.id
    assert strings == model.compress(x).strings.tolist()
    np.testing.assert_array_equal(restored, model.decompress(model.compress(x)))
    np.testing.assert_equal(offset, model.quantization_offset)


def test_the_command_line_makes_shows_and_codes_with_it(server: LocalServer, tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "entropyd.cli", "--server", server.target, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout

    (tmp_path / "model.json").write_text(json.dumps(config().to_dict()))
    model_id = run("models", "create", "--config", "model.json").strip()
    assert model_id == config().model_id
    assert json.loads(run("models", "show", model_id, "--json")) == config().to_dict()
    shown = run("models", "show", model_id)
    assert "continuous_batched" in shown
    assert "offset_heuristic" in shown
    assert model_id in run("models", "list")
    np.save(tmp_path / "x.npy", bottleneck())
    run("compress", "--model", model_id, "x.npy", "x.entropyd")
    run("decompress", "x.entropyd", "y.npy")
    assert np.abs(np.load(tmp_path / "y.npy") - bottleneck()).max() <= 0.5


def test_errors_are_bounded_with_it_too(client: entropyd.Client) -> None:
    model = client.create_model(config())
    x = bottleneck()
    x[0, 1, 2, 2] = np.nan
    restored = bounded.decompress(model, bounded.compress(model, x, 0.01, missing=(1000,)))
    np.testing.assert_array_equal(np.isnan(restored), np.isnan(x))
    assert np.nanmax(np.abs(restored - x)) <= 0.01


def test_a_prior_is_fitted_for_it(client: entropyd.Client) -> None:
    samples = np.random.default_rng(1).normal([3.3, -1.7], [2, 5], (4000, 2)).astype(np.float32)
    start = priors.NoisyNormal(loc=[0.0, 0.0], scale=[3.0, 3.0])
    model = client.fit_model(config(prior=start), samples)
    assert isinstance(model.config, entropyd.ContinuousBatchedConfig)
    np.testing.assert_allclose(model.prior.parameters["loc"], [3.3, -1.7], atol=0.3)
    offset: Any = model.quantization_offset
    np.testing.assert_allclose(offset, model.prior.parameters["loc"] - [3, -2], atol=1e-5)


# The drop-in


def test_a_trained_model_of_tfc_is_registered_with_its_exact_tables(client: entropyd.Client) -> None:
    prior = tfc.NoisyDeepFactorized(batch_shape=(3,), init_scale=2)
    local = tfc.ContinuousBatchedEntropyModel(prior, 2, compression=True)
    model = drop_in.register(client, local)
    x = bottleneck()
    assert model.compress(x).strings.tolist() == local.compress(x).numpy().tolist()
    for one, other in zip(model.get_weights(), local.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    stateless = tfc.ContinuousBatchedEntropyModel(
        coding_rank=2,
        compression=True,
        stateless=True,
        prior_shape=local.prior_shape,
        cdf=local.cdf,
        cdf_offset=local.cdf_offset,
        quantization_offset=local.quantization_offset,
    )
    assert (
        drop_in.register(client, stateless).compress(x).strings.tolist() == local.compress(x).numpy().tolist()
    )
    with pytest.raises(TypeError, match="NoisyNormal"):
        drop_in.register(client, tfc.NoisyNormal(loc=0.0, scale=1.0))


def test_an_object_codes_as_its_variables_say_after_they_change(client: entropyd.Client) -> None:
    def remote(loc: list[float]) -> Any:
        return Remote(tfc.NoisyNormal(loc=loc, scale=[1.0, 2.0, 3.0]), 2, compression=True, client=client)

    one, other = remote([0.1, 0.2, 0.3]), remote([0.4, -0.2, 0.0])
    x = bottleneck()
    compress = tf.function(one.compress)
    assert compress(x).numpy().tolist() != other.compress(x).numpy().tolist()
    one.set_weights(other.get_weights())
    assert compress(x).numpy().tolist() == other.compress(x).numpy().tolist()
    np.testing.assert_array_equal(one.remote.quantization_offset, other.quantization_offset)
    np.testing.assert_array_equal(
        one.decompress(other.compress(x), (6,)), tfc.ContinuousBatchedEntropyModel.quantize(other, x)
    )


def test_an_object_whose_variables_stay_has_the_model_of_its_arguments(client: entropyd.Client) -> None:
    prior = tfc.NoisyNormal(loc=[0.0, 1.3, -2.25], scale=[0.5, 2.0, 6.0])
    remote = Remote(prior, 2, compression=True, client=client)
    remote.compress(bottleneck())
    assert remote.remote.id == client.create_model(config()).id
