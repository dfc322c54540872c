"""Laws of both wires: whether values travel or symbols, strings, arrays and errors are the same.

`tests.draws.every_kind` compares both for random models of every kind.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

import entropyd
import entropyd.aio
from entropyd import CorruptStringError, InvalidTensorError, TabulatedConfig
from entropyd._compression import Compression
from entropyd._decompression import Decompression
from entropyd._symbols import Symbols
from entropyd.contract.wire import tensor_to_message
from entropyd.v1 import coding_pb2, coding_pb2_grpc
from entropyd_server.local import LocalServer
from tests.support.indexed_models import indexed_config
from tests.support.interpreters import CODING_SERVER

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    Array = npt.NDArray[Any]

# The last commit before symbols travelled.
BEFORE = "ed3d7f32477f1673c6b8ab9b0d835e517a8e33a5"
ROOT = Path(__file__).parents[2]
ROWS = [[0, 900, 3000, 4000, 4096], [0, 2000, 2100, 4096], [0, 5, 4096]]
KINDS: dict[str, entropyd.ModelConfig] = {
    "by position": TabulatedConfig(ROWS, [-1, 0, -2], 2, quantization_offset=[0.25, -0.5, 0.0], precision=12),
    "by index": TabulatedConfig(
        ROWS, [-1, 0, -2], 2, row_by="index", quantization_offset=[0.25, -0.5, 0.0], precision=12
    ),
    "half": TabulatedConfig(
        ROWS, [-1, 0, -2], 2, quantization_offset=[0.3, -0.4, 0.1], precision=12, bottleneck_dtype="float16"
    ),
    "location": indexed_config("location_scale_indexed"),
    "dither": indexed_config("universal_indexed"),
}


class Pair:
    """One model of two clients, one that sends symbols and one that sends values."""

    def __init__(self, config: Any, symbols: entropyd.Client, floats: entropyd.Client) -> None:
        self.config = config
        self.symbols = symbols.create_model(config)
        self.floats = floats.model(self.symbols.id)

    def inputs(self, units: int, length: int = 4) -> tuple[Array, dict[str, Any]]:
        rng = np.random.default_rng(0)
        shape = (units, length, 3)
        x = (6 * rng.standard_normal(shape)).astype(self.config.bottleneck_dtype)
        if self.config.index_ranges is None:
            return x, {}
        indexes = rng.integers(0, self.config.index_ranges[0], shape)
        # The only axis of one index that there is lies along the channels.
        beside: dict[str, Any] = {
            "indexes": indexes if self.config.channel_axis is None else indexes[..., None]
        }
        if self.config.kind == "location_scale_indexed":
            beside["loc"] = rng.normal(0, 9, shape).astype(np.float32)
        return x, beside


@pytest.fixture(params=KINDS)
def pair(
    request: pytest.FixtureRequest, symbol_client: entropyd.Client, float_client: entropyd.Client
) -> Pair:
    return Pair(KINDS[request.param], symbol_client, float_client)


@pytest.fixture(scope="module")
def symbol_client(server: LocalServer) -> Iterator[entropyd.Client]:
    with entropyd.Client(server.target, wire="symbols") as connected:
        yield connected


@pytest.mark.parametrize(("units", "length"), [(0, 4), (3, 0), (1, 1), (5, 4), (400, 500)])
def test_strings_rates_and_arrays_are_the_same(pair: Pair, units: int, length: int) -> None:
    x, beside = pair.inputs(units, length)
    one, other = (model.compress(x, **beside) for model in (pair.symbols, pair.floats))
    assert one.to_message() == other.to_message()
    assert one.rate == other.rate
    arrays = [model.decompress(one, **beside) for model in (pair.symbols, pair.floats)]
    assert arrays[0].dtype == arrays[1].dtype
    assert arrays[0].shape == arrays[1].shape == x.shape
    assert arrays[0].tobytes() == arrays[1].tobytes()
    assert not arrays[0].flags.writeable


def test_an_element_takes_one_byte_each_way(pair: Pair) -> None:
    x, beside = pair.inputs(5)
    work = Compression(pair.symbols.info, x, **beside)
    work.symbols = Symbols(pair.config)
    ((request, _),) = work.requests()
    sent = coding_pb2.CompressRequest.FromString(request)
    assert len(sent.bottleneck.data) == x.size
    decoding = Decompression(pair.symbols.info, pair.symbols.compress(x, **beside), **beside)
    decoding.symbols = Symbols(pair.config)
    ((request, _),) = decoding.requests()
    assert coding_pb2.DecompressRequest.FromString(request).symbols


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 2.0**30 + 2**20, -3e9, 60000.0])
def test_errors_are_the_same_word_for_word(pair: Pair, value: float) -> None:
    x, beside = pair.inputs(5)
    with np.errstate(over="ignore"):
        for place in ((1, 2, 0), (1, 2, 1), (3, 0, 2), (4, 3, 2)):
            x[place] = value
    outcomes: list[Any] = []
    for model in (pair.symbols, pair.floats):
        try:
            outcomes.append(model.compress(x, **beside).payload)
        except InvalidTensorError as error:
            outcomes.append((str(error), error.violations))
    assert outcomes[0] == outcomes[1]
    assert isinstance(outcomes[0], bytes) == (abs(value) < 2**30 and np.isfinite(x).all())


def test_what_is_no_array_for_the_model_is_refused_alike(pair: Pair) -> None:
    x, beside = pair.inputs(5)
    for wrong in (x[..., :2], np.zeros((2, 7, 5), x.dtype)):
        outcomes = []
        for model in (pair.symbols, pair.floats):
            with pytest.raises(InvalidTensorError) as caught:
                model.compress(wrong, **beside)
            outcomes.append(str(caught.value))
        assert outcomes[0] == outcomes[1]


def test_an_axis_of_length_one_is_repeated_as_before(symbol_client: Any, float_client: Any) -> None:
    pair = Pair(KINDS["by position"], symbol_client, float_client)
    x, _ = pair.inputs(5)
    one, other = (model.compress(x[..., :1]) for model in (pair.symbols, pair.floats))
    assert one.to_message() == other.to_message()
    assert one.rate == other.rate


def test_damaged_units_are_nan_and_named_alike(pair: Pair) -> None:
    x, beside = pair.inputs(9)
    strings = pair.floats.compress(x, **beside).strings.tolist()
    strings[2] = strings[7] = b"\xff" * 99
    inputs = beside or {"broadcast_shape": (4,)}
    restored, masks, words = [], [], []
    for model in (pair.symbols, pair.floats):
        array, mask = model.decompress(strings, on_error="skip", **inputs)
        restored.append(array)
        masks.append(mask.tolist())
        with pytest.raises(CorruptStringError) as caught:
            model.decompress(strings, **inputs)
        words.append(str(caught.value))
        assert np.isnan(array[mask]).all()
    assert masks[0] == masks[1]
    assert np.flatnonzero(masks[0]).tolist() == [2, 7]
    assert words[0] == words[1]
    assert restored[0].tobytes() == restored[1].tobytes()


def test_a_dither_beyond_what_is_drawn_goes_as_values(symbol_client: Any, float_client: Any) -> None:
    pair = Pair(KINDS["dither"], symbol_client, float_client)
    x, beside = pair.inputs(5)
    for first in (7, 2**21, 2**50):
        one, other = (model.compress(x, **beside, first_unit=first) for model in (pair.symbols, pair.floats))
        assert one.to_message() == other.to_message()
        arrays = [model.decompress(one, **beside) for model in (pair.symbols, pair.floats)]
        assert arrays[0].tobytes() == arrays[1].tobytes()


def test_the_asynchronous_client_sends_them_too(pair: Pair, server: LocalServer) -> None:
    x, beside = pair.inputs(5)
    expected = pair.floats.compress(x, **beside)

    async def both() -> tuple[Any, Any]:
        async with entropyd.aio.Client(server.target) as client:
            assert (await client.server_info()).symbols
            model = await client.model(pair.symbols.id)
            compressed = await model.compress(x, **beside)
            with pytest.raises(InvalidTensorError, match="NaN cannot be coded"):
                await model.compress(np.full_like(x, np.nan), **beside)
            return compressed, await model.decompress(compressed, **beside)

    compressed, restored = asyncio.run(both())
    assert compressed.to_message() == expected.to_message()
    assert restored.tobytes() == pair.floats.decompress(expected, **beside).tobytes()


def test_symbols_of_any_width_are_taken_from_any_program(symbol_client: Any, server: LocalServer) -> None:
    model = symbol_client.create_model(KINDS["by position"])
    symbols = np.random.default_rng(0).integers(-100, 100, (5, 4, 3))
    responses = []
    with grpc.insecure_channel(server.target) as channel:
        stub = coding_pb2_grpc.CodingServiceStub(channel)
        for dtype in (np.int8, np.int16, np.int32):
            tensor = tensor_to_message(symbols.astype(dtype))
            responses.append(stub.Compress(coding_pb2.CompressRequest(model_id=model.id, bottleneck=tensor)))
        assert responses[0] == responses[1] == responses[2]
        request = coding_pb2.DecompressRequest(compressed=responses[0].compressed, symbols=True)
        assert stub.Decompress(request).tensor == tensor_to_message(symbols.astype(np.int8))
        far = tensor_to_message(np.full((1, 4, 3), -(2**31), np.int32))
        with pytest.raises(grpc.RpcError) as caught:
            stub.Compress(coding_pb2.CompressRequest(model_id=model.id, bottleneck=far))
    assert caught.value.details() == (
        "coding unit 0, element (0, 0): -2147483648 is 2^30 or more away from the integers that the model's "
        "tables cover"
    )


def test_another_wire_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="wire is 'bytes'; expected one of auto, symbols, float"):
        entropyd.Client("localhost:1", wire="bytes")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources of a client and a server that know nothing of symbols."""
    folder = tmp_path_factory.mktemp("before")
    archive = subprocess.run(
        ["git", "archive", BEFORE, "client", "server"], cwd=ROOT, capture_output=True, check=False
    )
    if archive.returncode:
        pytest.skip(f"commit {BEFORE[:7]} is not in this clone: {archive.stderr.decode().strip()}")
    subprocess.run(["tar", "--extract"], cwd=folder, input=archive.stdout, check=True)
    return folder


