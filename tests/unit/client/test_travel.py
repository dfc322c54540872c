"""Laws of pickles and copies: values arrive as they were, clients as their settings, secrets not at all."""

from __future__ import annotations

import asyncio
import copy
import datetime
import functools
import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from hypothesis import given

import entropyd
from entropyd import aio, bounded, priors
from entropyd.archive import ExactElements
from entropyd.contract.by_value import ByValue
from entropyd.contract.integrity import make_blocks
from tests.support.certificates import Authority
from tests.support.config_cases import configs

if TYPE_CHECKING:
    from collections.abc import Callable

PRIOR = priors.UniformNoiseAdapter(priors.tfp("Normal", loc=0.0, scale=[1.0, 2.0]))
INDEXED = priors.indexed("NoisyNormal", (4,), loc=0.0, scale=priors.log_spaced(1, 8))
CONFIG = entropyd.UniversalBatchedConfig(prior=PRIOR, coding_rank=1)
INFO = entropyd.ModelInfo(
    CONFIG.model_id, CONFIG, bytes(32), 30, 1000, {"numpy": "1"}, datetime.datetime.now(datetime.timezone.utc)
)
LENGTHS = np.array([1, 3], np.uint32)
TENSOR = entropyd.CompressedTensor(
    CONFIG.model_id,
    bytes(32),
    "float32",
    (2,),
    (),
    b"abc\x00",
    LENGTHS,
    make_blocks(b"abc\x00", LENGTHS),
    entropyd.RateReport(4, 0, 16, 4),
)
EXACT = ExactElements.of(np.array([1, np.nan], np.float32), np.array([False, True]))
EMBEDDED = entropyd.EmbeddedModel(CONFIG, np.array([-1, 0, 2], np.int32), np.array([0], np.int32))
CORRUPT = entropyd.CorruptStringError(
    "two", units=[1, 7], partial=np.array([1.0, np.nan]), metadata={"a": "b"}
)


def pickled(value: Any, protocol: int = pickle.HIGHEST_PROTOCOL) -> Any:
    return pickle.loads(pickle.dumps(value, protocol))  # noqa: S301


WAYS: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": pickled,
    "pickle of protocol 2": functools.partial(pickled, protocol=2),
}


def anatomy(value: Any) -> Any:
    """What a value consists of, comparable to the bit."""
    match value:
        case np.ndarray():
            parts: Any = value.dtype.str, value.shape, value.tobytes()
        case entropyd.EntropydError():
            parts = type(value), value.args, anatomy(value.__dict__)
        case ByValue():
            parts = anatomy(value.__reduce__())
        case bounded.BoundedTensor() | ExactElements() | entropyd.ModelInfo():
            parts = anatomy(value.__dict__)
        case tuple() | list():
            parts = [anatomy(part) for part in value]
        case dict():
            parts = {name: anatomy(part) for name, part in value.items()}
        case _:
            parts = value
    return parts


VALUES: dict[str, Any] = {
    "CompressedBundle": entropyd.pack({"z": TENSOR, "y": TENSOR}, metadata={"photo": "coffee"}),
    "CompressedTensor": TENSOR,
    "ContinuousBatchedConfig": entropyd.ContinuousBatchedConfig(PRIOR, 1, quantization_offset=0.25),
    "ContinuousIndexedConfig": entropyd.ContinuousIndexedConfig(INDEXED, 1, channel_axis=None),
    "EmbeddedModel": EMBEDDED,
    "FitProgress": entropyd.FitProgress(1, 2.5, 3.0),
    "IndexesMismatchError": entropyd.IndexesMismatchError("one", units=[3], partial=np.zeros(2)),
    "LocationScaleIndexedConfig": entropyd.LocationScaleIndexedConfig(INDEXED, 3),
    "ModelInfo": INFO,
    "MeasuredTensor": entropyd.MeasuredTensor(*TENSOR.__reduce__()[1]),
    "Perturbed": entropyd.Perturbed(np.ones(2), np.ones(()), None),
    "PowerLawConfig": entropyd.PowerLawConfig(2, alpha=0.5),
    "Prior": PRIOR,
    "RateReport": TENSOR.rate,
    "ServerInfo": entropyd.ServerInfo("1", ("coding",), ("cpu",), 1, 2, 3, 4.0, 5, 6),
    "TabulatedConfig": entropyd.TabulatedConfig([[0, 3, 16]], [0], 1, precision=4, quantization_offset=0.25),
    "UniversalBatchedConfig": CONFIG,
    "UniversalIndexedConfig": entropyd.UniversalIndexedConfig(INDEXED, 1, prior_dtype="float32"),
    "Violation": entropyd.Violation("a", "is b"),
    "pack": None,  # a function
    "tls_credentials": None,  # a function
    "BoundedTensor": bounded.BoundedTensor(TENSOR, bounded.ErrorBound(0.1, 0.2, "float32"), EXACT),
    "CorruptStringError": CORRUPT,
    "InvalidTensorError": entropyd.InvalidTensorError.of([entropyd.Violation("a", "is b")]),
    "OverloadedError": entropyd.OverloadedError("later", retry_after_s=1.5, metadata={"x": "y"}),
    **{
        name: getattr(entropyd, name)("what")
        for name in entropyd.__all__
        if name.endswith("Error")
        and name
        not in {"CorruptStringError", "IndexesMismatchError", "InvalidTensorError", "OverloadedError"}
    },
}
# Tested below: what connects, and what is an open file.
OTHERS = {"Archive", "ArchiveWriter", "Bundle", "Client", "Model", "ModelConfig"}


