"""Archives and a running server: parts decode, damage costs its own units, and models travel along."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import skimage.data

from entropyd import (
    Archive,
    ArchiveWriter,
    Client,
    CompressedTensor,
    CorruptStringError,
    DataLossError,
    EmbeddedModel,
    InvalidRequestError,
    InvalidTensorError,
    Model,
    TablesMismatchError,
    UniversalBatchedConfig,
    bounded,
    priors,
)
from entropyd.archive import ExactElements, verify
from tests.golden.archives import write
from tests.support.archive_cases import with_flipped_bits
from tests.support.indexed_models import indexed_config

PAGE = Path(__file__).resolve().parents[2] / "docs" / "archive.md"
GOLDEN = [
    path for path in sorted(Path(write.__file__).parent.glob("*.entropyd")) if path.stem not in write.BUNDLES
]


@pytest.fixture(scope="module")
def x() -> npt.NDArray[np.float32]:
    return np.random.default_rng(7).normal(0, 3, (500, 400, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def path(model: Model, x: npt.NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of some ten blocks, written piece by piece."""
    target = tmp_path_factory.mktemp("archive") / "x.entropyd"
    with ArchiveWriter(target, metadata={"a": 1}, model=EmbeddedModel.of(model)) as writer:
        for start in range(0, len(x), 77):
            writer.append(model.compress(x[start : start + 77]))
    return target


def test_any_part_of_an_archive_decodes_to_that_part(
    model: Model, x: npt.NDArray[np.float32], path: Path
) -> None:
    with Archive.open(path) as archive:
        assert archive.batch_shape == (500,)
        assert archive.symbols_per_unit == 1200
        for key in (321, slice(3, 7), slice(None, None, 100), [5, 499, 5]):
            np.testing.assert_allclose(model.decompress(archive[key]), x[key], atol=0.5 + 1e-5)


def test_the_whole_file_decodes_as_the_tensor_in_memory_does(
    model: Model, x: npt.NDArray[np.float32], path: Path
) -> None:
    np.testing.assert_array_equal(
        model.decompress(CompressedTensor.load(path)), model.decompress(model.compress(x))
    )


def test_damage_costs_its_own_block_and_the_rest_decodes(
    model: Model, x: npt.NDArray[np.float32], path: Path, tmp_path: Path
) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = tmp_path / "damaged"
    damaged.write_bytes(content)
    ((first, last, _),) = verify(damaged).damaged
    assert 0 < last - first < 200
    with Archive.open(damaged) as archive:
        model.decompress(archive[:first])
        with pytest.raises(CorruptStringError) as caught:
            model.decompress(archive[:])
        assert caught.value.units == tuple(range(first, last + 1))
        restored, mask = model.decompress(archive.read(on_error="skip"), on_error="skip")
    assert np.flatnonzero(mask).tolist() == list(range(first, last + 1))
    assert np.isnan(restored[mask]).all()
    np.testing.assert_allclose(restored[~mask], x[~mask], atol=0.5 + 1e-5)


def test_skipping_where_nothing_is_damaged_masks_nothing(model: Model) -> None:
    compressed = model.compress(np.zeros((2, 3, 5, 3), np.float32))
    restored, mask = model.decompress(compressed, on_error="skip")
    assert mask.shape == (2, 3)
    assert not mask.any()
    np.testing.assert_array_equal(restored, model.decompress(compressed))


def test_what_is_no_policy_for_damage_is_refused_without_a_call(model: Model) -> None:
    compressed = model.compress(np.zeros((2, 5, 3), np.float32))
    unknown: Any = "ignore"
    with pytest.raises(InvalidRequestError, match="on_error is 'ignore'; expected 'raise' or 'skip'"):
        model.decompress(compressed, on_error=unknown)


def test_a_bad_bare_string_is_masked_in_the_shape_of_the_batch(model: Model) -> None:
    strings = model.compress(np.zeros((2, 2, 5, 3), np.float32)).strings.copy()
    strings[1, 0] += b"\x01\x02\x03\x04\x05\x06\x07\x08"
    restored, mask = model.decompress(strings, (5,), on_error="skip")
    assert mask.tolist() == [[False, False], [True, False]]
    assert np.isnan(restored[1, 0]).all()
    assert np.isfinite(restored[~mask]).all()


@pytest.mark.parametrize("exact_dtype", [None, "float32"])
def test_no_flipped_bit_of_an_archive_restores_other_values(
    model: Model, tmp_path: Path, exact_dtype: str | None
) -> None:
    x = np.random.default_rng(8).normal(0, 2, (3, 2, 3)).astype(np.float32)
    exact = ExactElements.of(x, (x > 1) & (exact_dtype is not None))
    with ArchiveWriter(tmp_path / "good", exact_dtype=exact_dtype) as writer:
        writer.append(model.compress(x), exact)
    content = (tmp_path / "good").read_bytes()
    expected = exact.applied(model.decompress(Archive.from_bytes(content)[:]))
    outcomes = {"refused": 0, "masked": 0}
    flips = list(with_flipped_bits(content, step=5))
    for damaged in flips:
        try:
            archive = Archive.from_bytes(damaged)
            part = archive.read(on_error="skip")
        except DataLossError:
            outcomes["refused"] += 1
            continue
        restored, mask = model.decompress(part, on_error="skip")
        restored = archive.exact(on_error="skip").applied(restored)
        np.testing.assert_array_equal(restored[~mask], expected[~mask])
        outcomes["masked"] += bool(mask.any())
    assert min(outcomes.values()) > 0
    assert sum(outcomes.values()) == len(flips)


