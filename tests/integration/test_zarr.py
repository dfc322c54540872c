"""The codec under the real zarr: what is written is read back, elsewhere too, within the bound."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

zarr = pytest.importorskip("zarr")

from entropyd import (  # noqa: E402
    Client,
    DataLossError,
    EntropydError,
    InvalidConfigError,
    InvalidTensorError,
    LimitExceededError,
    Model,
    ModelNotFoundError,
    ModelStateError,
    UnavailableError,
    UniversalBatchedConfig,
    bounded,
    priors,
)
from entropyd.archive import Archive  # noqa: E402
from entropyd.zarr import EntropydCodec  # noqa: E402
from entropyd_server.local import LocalServer  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt


PAGES = Path(__file__).resolve().parents[2] / "docs"

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:zarr")


FILLS = {"NaN": np.nan, "0": 0.0, "-9999": -9999.0, "netCDF's": 9.969209968386869e36}


@pytest.fixture(autouse=True, scope="module")
def used_server(server: LocalServer) -> Iterator[None]:
    with zarr.config.set({"entropyd.server": server.target}):
        yield


@pytest.fixture(scope="module")
def row_model(client: Client) -> Model:
    """A model whose coding units are rows of any length."""
    prior = priors.NoisyNormal(loc=0.0, scale=50.0)
    return client.create_model(UniversalBatchedConfig(prior=prior, coding_rank=1))


def created(path: Path, data: Any, chunks: tuple[int, ...], codec: EntropydCodec) -> Any:
    array = zarr.create_array(
        str(path), shape=data.shape, chunks=chunks, dtype=data.dtype, serializer=codec, compressors=None
    )
    array[...] = data
    return array


READS_A_SLICE = """
import sys
import numpy as np
import zarr
assert not any(name.startswith("entropyd") for name in sys.modules)
np.save(sys.argv[2], zarr.open_array(sys.argv[1], mode="r")[5:11, 2:4])
"""


def test_a_slice_is_read_in_a_new_process_within_the_bound(
    server: LocalServer, model: Model, tmp_path: Path
) -> None:
    data = np.random.default_rng(0).normal(0, 3, (20, 7, 3)).astype(np.float32)
    created(tmp_path / "x.zarr", data, (4, 5, 3), EntropydCodec(model.id))
    command = [sys.executable, "-c", READS_A_SLICE, str(tmp_path / "x.zarr"), str(tmp_path / "slice.npy")]
    environment = {**os.environ, "ZARR_ENTROPYD__SERVER": server.target}
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert ran.returncode == 0, ran.stderr
    found = np.load(tmp_path / "slice.npy")
    assert found.dtype == np.float32
    assert np.abs(found - data[5:11, 2:4]).max() <= 0.5 + 1e-5


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_bound_on_the_error_holds(client: Client, tmp_path: Path, dtype: str) -> None:
    data = np.cumsum(np.random.default_rng(1).normal(0, 0.01, (30, 50)), axis=1).astype(dtype)
    step = 2e-3
    prior = priors.NoisyNormal(loc=0.0, scale=float(data.std() / step))
    model = client.create_model(UniversalBatchedConfig(prior=prior, coding_rank=1, range_coder_precision=16))
    array = created(tmp_path / "x.zarr", data, (8, 50), EntropydCodec(model.id, max_error=step / 2))
    assert np.abs(array[:] - data).max() <= step / 2
    assert array.dtype == dtype


def test_a_chunk_is_an_archive(model: Model, tmp_path: Path) -> None:
    data = np.ones((4, 2, 3), np.float32)
    created(tmp_path / "x.zarr", data, (4, 2, 3), EntropydCodec(model.id))
    with Archive.open(tmp_path / "x.zarr" / "c" / "0" / "0" / "0") as archive:
        assert archive.model_id == model.id
        assert archive.batch_shape == (4,)


def test_the_metadata_say_the_codec_and_not_the_server(model: Model, tmp_path: Path) -> None:
    created(tmp_path / "x.zarr", np.ones((4, 2, 3), np.float32), (4, 2, 3), EntropydCodec(model.id, 1.0))
    (codec,) = zarr.open_array(str(tmp_path / "x.zarr")).metadata.to_dict()["codecs"]
    assert codec == {"name": "entropyd", "configuration": {"model_id": model.id, "max_error": 1.0}}


def test_a_mask_that_zarr_hands_on_is_not_dropped(model: Model, tmp_path: Path) -> None:
    data = np.ones((8, 2, 3), np.float32)
    array = created(tmp_path / "x.zarr", data, (4, 2, 3), EntropydCodec(model.id))
    masked: Any = np.ma.masked_array
    with pytest.raises(InvalidTensorError, match="chunk is a masked array"):
        array[4:] = masked(data[4:], data[4:] > 0)


def test_a_damaged_chunk_is_an_error_of_that_chunk(model: Model, tmp_path: Path) -> None:
    data = np.random.default_rng(2).normal(0, 1, (8, 2, 3)).astype(np.float32)
    array = created(tmp_path / "x.zarr", data, (4, 2, 3), EntropydCodec(model.id))
    chunk = tmp_path / "x.zarr" / "c" / "1" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    assert np.abs(array[:4] - data[:4]).max() <= 0.5 + 1e-5
    with pytest.raises(DataLossError):
        array[4:]


def test_compressors_may_follow_and_many_chunks_are_coded_at_once(model: Model, tmp_path: Path) -> None:
    data = np.random.default_rng(3).normal(0, 2, (64, 2, 3)).astype(np.float32)
    array = zarr.create_array(
        str(tmp_path / "x.zarr"),
        shape=data.shape,
        chunks=(1, 2, 3),
        dtype="float32",
        serializer=EntropydCodec(model.id),
        compressors=[zarr.codecs.GzipCodec()],
    )
    array[...] = data
    assert np.abs(array[:] - data).max() <= 0.5 + 1e-5


def test_a_server_that_is_not_there_is_named_by_the_error(model: Model, tmp_path: Path) -> None:
    array = created(tmp_path / "x.zarr", np.ones((4, 2, 3), np.float32), (4, 2, 3), EntropydCodec(model.id))
    with zarr.config.set({"entropyd.server": "127.0.0.1:1"}), pytest.raises(UnavailableError):
        array[:]


def agree(found: npt.NDArray[Any], expected: npt.NDArray[Any], max_error: float, *missing: float) -> None:
    """Checks that missing elements have the same bits, and all others are present and within the bound."""
    values = np.array(missing).astype(expected.dtype)
    gone = np.isnan(expected) | np.isin(expected, values)
    assert found[gone].tobytes() == expected[gone].tobytes()
    assert (gone == (np.isnan(found) | np.isin(found, values))).all()
    assert (np.abs(found[~gone].astype(float) - expected[~gone].astype(float)) <= max_error).all()


@pytest.mark.parametrize("layout", ["chunks", "shards", "grows"])
@given(
    st.sampled_from(["float16", "float32", "float64"]),
    st.sampled_from(list(FILLS)),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=3)
def test_an_array_that_is_written_in_fifty_parts_keeps_the_bound_of_what_was_written_last(
    row_model: Model, layout: str, dtype: str, fill: str, seed: int
) -> None:
    rng, fill_value, max_error = np.random.default_rng(seed), FILLS[fill], 0.01
    if dtype == "float16" and abs(fill_value) > 65504:
        fill_value = -9999.0
    array = zarr.create_array(
        {},
        shape=(0 if layout == "grows" else 8, 12),
        chunks=(3, 12),
        shards=(6, 12) if layout == "shards" else None,
        dtype=dtype,
        fill_value=fill_value,
        serializer=EntropydCodec(row_model.id, max_error, missing=(-1.0,)),
        compressors=None,
    )
    expected = np.full(array.shape, fill_value, dtype)
    for _ in range(50):
        data = (rng.normal(0, 1, expected.shape) * 10 ** rng.uniform(-4, 0.5)).astype(dtype)
        holes = np.array([fill_value, -1.0, np.nan, 0.0, max_error / 9]).astype(dtype)
        data = np.where(rng.random(data.shape) < 0.2, rng.choice(holes, data.shape), data)
        if layout == "grows" and rng.random() < 0.2:
            rows = rng.normal(0, 1, (int(rng.integers(1, 4)), 12)).astype(dtype)
            array.append(rows)
            expected = np.concatenate([expected, rows])
            continue
        (top, bottom), (left, right) = (np.sort(rng.integers(0, size + 1, 2)) for size in expected.shape)
        array[top:bottom, left:right] = expected[top:bottom, left:right] = data[top:bottom, left:right]
    agree(array[...], expected, max_error, fill_value, -1.0)


@pytest.mark.parametrize("max_error", [0.01, None])
@pytest.mark.parametrize("fill", FILLS)
def test_fill_values_and_padding_come_back_exactly(
    row_model: Model, tmp_path: Path, fill: str, max_error: float | None
) -> None:
    data = np.random.default_rng(5).normal(0, 3, (20, 30)).astype(np.float32)
    data = np.where(data > 2, np.float32(FILLS[fill]), data)
    array = zarr.create_array(
        str(tmp_path / "x.zarr"),
        shape=data.shape,
        chunks=(8, 30),
        dtype="float32",
        fill_value=FILLS[fill],
        serializer=EntropydCodec(row_model.id, max_error),
        compressors=None,
    )
    array[...] = data
    array[::3, ::2] = array[::3, ::2]
    if max_error is not None:
        agree(array[...], data, max_error, FILLS[fill])
        return
    gone = np.isnan(data) | (data == np.float32(FILLS[fill]))
    found = array[...]
    assert found[gone].tobytes() == data[gone].tobytes()
    assert np.abs(found[~gone] - data[~gone]).max() <= 0.5 + 1e-5


def test_a_chunk_in_which_nothing_is_missing_pays_nothing_for_that(row_model: Model, tmp_path: Path) -> None:
    data = np.random.default_rng(5).normal(0, 3, (20, 30)).astype(np.float32)
    created(tmp_path / "x.zarr", data, (20, 30), EntropydCodec(row_model.id, 0.01, missing=(-9999.0,)))
    bounded.compress(row_model, data, 0.01, (-9999.0, 0.0)).save(tmp_path / "x.entropyd")
    chunk = tmp_path / "x.zarr" / "c" / "0" / "0"
    assert chunk.read_bytes() == (tmp_path / "x.entropyd").read_bytes()


@pytest.mark.parametrize("fill_value", [-9999.0, None])
def test_what_xarray_appends_keeps_its_gaps_and_the_bound(
    row_model: Model, tmp_path: Path, fill_value: float | None
) -> None:
    xarray = pytest.importorskip("xarray")
    data = np.random.default_rng(6).normal(280, 3, (20, 30)).astype(np.float32)
    data[data > 283] = np.nan
    codec = EntropydCodec(row_model.id, 0.01)
    encoding: dict[str, Any] = {"serializer": codec, "compressors": None, "chunks": (7, 30)}
    if fill_value is not None:
        encoding |= {"_FillValue": fill_value, "fill_value": fill_value}
    store, options = str(tmp_path / "x.zarr"), {"zarr_format": 3, "consolidated": False}
    for first in range(0, 20, 5):
        part = xarray.Dataset({"t": (("time", "x"), data[first : first + 5])})
        more = {"append_dim": "time", "safe_chunks": False} if first else {"encoding": {"t": encoding}}
        part.to_zarr(store, **options, **more)
    with xarray.open_zarr(store, **options) as stored:
        agree(stored.t.values, data, 0.01)


# Arrays that can never be written


NOBODY = "ab" * 32


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nonsense",), "model_id is 'nonsense'; expected 64"),
        (("AB" * 32,), "model_id"),
        ((None,), "model_id is None"),
        *(((NOBODY, found), "max_error") for found in (-1.0, 0.0, np.nan, np.inf, "0.1", True, [0.1])),
        *(((NOBODY, 0.1, found), "missing") for found in (-9999.0, "9", ["9"], [True], None)),
    ],
)
def test_settings_that_make_no_sense_are_refused_where_they_are_given(arguments: Any, words: str) -> None:
    with pytest.raises(InvalidConfigError, match=words):
        EntropydCodec(*arguments)


def test_every_setting_that_makes_no_sense_is_named() -> None:
    with pytest.raises(InvalidConfigError) as caught:
        EntropydCodec("", -1.0, ["x"])  # type: ignore[list-item]
    assert [violation.field for violation in caught.value.violations] == ["model_id", "max_error", "missing"]


@pytest.mark.parametrize("entry", [{}, {"configuration": None}, {"configuration": {"max_error": 1.0}}])
def test_an_entry_of_the_metadata_that_makes_no_sense_is_refused(entry: Any) -> None:
    with pytest.raises(InvalidConfigError):
        EntropydCodec.from_dict({"name": "entropyd", **entry})


def test_an_unknown_member_of_the_metadata_is_refused() -> None:
    with pytest.raises(InvalidConfigError, match="configuration with"):
        EntropydCodec.from_dict(
            {"name": "entropyd", "configuration": {"model_id": NOBODY, "_asks_server": True}}
        )


def test_missing_values_travel_in_the_metadata(row_model: Model, tmp_path: Path) -> None:
    codec = EntropydCodec(row_model.id, 1, missing=[np.inf, -9999, np.nan, -9999.0])
    created(tmp_path / "x.zarr", np.ones((4, 3), np.float32), (4, 3), codec)
    stored = zarr.open_array(str(tmp_path / "x.zarr")).metadata
    (entry,) = stored.to_dict()["codecs"]
    assert entry["configuration"] == {
        "model_id": row_model.id,
        "max_error": 1.0,
        "missing": [-9999.0, "Infinity"],
    }
    assert stored.codecs == (codec,)


@pytest.fixture(scope="module")
def small_server() -> Iterator[LocalServer]:
    """A server with a low limit on messages."""
    limits = ["--max-message-bytes", str(2**20), "--max-model-bytes", str(2**19)]
    with LocalServer(*limits) as running:
        yield running


@pytest.mark.parametrize("shards", [False, True], ids=["chunks", "shards"])
@pytest.mark.parametrize(
    ("error", "words", "change"),
    [
        (InvalidTensorError, "dtype int16", {"dtype": "int16"}),
        (InvalidTensorError, "dtype complex64", {"dtype": "complex64", "max_error": None}),
        (
            InvalidTensorError,
            "dtype float64; expected float32",
            {"dtype": "float64", "max_error": None},
        ),
        (ModelNotFoundError, NOBODY, {"model_id": NOBODY}),
        (ModelStateError, "compression", {"model_id": "uncompressing"}),
        (InvalidTensorError, "rank 1; coding_rank 2 needs at least 2", {"shape": (8,)}),
        (InvalidTensorError, r"shape\[2\] is 4; expected 3", {"shape": (6, 6, 4)}),
        (InvalidTensorError, "expected chunks that end in it", {"shape": (6, 6, 1)}),
        (LimitExceededError, "max_message_bytes", {"shape": (2, 2**18, 3)}),
    ],
)
def test_an_array_that_can_never_be_written_is_not_created(
    small_server: LocalServer, error: type[EntropydError], words: str, change: dict[str, Any], *, shards: bool
) -> None:
    prior = priors.NoisyNormal(loc=[0.0, 1.0, 2.0], scale=[1.0, 2.0, 3.0])
    with zarr.config.set({"entropyd.server": small_server.target}):
        with Client(small_server.target) as client:
            model = client.create_model(UniversalBatchedConfig(prior, 2))
            uncompressing = client.create_model(UniversalBatchedConfig(prior, 2, compression=False))
        known = {"uncompressing": uncompressing.id}
        shape = change.get("shape", (6, 6, 3))
        codec = EntropydCodec(
            known.get(name := change.get("model_id", model.id), name), change.get("max_error", 0.1)
        )
        store: dict[str, Any] = {}

        def create_and_write() -> None:
            array = zarr.create_array(
                store,
                shape=shape,
                chunks=shape,
                shards=shape if shards else None,
                dtype=change.get("dtype", "float32"),
                fill_value=0,
                serializer=codec,
                compressors=None,
            )
            if shards:  # of the chunks in a shard zarr tells a codec less
                array[...] = np.ones(shape, array.dtype)

        with pytest.raises(error, match=words):
            create_and_write()
        assert not store or (shards and len(change.get("shape", ())) == 3)


def test_an_array_that_was_refused_is_refused_in_the_words_of_the_first_write(
    row_model: Model, model: Model
) -> None:
    for codec, shape, dtype in [
        (EntropydCodec(NOBODY), (4, 3), "float32"),
        (EntropydCodec(row_model.id), (4, 3), "float64"),
        (EntropydCodec(model.id, 0.1), (4, 3, 5), "float32"),
        (EntropydCodec(model.id, 0.1), (3,), "float32"),
        (EntropydCodec(row_model.id, 0.1), (4, 3), "int16"),
    ]:
        told = []
        for serializer in (codec, codec.to_dict()):
            with pytest.raises(EntropydError) as caught:
                zarr.create_array(
                    {}, shape=shape, chunks=shape, dtype=dtype, serializer=serializer, compressors=None
                )[...] = np.ones(shape, dtype)
            told.append((type(caught.value), str(caught.value)))
        assert told[0] == told[1]


def test_arrays_are_created_and_opened_where_no_server_is(row_model: Model) -> None:
    store: dict[str, Any] = {}
    with zarr.config.set({"entropyd.server": "127.0.0.1:1"}):
        zarr.create_array(
            store,
            shape=(4, 3),
            chunks=(4, 3),
            dtype="float32",
            serializer=EntropydCodec(row_model.id, 0.1),
            compressors=None,
        )
        array = zarr.open_array(store)
        assert array.shape == (4, 3)
        assert (array[...] == 0).all()
        array.resize((6, 3))


def test_an_array_whose_filter_moves_axes_is_created_from_the_entry_of_its_metadata(model: Model) -> None:
    data = np.random.default_rng(7).normal(0, 1, (3, 4, 2)).astype(np.float32)
    array = zarr.create_array(
        {},
        shape=data.shape,
        chunks=data.shape,
        dtype="float32",
        filters=[zarr.codecs.TransposeCodec(order=(1, 2, 0))],
        serializer=EntropydCodec(model.id, 0.1).to_dict(),
        compressors=None,
    )
    array[...] = data
    assert np.abs(array[...] - data).max() <= 0.1


def test_the_page_about_it_holds(
    server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (PAGES / "zarr.md").read_text()
    pytest.importorskip("xarray")
    code = "".join(re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    assert "127.0.0.1:7070" in code
    exec(code.replace("127.0.0.1:7070", server.target), {})  # noqa: S102 - our own page