def test_everything_public_is_tested_here() -> None:
    assert set(entropyd.__all__) <= set(VALUES) | OTHERS


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_value_arrives_as_it_was(value: Any, way: Callable[[Any], Any]) -> None:
    arrived = way(value)
    assert type(arrived) is type(value)
    assert anatomy(arrived) == anatomy(value)


@given(configs())
def test_any_configuration_arrives_equal_frozen_and_with_its_id(
    config: entropyd.UniversalBatchedConfig,
) -> None:
    config.model_id  # noqa: B018 - what is cached does not travel
    for way in (copy.deepcopy, pickled):
        arrived = way(config)
        assert arrived == config
        assert hash(arrived) == hash(config)
        assert arrived.model_id == config.model_id
        arrays = [*arrived.prior.parameters.values(), *(arrived.tables or ())]
        assert not any(array.flags.writeable for array in arrays if isinstance(array, np.ndarray))


def test_what_a_value_has_cached_is_not_in_its_pickle() -> None:
    fresh = copy.copy(TENSOR)
    before = len(pickle.dumps(fresh))
    assert fresh.strings.tolist() == [b"a", b"bc\x00"]
    assert len(pickle.dumps(fresh)) == before


NOWHERE = "unix:/nowhere"
NO_ANSWER = (entropyd.UnavailableError, entropyd.DeadlineExceededError)


def kinds(**arguments: Any) -> list[Any]:
    return [kind(NOWHERE, **arguments) for kind in (entropyd.Client, aio.Client)]


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_clients_and_models_arrive_with_what_they_know_and_no_connection(way: Callable[[Any], Any]) -> None:
    for client, model_type in zip(kinds(timeout_s=7.0), (entropyd.Model, aio.Model), strict=True):
        model = model_type(client, INFO)
        arrived = way(model)
        assert (type(arrived), arrived.id, arrived.config) == (model_type, model.id, CONFIG)
        assert anatomy(arrived.info) == anatomy(INFO)
        assert type(way(client)) is type(client)


@pytest.mark.parametrize("way", [WAYS["deepcopy"], pickled])
def test_models_that_travel_together_share_their_session(way: Callable[[Any], Any]) -> None:
    for client, model_type in zip(kinds(), (entropyd.Model, aio.Model), strict=True):
        one, other, same = way((model_type(client._session, INFO), model_type(client._session, INFO), client))
        assert one._session is other._session is same._session
        assert same is not client


def test_a_copy_of_a_closed_client_is_an_open_one() -> None:
    client = entropyd.Client(NOWHERE, timeout_s=0.1)
    client.close()
    for way in WAYS.values():
        with way(client) as arrived, pytest.raises(NO_ANSWER):
            arrived.server_info()

    async def main() -> None:
        client = aio.Client(NOWHERE, timeout_s=0.1)
        await client.close()
        async with copy.copy(client) as arrived:
            with pytest.raises(NO_ANSWER):
                await arrived.server_info()

    asyncio.run(main())


def token_of_module() -> str:
    return "of-a-module"


SECRET = "entropyd_secret"  # noqa: S105
CANNOT_TRAVEL: dict[str, tuple[dict[str, Any], str]] = {
    "token as text": ({"token": SECRET}, "given as text.* token_file=PATH"),
    "token of a lambda": ({"token": lambda: SECRET}, "cannot be pickled.* token_file=PATH"),
    "credentials of gRPC": ({"credentials": grpc.ssl_channel_credentials()}, r"entropyd\.tls_credentials"),
}


@pytest.mark.parametrize(("arguments", "message"), CANNOT_TRAVEL.values(), ids=CANNOT_TRAVEL)
def test_what_cannot_travel_says_why_and_what_can(arguments: dict[str, Any], message: str) -> None:
    for client, model_type in zip(kinds(**arguments), (entropyd.Model, aio.Model), strict=True):
        for value in (client, model_type(client, INFO)):
            with pytest.raises(TypeError, match=message) as caught:
                pickle.dumps(value)
            assert SECRET not in str(caught.value)
            # Within a process nothing travels.
            assert type(copy.deepcopy(value)) is type(value)


