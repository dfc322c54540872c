"""Bulk coding on a real Dask cluster of processes: all chunks, exact, whatever dies on the way."""

from __future__ import annotations

import os
import pickle
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("distributed")
zarr = pytest.importorskip("zarr")

import dask  # noqa: E402
import dask.array as da  # noqa: E402
import distributed  # noqa: E402
from obstore.store import MemoryStore, S3Store  # noqa: E402

import entropyd.dask  # noqa: E402
from entropyd import (  # noqa: E402
    Client,
    DataLossError,
    InvalidRequestError,
    InvalidTensorError,
    Model,
    ModelNotFoundError,
    UnavailableError,
    UniversalBatchedConfig,
    priors,
)
from entropyd.dask.coded_array import CodedArray  # noqa: E402
from entropyd.zarr import EntropydCodec  # noqa: E402
from tests.support.replicas import start_replicas  # noqa: E402
from tests.support.s3_server import S3Server  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from entropyd_server.local import LocalServer

PAGES = Path(__file__).resolve().parents[2] / "docs"

# Workers are told of the server by what they are sent alone: none of them has a configuration of zarr.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:zarr")


@pytest.fixture(scope="module")
def cluster() -> Iterator[distributed.Client]:
    """Two worker processes of one thread each, which are replaced when they die."""
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as running,
        distributed.Client(running) as connected,
    ):
        yield connected


@pytest.fixture(autouse=True)
def _on_the_cluster(cluster: distributed.Client) -> None:
    """Makes the cluster the one that Dask uses."""


@pytest.fixture(scope="module")
def rows(client: Client) -> Model:
    """A model whose coding units are rows of any length."""
    prior = priors.NoisyNormal(loc=0.0, scale=3.0)
    return client.create_model(UniversalBatchedConfig(prior=prior, coding_rank=1))


DATA = np.random.default_rng(0).normal(0, 3, (70, 24)).astype(np.float32)
DATA[13:15] = np.nan
DATA[40:50] = np.nan  # a whole chunk is fill value


def in_tens() -> Any:
    """The data in seven chunks, made by tasks."""
    return da.from_array(DATA, chunks=(10, 24))


