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

zarr = pytest.importorskip("zarr")

from entropyd import DataLossError, Model, UnavailableError, UniversalBatchedConfig, priors  # noqa: E402
from entropyd.archive import Archive  # noqa: E402
from entropyd.contract.errors import InvalidTensorError  # noqa: E402
from entropyd.zarr import EntropydCodec  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    from entropyd import Client
    from entropyd_server.local import LocalServer

PAGES = Path(__file__).resolve().parents[2] / "docs"

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:zarr")


@pytest.fixture(autouse=True)
def used_server(server: LocalServer) -> Iterator[None]:
    with zarr.config.set({"entropyd.server": server.target}):
        yield


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


def test_the_page_about_it_holds(
    server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (PAGES / "zarr.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert "127.0.0.1:7070" in code
    exec(code.replace("127.0.0.1:7070", server.target), {})  # noqa: S102 - our own page