def test_files_travel_as_their_absolute_paths_and_are_read_on_first_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    authority = Authority("servers")
    authority.write(Path("ca.pem"))
    Path("token").write_text(f"{SECRET}\n")
    credentials = entropyd.tls_credentials("ca.pem")
    client = entropyd.Client(NOWHERE, token_file="token", credentials=credentials, timeout_s=0.1)  # noqa: S106
    content = pickle.dumps(client)
    assert SECRET.encode() not in content
    assert authority.pem not in content
    monkeypatch.chdir("/")
    with pickle.loads(content) as arrived, pytest.raises(NO_ANSWER):  # noqa: S301
        arrived.server_info()
    for name in ("ca.pem", "token"):
        (tmp_path / name).rename(tmp_path / "elsewhere")
        # It arrives all the same: a worker that fails before its task begins often cannot say so.
        arrived = pickle.loads(content)  # noqa: S301
        with pytest.raises(FileNotFoundError, match=name):
            arrived.server_info()
        (tmp_path / "elsewhere").rename(tmp_path / name)


def test_a_client_that_could_not_show_its_token_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        entropyd.Client(NOWHERE, token_file=tmp_path / "none")
    with pytest.raises(ValueError, match="expected one of them"):
        entropyd.Client(NOWHERE, token="text", token_file=tmp_path / "none")  # noqa: S106
    (tmp_path / "token").write_text("two words")
    with pytest.raises(ValueError, match="printable ASCII"):
        entropyd.Client(NOWHERE, token_file=tmp_path / "token")
    with pytest.raises(ValueError, match="plain text"):
        entropyd.Client("example.org:1", token=token_of_module)


def test_an_open_file_says_that_it_cannot_travel(tmp_path: Path) -> None:
    path = tmp_path / "x.entropyd"
    with entropyd.ArchiveWriter(path) as writer:
        writer.append(TENSOR)
        for way in WAYS.values():
            with pytest.raises(TypeError, match=r"cannot pickle or copy an ArchiveWriter.* open file"):
                way(writer)
    with entropyd.Archive.open(path) as archive:
        for way in WAYS.values():
            with pytest.raises(TypeError, match=r"cannot pickle or copy an Archive.* open file"):
                way(archive)
    VALUES["CompressedBundle"].save(path)
    with entropyd.Bundle.open(path) as bundle:
        for way in WAYS.values():
            with pytest.raises(TypeError, match=r"cannot pickle or copy a Bundle.* open file"):
                way(bundle)


def test_a_pickled_codec_is_the_same_codec() -> None:
    codec = pytest.importorskip("entropyd.zarr").EntropydCodec("ab" * 32, max_error=0.1)
    for way in WAYS.values():
        assert way(codec) == codec


def test_unpickling_a_client_imports_no_more_than_the_client(tmp_path: Path) -> None:
    (tmp_path / "pickle").write_bytes(pickle.dumps(entropyd.Model(entropyd.Client(NOWHERE)._session, INFO)))
    code = "import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb'))); print(*sys.modules)"
    command = [sys.executable, "-c", code, str(tmp_path / "pickle")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"<Model {CONFIG.model_id[:12]} UniformNoiseAdapter")
    assert {"tensorflow", "numba", "ml_dtypes", "zarr", "click"}.isdisjoint(said.split())


def contexts(error: BaseException | None) -> list[BaseException]:
    """An error and the ones while which it was raised."""
    found = []
    while error is not None:
        found.append(error)
        error = error.__context__
    return found


def call_blocking() -> None:
    with entropyd.Client("127.0.0.1:1", timeout_s=0.1) as client:
        client.model(CONFIG.model_id)


def call_asynchronous() -> None:
    async def call() -> None:
        async with aio.Client("127.0.0.1:1", timeout_s=0.1) as client:
            await client.model(CONFIG.model_id)

    asyncio.run(call())


@pytest.mark.parametrize("call", [call_blocking, call_asynchronous])
def test_an_error_of_a_call_has_contexts_that_can_be_pickled(call: Callable[[], None]) -> None:
    earlier = KeyError("the caller's own")
    try:
        raise earlier
    except KeyError:
        with pytest.raises(entropyd.EntropydError) as caught:
            call()
    found = contexts(caught.value)
    assert not [error for error in found if isinstance(error, grpc.RpcError)]
    assert [type(pickled(error)) for error in found] == [type(error) for error in found]
    assert earlier in found or call is call_asynchronous  # where the call is in a task of its own
