"""Laws of bounded data on a real server: bound, identity, missing values, and the files that keep them."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from entropyd import InvalidTensorError, Model, UniversalBatchedConfig, priors
from entropyd.bounded import BoundedTensor, ErrorBound, compress, decompress

if TYPE_CHECKING:
    import numpy.typing as npt

    from entropyd import Client
    from entropyd_server.local import LocalServer

PAGE = Path(__file__).resolve().parents[2] / "docs" / "bounded.md"
MISSING = (-9999.0, 0.0)


def model_of(client: Client, bottleneck_dtype: str = "float32", **config: Any) -> Model:
    prior = priors.NoisyNormal(loc=[10.0, -30.0, 0.0], scale=[5.0, 10.0, 50.0])
    config = {"prior": prior, "coding_rank": 2, "bottleneck_dtype": bottleneck_dtype, **config}
    return client.create_model(UniversalBatchedConfig(**config))


def gappy(dtype: str, shape: tuple[int, ...] = (6, 40, 3)) -> npt.NDArray[Any]:
    """Data around 0 with NaN, missing values, and values beside them."""
    rng = np.random.default_rng(4)
    data = rng.normal(0, 1, shape).astype(dtype)
    holes = np.array([np.nan, -9999.0, -9998.0, 0.0, -0.0, 1e-4, -1e-4]).astype(dtype)
    holes = holes[(np.abs(holes) < 100) | np.isin(holes, np.array(MISSING, dtype)) | np.isnan(holes)]
    data.reshape(-1)[::5] = rng.choice(holes, len(data.reshape(-1)[::5]))
    return data


def absent(data: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    mask: npt.NDArray[np.bool_] = np.isnan(data) | np.isin(data, np.array(MISSING).astype(data.dtype))
    return mask


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("bottleneck_dtype", ["float16", "bfloat16", "float32", "float64"])
def test_missing_values_are_exact_and_all_else_keeps_the_bound_however_often_it_is_compressed(
    client: Client, dtype: str, bottleneck_dtype: str
) -> None:
    model, data = model_of(client, bottleneck_dtype), gappy(dtype)
    max_error = 0.5 if bottleneck_dtype == "bfloat16" else 0.02
    once = decompress(model, compress(model, data, max_error, MISSING))
    again = decompress(model, compress(model, once, max_error, MISSING))
    assert again.tobytes() == once.tobytes()
    gone = absent(data)
    assert once.dtype == data.dtype
    assert once[gone].tobytes() == data[gone].tobytes()
    assert (absent(once) == gone).all()
    assert (np.abs(once[~gone].astype(float) - data[~gone].astype(float)) <= max_error).all()


def test_what_is_saved_is_loaded(client: Client, tmp_path: Path) -> None:
    model, data = model_of(client), gappy("float64")
    tensor = compress(model, data, 0.01, MISSING)
    tensor.save(tmp_path / "x.entropyd")
    loaded = BoundedTensor.load(tmp_path / "x.entropyd")
    assert loaded.bound == tensor.bound
    assert decompress(model, loaded).tobytes() == decompress(model, tensor).tobytes()


def test_an_archive_without_exact_elements_is_as_it_was_before_there_were_any(
    client: Client, tmp_path: Path
) -> None:
    model, data = model_of(client), np.random.default_rng(0).normal(0, 1, (5, 7, 3))
    tensor = compress(model, data, 0.01)
    tensor.save(tmp_path / "x.entropyd")
    tensor.compressed.save(tmp_path / "y.entropyd", metadata=tensor.bound.metadata)
    assert (tmp_path / "x.entropyd").read_bytes() == (tmp_path / "y.entropyd").read_bytes()


def test_an_archive_that_carries_another_step_is_restored_by_that(client: Client, tmp_path: Path) -> None:
    model, data = model_of(client), np.random.default_rng(0).normal(0, 1, (5, 7, 3)).astype(np.float32)
    bound = ErrorBound(0.01, 0.0193, "float32")
    compressed = model.compress(bound.bottleneck(data, np.float32))
    compressed.save(tmp_path / "x.entropyd", metadata=bound.metadata)
    restored = decompress(model, BoundedTensor.load(tmp_path / "x.entropyd"))
    assert np.abs(restored - data).max() <= 0.01


@pytest.mark.parametrize("levels", [1, 2, 15])
def test_a_missing_element_costs_no_more_than_any_other_value_would(client: Client, levels: int) -> None:
    prior = priors.NoisyLaplace(loc=[5000.0, -700.0], scale=[8.0, 1.0])
    model = model_of(client, prior=prior, num_noise_levels=levels)
    bits = [
        compress(model, np.full((1, 2000, 2), np.nan), 1.0).compressed.payload,
        *(
            model.compress(np.broadcast_to(np.array(prior.parameters["loc"]) + away, (1, 2000, 2))).payload
            for away in np.arange(-3, 3.1, 0.25).astype(np.float32)
        ),
    ]
    assert len(bits[0]) <= 1.01 * min(map(len, bits))


def test_an_axis_that_is_repeated_repeats_its_missing_elements(client: Client) -> None:
    model, data = model_of(client), gappy("float32", (4, 10, 1))
    restored = decompress(model, compress(model, data, 0.02, MISSING))
    assert restored.shape == (4, 10, 3)
    data = np.broadcast_to(data, restored.shape)
    gone = absent(data)
    assert (absent(restored) == gone).all()
    assert (np.abs(restored[~gone] - data[~gone]) <= 0.02).all()


@pytest.mark.parametrize("shape", [(3,), (4, 2), (1, 4, 2)])
def test_a_wrong_shape_is_refused_in_the_same_words_whatever_is_missing(
    client: Client, shape: tuple[int, ...]
) -> None:
    model, errors = model_of(client), []
    for value in (1.0, math.nan):
        with pytest.raises(InvalidTensorError) as caught:
            compress(model, np.full(shape, value), 0.1)
        errors.append(str(caught.value))
    assert errors[0] == errors[1]


def test_a_bottleneck_that_cannot_be_coded_is_said_to_be_the_data_divided_by_the_step(client: Client) -> None:
    data = np.full((1, 2, 3), 1e9)
    data[0, 1, 2] = math.nan
    with pytest.raises(InvalidTensorError, match=r"the data divided by 0\.0199") as caught:
        compress(model_of(client, "float64"), data, 0.01)
    assert caught.value.violations


def test_a_tensor_without_elements_makes_the_round_trip(client: Client) -> None:
    model = model_of(client)
    data = np.zeros((0, 4, 3), np.float32)
    assert decompress(model, compress(model, data, 0.1, MISSING)).shape == data.shape


def test_the_page_about_it_holds(
    server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert "127.0.0.1:7070" in code
    exec(code.replace("127.0.0.1:7070", server.target), {})  # noqa: S102 - our own page
