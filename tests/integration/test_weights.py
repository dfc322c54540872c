"""Weights, and models that move from one store to another."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import entropyd
from entropyd import priors
from entropyd_server.local import LocalServer
from tests.support.tfc_models import tfc_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from entropyd_server.local import LocalServer as Server


@pytest.fixture(scope="module")
def deep(client: entropyd.Client) -> entropyd.Model:
    prior = priors.NoisyDeepFactorized((2,), (2,), init_scale=2)
    return client.create_model(
        entropyd.UniversalBatchedConfig(prior=prior, coding_rank=1, num_noise_levels=3)
    )


def test_weights_are_those_of_tfc_in_its_order(deep: entropyd.Model) -> None:
    theirs = tfc_model(deep.config).get_weights()
    ours = deep.get_weights()
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_a_models_own_weights_give_the_model_itself(deep: entropyd.Model) -> None:
    assert deep.set_weights(deep.get_weights()).id == deep.id


def test_weights_that_are_set_are_the_weights_that_are_got(
    client: entropyd.Client, deep: entropyd.Model
) -> None:
    wider = priors.NoisyDeepFactorized((2,), (2,), init_scale=4)
    config = entropyd.UniversalBatchedConfig(prior=wider, coding_rank=1, num_noise_levels=3)
    weights = client.create_model(config).get_weights()
    changed = deep.set_weights(weights)
    assert changed.id != deep.id
    assert changed.prior == wider
    for one, other in zip(changed.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(one, other)
    x = np.array([[0.3, -4.0]], np.float32)
    assert changed.compress(x).strings.tolist() == client.create_model(config).compress(x).strings.tolist()


def test_lists_of_numbers_are_weights_of_the_dtype_that_is_there(deep: entropyd.Model) -> None:
    weights = deep.get_weights()
    assert deep.set_weights([weight.tolist() for weight in weights]).id == deep.id
    assert deep.set_weights(tuple(weights)).id == deep.id
    with pytest.raises(entropyd.InvalidTensorError, match=r"weights\[1\] holds numbers that are no int32"):
        deep.set_weights([weights[0], (weights[1] + 0.5).tolist(), *weights[2:]])


def test_stateless_models_count_no_tables(client: entropyd.Client) -> None:
    prior = priors.NoisyDeepFactorized((2,), (2,), init_scale=2)
    both: tuple[dict[str, Any], ...] = ({"compression": False}, {"stateless": True})
    for arguments in both:
        model = client.create_model(
            entropyd.UniversalBatchedConfig(prior=prior, coding_rank=1, num_noise_levels=2, **arguments)
        )
        assert len(model.get_weights()) == len(prior.variables)
        with pytest.raises(RuntimeError, match="no config"):
            model.get_config()


def test_a_config_is_json_and_makes_the_same_model(deep: entropyd.Model) -> None:
    restored = entropyd.UniversalBatchedConfig.from_dict(json.loads(json.dumps(deep.get_config())))
    assert restored.model_id == deep.id


Weights = list[np.ndarray[Any, Any]]
BAD: dict[str, tuple[Callable[[Weights], list[Any]], str]] = {
    "number": (lambda w: w[:-1], "weights has 6 tensors; expected 7: cdf, cdf_offset, bias_0"),
    "dtype": (lambda w: [w[0].astype(np.float32), *w[1:]], r"weights\[0\] \(cdf\) has dtype float32"),
    "shape": (lambda w: [*w[:2], w[2][:1], *w[3:]], r"weights\[2\] \(bias_0\) has shape \(1, 2, 1\)"),
    "nan": (lambda w: [*w[:2], w[2] * np.float32(np.nan), *w[3:]], r"weights\[2\] .* NaN"),
    "illegal tables": (lambda w: [w[0] + 1, *w[1:]], r"weights\[0\] row 0"),
    "tables of fewer rows": (lambda w: [w[0][: _row(w[0])], w[1][:1], *w[2:]], r"weights\[1\] .* rows 1"),
    "no array": (lambda w: [*w[:-1], "text"], r"weights\[6\] is a str"),
}


def _row(cdf: np.ndarray[Any, Any]) -> int:
    return int(np.flatnonzero(cdf < 0)[1])


@pytest.mark.parametrize(("spoil", "message"), BAD.values(), ids=BAD)
def test_weights_that_do_not_fit_are_refused_by_name(
    deep: entropyd.Model, spoil: Callable[[Weights], list[Any]], message: str
) -> None:
    with pytest.raises(entropyd.InvalidTensorError, match=message):
        deep.set_weights(spoil(deep.get_weights()))


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[entropyd.Client]:
    """A server with an empty store of its own."""
    with LocalServer() as server, entropyd.Client(server.target) as connected:
        yield connected


def test_an_exported_model_is_the_same_elsewhere(deep: entropyd.Model, elsewhere: entropyd.Client) -> None:
    with pytest.raises(entropyd.ModelNotFoundError):
        elsewhere.model(deep.id)
    there = elsewhere.import_model(deep.export())
    assert (there.id, there.tables_digest, there.config) == (deep.id, deep.tables_digest, deep.config)
    x = np.array([[0.3, -4.0], [1.0, 2.0]], np.float32)
    np.testing.assert_array_equal(there.decompress(deep.compress(x)), deep.decompress(deep.compress(x)))
    assert elsewhere.import_model(deep.export()).id == deep.id


def test_other_tables_under_the_same_id_are_refused(
    client: entropyd.Client, elsewhere: entropyd.Client
) -> None:
    """As two machines may build them from one prior."""
    config = entropyd.UniversalBatchedConfig(prior=priors.NoisyNormal(0.0, 2.0), coding_rank=1)
    exported = client.create_model(config).export()
    elsewhere.create_model(config)
    elsewhere.import_model(exported)  # equal tables: nothing to refuse

    from entropyd_server.coding.tables import CodingTables  # noqa: PLC0415
    from entropyd_server.store import model_object  # noqa: PLC0415

    found = model_object.parse(exported)
    assert found.tables is not None
    other = CodingTables.parse(found.tables.cdf, found.tables.cdf_offset + 1)
    with pytest.raises(entropyd.TablesMismatchError, match="other coding tables"):
        elsewhere.import_model(model_object.serialise(config, other, found.built_with))


@pytest.mark.parametrize("damage", [b"", b"text", None])
def test_a_damaged_export_is_refused(
    deep: entropyd.Model, elsewhere: entropyd.Client, damage: bytes | None
) -> None:
    exported = bytearray(deep.export())
    exported[-5] ^= 1
    with pytest.raises(entropyd.InvalidRequestError, match="object is no exported model, or was damaged"):
        elsewhere.import_model(bytes(exported) if damage is None else damage)


def test_models_travel_in_files(deep: entropyd.Model, server: Server, tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "entropyd.cli", "--server", server.target, "models", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout

    assert deep.id[:12] in run("export", deep.id, "model.safetensors")
    assert run("import", "model.safetensors").strip() == deep.id