@pytest.fixture(scope="module")
def old_server(before: Path) -> Iterator[LocalServer]:
    """A server that knows nothing of symbols."""
    server = LocalServer("--role", "coding,registry", store=f"file://{before}/store")
    # Compiling its kernels would take a minute.
    path = f"PYTHONPATH={before}/client:{before}/server"
    server._program = ("env", path, "NUMBA_DISABLE_JIT=1", *CODING_SERVER)
    with server:
        yield server


@pytest.mark.parametrize("wire", ["auto", "symbols", "float"])
def test_a_server_that_knows_no_symbols_gets_values(pair: Pair, old_server: LocalServer, wire: Any) -> None:
    x, beside = pair.inputs(3)
    expected = pair.floats.compress(x, **beside)
    with entropyd.Client(old_server.target, wire=wire) as client:
        assert not client.server_info().symbols
        model = client.create_model(pair.config)
        compressed = model.compress(x, **beside)
        assert compressed.to_message() == expected.to_message()
        restored = model.decompress(compressed, **beside)
        assert restored.tobytes() == pair.floats.decompress(expected, **beside).tobytes()


def test_a_server_that_knows_no_names_says_so_and_takes_ids(old_server: LocalServer) -> None:
    config = KINDS["by position"]
    with entropyd.Client(old_server.target) as client:
        with pytest.raises(entropyd.UnimplementedError, match="too old for names") as caught:
            client.create_model(config, name="faces-v2")
        assert caught.value.metadata["model_id"] in str(caught.value)
        model_id = caught.value.metadata["model_id"]
        for ask in (client.model, client.unname_model, lambda name: client.name_model(name, model_id)):
            with pytest.raises(entropyd.UnimplementedError, match="too old for names of models; use the id"):
                ask("faces-v2")
        assert client.model(model_id).id == client.model(model_id[:9]).id == config.model_id


def test_a_client_that_knows_no_symbols_is_served(pair: Pair, before: Path, server: LocalServer) -> None:
    x, beside = pair.inputs(3)
    np.savez(before / "given.npz", x=x, **beside)
    program = f"""
import entropyd, numpy as np
assert entropyd.__file__.startswith({str(before)!r})
given = dict(np.load("given.npz"))
x = given.pop("x")
with entropyd.Client({server.target!r}) as client:
    model = client.model({pair.symbols.id!r})
    compressed = model.compress(x, **given)
    payload = np.frombuffer(compressed.payload, np.uint8)
    np.savez("found.npz", payload=payload, array=model.decompress(compressed, **given))
"""
    environment = {"PYTHONPATH": f"{before}/client"}
    subprocess.run([sys.executable, "-c", program], cwd=before, env=environment, check=True)
    found = np.load(before / "found.npz")
    compressed = pair.symbols.compress(x, **beside)
    assert found["payload"].tobytes() == compressed.payload
    assert found["array"].tobytes() == pair.symbols.decompress(compressed, **beside).tobytes()