def test_the_code_on_the_page_runs(
    client: Client, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    parts = [np.full((5000, 1, 3), number, np.float32) for number in range(3)]
    measured = np.where(np.arange(45) % 7 == 0, np.float32(np.nan), np.float32(2)).reshape(15, 1, 3)
    names: dict[str, Any] = {
        "client": client,
        "model": model,
        "parts": parts,
        "measured": measured,
        "compressed": model.compress(parts[0]),
        "hyper": client.create_model(indexed_config("location_scale_indexed", (8,), coding_rank=1)),
        "y": np.linspace(-9, 9, 90, dtype=np.float32).reshape(15, 6),
        "indexes": np.arange(90).reshape(15, 6) % 8,
        "loc": np.arange(15, dtype=np.float32)[:, None],
        "z_model": model,
        "z_strings": model.compress(parts[0][:1]),
        "y_strings": model.compress(parts[0][:9]),
    }
    snippets = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(snippets) == 5
    for snippet in snippets:
        exec(snippet, names)  # noqa: S102 - our own page
    np.testing.assert_allclose(names["part"], measured[3:7], atol=0.5)
    np.testing.assert_allclose(names["restored"], parts[0][3:7], atol=0.5)
    np.testing.assert_allclose(names["y_hat"], names["y"][3:7], atol=0.5 + 1e-5)


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.stem)
def test_an_archive_that_embeds_its_model_decodes_with_a_server_that_never_had_it(
    client: Client, golden: Path
) -> None:
    expected = np.load(golden.with_suffix(".npy"))
    indexes = np.load(golden.with_suffix(".indexes.npy")) if golden.stem in write.INDEXED else None
    with Archive.open(golden) as archive:
        embedded = archive.model
        assert embedded is not None
        model = client.create_model(embedded.standalone_config)
        assert model.tables_digest == archive.tables_digest
        bound, exact = bounded.ErrorBound.of(archive.metadata), archive.exact()
        restored = model.decompress(embedded.standalone(archive.read()), indexes)
    restored = exact.applied(restored if bound is None else bound.data(restored))
    assert restored.tobytes() == expected.tobytes()
    assert restored.shape == expected.shape


def test_an_archive_of_other_tables_is_refused_before_a_bit_is_read(model: Model, path: Path) -> None:
    other = CompressedTensor(model.id, b"\x01" * 32, "float32", (0,), (5,), b"", np.empty(0, np.uint32), ())
    with pytest.raises(TablesMismatchError):
        model.decompress(other)


@pytest.mark.parametrize("max_error", [0.5, 2.0])
def test_photos_come_back_within_the_bound(client: Client, tmp_path: Path, max_error: float) -> None:
    photo = skimage.data.camera().astype(np.float32)
    step = 2 * max_error
    prior = priors.NoisyNormal(loc=photo.mean() / step, scale=photo.std() / step)
    model = client.create_model(UniversalBatchedConfig(prior=prior, coding_rank=1))
    bounded.compress(model, photo, max_error).save(tmp_path / "photo")
    loaded = bounded.BoundedTensor.load(tmp_path / "photo")
    restored = bounded.decompress(model, loaded)
    assert restored.dtype == np.float32
    assert np.abs(photo.astype(np.float64) - restored.astype(np.float64)).max() <= max_error
    assert len(loaded.compressed.payload) < 1.05 * photo.size


def test_measurements_in_float64_keep_a_bound_that_float32_could_not(client: Client) -> None:
    disparity = np.nan_to_num(skimage.data.stereo_motorcycle()[2].astype(np.float64), posinf=0)[::8, ::4]
    data = disparity + 1e6
    prior = priors.NoisyNormal(loc=np.float64(0), scale=np.float64(1000))
    narrow = client.create_model(UniversalBatchedConfig(prior=prior, coding_rank=1, range_coder_precision=16))
    wide = client.create_model(
        UniversalBatchedConfig(
            prior=prior, coding_rank=1, range_coder_precision=16, bottleneck_dtype="float64"
        )
    )
    with pytest.raises(InvalidTensorError, match="through a model of float32"):
        bounded.compress(narrow, data, 1e-2)
    tensor = bounded.compress(wide, data, 1e-2)
    assert np.abs(bounded.decompress(wide, tensor) - data).max() <= 1e-2


def test_an_archive_without_a_bound_is_not_taken_for_one_with(model: Model, path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="compressed as they are"):
        bounded.BoundedTensor.load(path)