def objects(folder: Path) -> dict[str, bytes]:
    """All that is stored, without what writers that died left behind."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".partial")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def stored_by_zarr(
    folder: Path,
    server: LocalServer,
    codec: EntropydCodec,
    chunks: tuple[int, ...] = (10, 24),
    fill_value: float = np.nan,
) -> dict[str, bytes]:
    """What zarr itself stores of the data, in this process."""
    with zarr.config.set({"entropyd.server": server.target}):
        array = zarr.create_array(
            str(folder),
            shape=DATA.shape,
            chunks=chunks,
            dtype="float32",
            fill_value=fill_value,
            serializer=codec,
            compressors=None,
            config={"write_empty_chunks": True},
        )
        array[...] = DATA
    return objects(folder)


# What is written, and read


@pytest.mark.parametrize("max_error", [None, 0.01])
@pytest.mark.parametrize("chunks", [None, (4, 24), (16, 7)], ids=str)
def test_every_chunk_is_stored_as_zarr_stores_it(
    rows: Model,
    server: LocalServer,
    tmp_path: Path,
    chunks: tuple[int, ...] | None,
    max_error: float | None,
) -> None:
    expected = stored_by_zarr(
        tmp_path / "zarr", server, EntropydCodec(rows.id, max_error, (1.0,)), chunks or (10, 24), -9.0
    )
    settings: Any = {"max_error": max_error, "missing": (1.0,), "fill_value": -9.0, "chunks": chunks}
    written = entropyd.dask.compress(in_tens(), rows, tmp_path / "dask", **settings)
    assert written == len(expected) - 1
    assert objects(tmp_path / "dask") == expected


def test_a_part_is_restored_without_the_rest(rows: Model, client: Client, tmp_path: Path) -> None:
    entropyd.dask.compress(in_tens(), rows, tmp_path / "x", max_error=0.01)
    for chunk in ("0", "2"):
        (tmp_path / "x" / "c" / chunk / "0").write_bytes(b"damaged")
    restored = entropyd.dask.decompress(tmp_path / "x", client)
    assert isinstance(restored, da.Array)
    assert (restored.chunks, restored.dtype) == (((10,) * 7, (24,)), np.float32)
    part = restored[12:17, 3:5].compute()
    assert np.array_equal(np.isnan(part), np.isnan(DATA[12:17, 3:5]))
    assert np.nanmax(np.abs(part - DATA[12:17, 3:5])) <= 0.01
    with pytest.raises(DataLossError):
        restored[9].compute()


def test_without_a_client_the_server_of_zarrs_configuration_here_decompresses(
    rows: Model, server: LocalServer, tmp_path: Path
) -> None:
    entropyd.dask.compress(in_tens(), rows, tmp_path / "x", max_error=0.01)
    with zarr.config.set({"entropyd.server": server.target}):
        restored = entropyd.dask.decompress(f"file://{tmp_path}/x")
        expected = np.asarray(zarr.open_array(str(tmp_path / "x")))
    assert restored.compute().tobytes() == expected.tobytes()


def test_shards_and_compressors_are_read(
    rows: Model, server: LocalServer, client: Client, tmp_path: Path
) -> None:
    with zarr.config.set({"entropyd.server": server.target}):
        array = zarr.create_array(
            str(tmp_path / "x"),
            shape=DATA.shape,
            chunks=(5, 24),
            shards=(20, 24),
            dtype="float32",
            fill_value=np.nan,
            serializer=EntropydCodec(rows.id, 0.01),
            compressors=[zarr.codecs.GzipCodec()],
        )
        array[...] = DATA
        expected = array[...]
    restored = entropyd.dask.decompress(tmp_path / "x", client)
    assert restored.chunks[0] == (20, 20, 20, 10)
    assert restored.compute().tobytes() == expected.tobytes()


def test_an_object_store_is_a_target(rows: Model, client: Client) -> None:
    with S3Server("bucket") as s3:
        options: Any = {"endpoint": s3.url, "client_options": {"allow_http": True}, "region": "us-east-1"}
        keys: Any = {"access_key_id": "test", "secret_access_key": "test"}
        store = zarr.storage.ObjectStore(S3Store("bucket", prefix="x.zarr", **options, **keys))
        assert entropyd.dask.compress(in_tens(), rows, store, max_error=0.01) == 7
        assert entropyd.dask.compress(in_tens(), rows, store, max_error=0.01) == 0
        restored = entropyd.dask.decompress(store, client).compute()
    assert np.nanmax(np.abs(restored - DATA)) <= 0.01
    assert np.array_equal(np.isnan(restored), np.isnan(DATA))


def test_an_array_without_elements_has_no_chunks(rows: Model, client: Client, tmp_path: Path) -> None:
    empty = da.zeros((0, 24), chunks=(10, 24), dtype=np.float32)
    assert entropyd.dask.compress(empty, rows, tmp_path / "x") == 0
    assert entropyd.dask.decompress(tmp_path / "x", client).compute().shape == (0, 24)


def test_an_array_without_axes_is_one_chunk(rows: Model, client: Client, tmp_path: Path) -> None:
    number = da.from_array(np.array(2.0, np.float32))
    assert entropyd.dask.compress(number, rows, tmp_path / "x", max_error=0.01) == 1
    assert entropyd.dask.compress(number, rows, tmp_path / "x", max_error=0.01) == 0
    assert abs(float(entropyd.dask.decompress(tmp_path / "x", client).compute()) - 2.0) <= 0.01


# Runs that end early


def recorded(folder: Path) -> Any:
    """The data, each chunk of which leaves a file in a folder when it is made."""
    folder.mkdir(exist_ok=True)

    def record(block: npt.NDArray[Any], block_id: Any = None) -> npt.NDArray[Any]:
        (folder / str(block_id[0])).touch()
        return block

    return in_tens().map_blocks(record, meta=np.empty((0, 0), np.float32))


def test_chunks_that_are_there_are_neither_made_nor_written_again(rows: Model, tmp_path: Path) -> None:
    assert entropyd.dask.compress(recorded(tmp_path / "all"), rows, tmp_path / "x") == 7
    before = objects(tmp_path / "x")
    for chunk in ("2", "5"):
        (tmp_path / "x" / "c" / chunk / "0").unlink()
    (tmp_path / "x" / "c" / "2" / "0.0123.partial").write_bytes(b"of a writer that died")
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "x" / "c").rglob("0")}
    assert entropyd.dask.compress(recorded(tmp_path / "again"), rows, tmp_path / "x") == 2
    assert {path.name for path in (tmp_path / "again").iterdir()} == {"2", "5"}
    assert objects(tmp_path / "x") == before
    assert all(path.stat().st_mtime_ns == changed for path, changed in kept.items())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"array": da.zeros((71, 24), chunks=(10, 24), dtype=np.float32)},
            r"shape is \(71, 24\); expected \(70, 24\)",
        ),
        ({"chunks": (5, 24)}, r"chunks is \(5, 24\); expected \(10, 24\)"),
        (
            {"array": da.zeros((70, 24), chunks=(10, 24)), "max_error": 0.1},
            "dtype is float64; expected float32",
        ),
        ({"model": "other"}, "model is [0-9a-f]{64}; expected [0-9a-f]{64}"),
        ({"max_error": 0.2}, "max_error is 0.2; expected 0.1"),
        ({"missing": (3.0,)}, r"missing is \(3.0,\); expected \(\)"),
        ({"fill_value": 0.0}, "fill_value is 0.0; expected NaN"),
        ({"max_error": 0.2, "fill_value": 0.0}, "fill_value .* max_error"),
    ],
)
def test_an_array_of_other_settings_is_not_resumed(
    rows: Model, client: Client, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    given: dict[str, Any] = {"array": in_tens(), "model": rows, "max_error": 0.1}
    entropyd.dask.compress(**given, url=tmp_path / "x", scheduler="threads")
    before = objects(tmp_path / "x")
    (tmp_path / "x" / "c" / "0" / "0").unlink()
    if "model" in change:
        prior = priors.NoisyNormal(loc=0.0, scale=4.0)
        change = {"model": client.create_model(UniversalBatchedConfig(prior=prior, coding_rank=1))}
    with pytest.raises(InvalidRequestError, match=words):
        entropyd.dask.compress(**{**given, **change}, url=tmp_path / "x")
    assert objects(tmp_path / "x").items() < before.items()


def test_what_is_no_array_of_ours_is_not_written_to(rows: Model, tmp_path: Path) -> None:
    zarr.create_group(str(tmp_path / "group"))
    zarr.create_array(str(tmp_path / "v2"), shape=(70, 24), dtype="float32", zarr_format=2)
    zarr.create_array(
        str(tmp_path / "other"), shape=(70, 24), chunks=(10, 24), dtype="float32", fill_value=np.nan
    )
    for name, words in {
        "group": "is a group; expected an array",
        "v2": "is an array of Zarr v2; expected",
        "other": "with codecs BytesCodec, ZstdCodec; expected EntropydCodec alone",
    }.items():
        before = objects(tmp_path / name)
        with pytest.raises(InvalidRequestError, match=f"url .*{words}"):
            entropyd.dask.compress(in_tens(), rows, tmp_path / name)
        assert objects(tmp_path / name) == before


def killing_once(marker: Path, pid: int | None = None, number: int = 3) -> Any:
    """The data; making chunk `number` for the first time kills a process, or the worker that does so."""

    def kill(block: npt.NDArray[Any], block_id: Any = None) -> npt.NDArray[Any]:
        if block_id[0] == number and not marker.exists():
            marker.touch()
            os.kill(os.getpid() if pid is None else pid, signal.SIGKILL)
        return block

    return in_tens().map_blocks(kill, meta=np.empty((0, 0), np.float32))


def test_a_worker_that_is_killed_loses_nothing(rows: Model, server: LocalServer, tmp_path: Path) -> None:
    expected = stored_by_zarr(tmp_path / "zarr", server, EntropydCodec(rows.id, 0.01))
    killing = killing_once(tmp_path / "killed")
    assert entropyd.dask.compress(killing, rows, tmp_path / "dask", max_error=0.01) == 7
    assert (tmp_path / "killed").exists()
    assert objects(tmp_path / "dask") == expected


def test_a_replica_that_is_killed_loses_nothing(
    rows: Model, server: LocalServer, store_url: str, client: Client, tmp_path: Path
) -> None:
    settings: Any = {"max_error": 0.01, "chunks": (2, 24)}
    expected = stored_by_zarr(tmp_path / "zarr", server, EntropydCodec(rows.id, 0.01), (2, 24))
    with start_replicas(2, store_url, "--role", "coding,registry") as replicas:
        target = "ipv4:" + ",".join(replica.address for replica in replicas)
        with Client(target) as replicated:
            killing = killing_once(tmp_path / "killed", replicas[0].pid)
            model = replicated.model(rows.id)
            assert entropyd.dask.compress(killing, model, tmp_path / "dask", **settings) == 35
            assert replicas[0].ended
            assert objects(tmp_path / "dask") == expected
            restored = entropyd.dask.decompress(tmp_path / "dask", replicated).compute()
    assert restored.tobytes() == entropyd.dask.decompress(tmp_path / "dask", client).compute().tobytes()


def test_a_task_that_fails_is_tried_again_where_the_caller_says_so(rows: Model, tmp_path: Path) -> None:
    def fail_once(block: npt.NDArray[Any], block_id: Any = None) -> npt.NDArray[Any]:
        marker = tmp_path / f"failed-{block_id[0]}"
        if block_id[0] == 3 and not marker.exists():
            marker.touch()
            raise OSError("not yet")
        return block

    failing = in_tens().map_blocks(fail_once, meta=np.empty((0, 0), np.float32))
    assert entropyd.dask.compress(failing, rows, tmp_path / "x", retries=1) == 7
    assert (tmp_path / "failed-3").exists()


def test_a_run_that_is_not_computed_counts_what_was_not_there(
    cluster: distributed.Client, rows: Model, tmp_path: Path
) -> None:
    run = entropyd.dask.compress(in_tens(), rows, tmp_path / "x", compute=False)
    assert not (tmp_path / "x" / "c").exists()
    assert int(cluster.compute(run).result()) == 7
    again = entropyd.dask.compress(in_tens(), rows, tmp_path / "x", compute=False)
    assert int(cluster.compute(again).result()) == 0


def test_a_chunk_that_is_not_there_in_the_end_is_an_error(rows: Model, tmp_path: Path) -> None:
    entropyd.dask.compress(in_tens(), rows, tmp_path / "x")
    written = CodedArray(zarr.open_array(str(tmp_path / "x"), mode="r"), rows)
    written.check_complete()
    (tmp_path / "x" / "c" / "4" / "0").unlink()
    with pytest.raises(DataLossError, match=r"lacks 1 chunks .*: c/4/0; expected a folder that all workers"):
        written.check_complete()


# Errors


def test_an_error_of_a_task_is_raised_as_it_is(rows: Model, tmp_path: Path) -> None:
    infinite = in_tens().map_blocks(lambda block: block + np.float32(np.inf), dtype=np.float32)
    with pytest.raises(InvalidTensorError, match="inf cannot be coded") as caught:
        entropyd.dask.compress(infinite, rows, tmp_path / "x")
    assert pickle.loads(pickle.dumps(caught.value)).violations == caught.value.violations  # noqa: S301


def test_a_server_that_is_not_there_is_an_error_at_once(rows: Model, tmp_path: Path) -> None:
    entropyd.dask.compress(in_tens(), rows, tmp_path / "x")
    with Client("127.0.0.1:1", timeout_s=0.5) as nowhere, pytest.raises(UnavailableError):
        entropyd.dask.decompress(tmp_path / "x", nowhere)


def test_a_token_given_as_text_is_not_sent_to_workers(
    rows: Model, server: LocalServer, tmp_path: Path
) -> None:
    with Client(server.target, token="secret") as client:  # noqa: S106
        model = client.model(rows.id)
        with pytest.raises(TypeError, match="give it token_file=PATH"):
            entropyd.dask.compress(in_tens(), model, tmp_path / "x")
        assert not (tmp_path / "x").exists()
        entropyd.dask.compress(in_tens(), rows, tmp_path / "x")
        with pytest.raises(TypeError, match="give it token_file=PATH"):
            entropyd.dask.decompress(tmp_path / "x", client)


MASKED: Callable[..., Any] = np.ma.masked_array


@pytest.mark.parametrize(
    ("array", "error", "words"),
    [
        (np.zeros((70, 24), np.float32), InvalidTensorError, "array is a ndarray; expected a dask.array"),
        (
            da.from_array(MASKED(DATA), chunks=10),
            InvalidTensorError,
            "chunks of type MaskedArray; expected numpy",
        ),
        (in_tens()[in_tens()[:, 0] > 0], InvalidTensorError, "shape .nan, 24.; expected known sizes"),
        (da.zeros((70, 24), dtype=np.int16), InvalidTensorError, "dtype int16; expected float16"),
        (da.zeros((70, 24), dtype=np.float64), InvalidTensorError, "dtype float64; expected float32"),
        (da.zeros((70, 24), dtype=np.complex64), InvalidTensorError, "dtype complex64; expected float16"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_array_that_cannot_be_written_is_refused_before_anything_is(
    rows: Model, tmp_path: Path, array: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        entropyd.dask.compress(array, rows, tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"chunks": (10,)}, r"chunks is \(10,\); expected 2 lengths above 0"),
        ({"chunks": (10, 0)}, r"chunks is \(10, 0\); expected"),
        ({"url": zarr.storage.MemoryStore()}, "url is a MemoryStore; expected a folder"),
        ({"url": zarr.storage.ObjectStore(MemoryStore())}, "url is a store in the memory of this process"),
        ({"url": "memory://x"}, "url is a store of fsspec's memory; expected"),
        ({"storage_options": {"key": "x"}}, "storage_options are given with a folder; expected them with"),
        ({"model": "9" * 64}, "model is a str; expected an entropyd.Model"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # stores have their addresses in their names
)
def test_settings_that_cannot_be_kept_are_refused(
    rows: Model, tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    given = {"array": in_tens(), "model": rows, "url": tmp_path / "x", **settings}
    with pytest.raises(InvalidRequestError, match=words):
        entropyd.dask.compress(**given)
    assert not (tmp_path / "x").exists()


def test_what_no_model_coded_is_not_decompressed(client: Client, rows: Model, tmp_path: Path) -> None:
    zarr.create_array(str(tmp_path / "other"), shape=(3,), chunks=(3,), dtype="float32")
    with pytest.raises(
        InvalidRequestError, match="array has codecs BytesCodec, ZstdCodec; expected EntropydCodec"
    ):
        entropyd.dask.decompress(tmp_path / "other", client)
    with pytest.raises(InvalidRequestError, match="has no array; expected one of Zarr v3"):
        entropyd.dask.decompress(tmp_path / "nothing", client)
    unknown = EntropydCodec("ab" * 32).to_dict()
    zarr.create_array(
        str(tmp_path / "x"), shape=(3,), chunks=(3,), dtype="float32", serializer=unknown, compressors=None
    )
    with pytest.raises(ModelNotFoundError):
        entropyd.dask.decompress(tmp_path / "x", client)


def test_the_page_about_it_holds(
    cluster: distributed.Client, server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = (PAGES / "dask.md").read_text()
    code = "".join(re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    addresses = {"127.0.0.1:7070": server.target, "tcp://scheduler:8786": cluster.scheduler.address}
    for found, real in addresses.items():
        assert found in code
        code = code.replace(found, real)
    names: dict[str, Any] = {}
    setting = zarr.config.get("entropyd.server", None)
    try:
        malloc = "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_"
        with dask.config.set({malloc: dask.config.get(malloc)}):  # to have it back afterwards
            exec(code, names)  # noqa: S102 - our own page
    finally:
        zarr.config.set({"entropyd.server": setting or "127.0.0.1:7070"})
        names["dask_client"].close()
        names["client"].close()
