"""The JavaScript example, written from protos and pages alone, does what the Python client does."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest

import entropyd
from entropyd import priors, tables
from entropyd.contract.symbols import Quantizer
from entropyd.v1 import types_pb2
from entropyd_server.local import LocalServer
from tests.support.certificates import Authority
from tests.support.load import free_ports
from tests.support.machine import program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Array = npt.NDArray[Any]

ROOT = Path(__file__).parents[2]
README = (ROOT / "examples" / "javascript" / "README.md").read_text()
CALLS = Path(__file__).parents[1] / "support" / "javascript_calls.js"
ROWS = tables.from_counts([[5, 60, 9], [1, 1, 1, 1, 1, 1], [900, 3]])
CONFIGS = {
    "offsets": entropyd.TabulatedConfig(
        ROWS, [-1, 0, -2], coding_rank=2, quantization_offset=[0.25, -0.375, 0.1]
    ),
    "float64": entropyd.TabulatedConfig(
        ROWS, [-1, 0, -2], coding_rank=1, bottleneck_dtype="float64", coder="rans64"
    ),
    "heuristic": entropyd.ContinuousBatchedConfig(
        prior=priors.NoisyNormal(loc=[0.0, 1.3, -2.25], scale=[0.5, 2.0, 6.0]), coding_rank=2
    ),
}


class JavaScript:
    """Calls of the example, all in one process of Node.js."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def __call__(self, call: str, **given: Any) -> Any:
        """The result of a call; AssertionError with the error if it failed."""
        answer = self.answer(call, **given)
        assert "error" not in answer, answer
        return answer["result"]

    def answer(self, call: str, **given: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({"call": call, **given}), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def compress(self, model: entropyd.Model, x: Array) -> types_pb2.CompressedTensor:
        answer = self("compress", model=model.id, x=sent(x), shape=x.shape)
        return types_pb2.CompressedTensor.FromString(base64.b64decode(answer))

    def decompress(self, message: types_pb2.CompressedTensor) -> Array:
        answer = self("decompress", compressed=text(message.SerializeToString()))
        return taken(answer).reshape(answer["shape"])


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def sent(array: Array) -> dict[str, str]:
    return {"dtype": array.dtype.name, "data": text(array.tobytes())}


def taken(answer: Any) -> Array:
    return np.frombuffer(base64.b64decode(answer["data"]), answer["dtype"])


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example with its packages, where its README wants it."""
    program("node", "nodejs")
    npm = program("npm", "npm")
    folder: Path = tmp_path_factory.mktemp("entropyd")
    shutil.copytree(ROOT / "proto", folder / "proto")
    example = folder / "examples" / "javascript"
    shutil.copytree(ROOT / "examples" / "javascript", example, ignore=shutil.ignore_patterns("node_modules"))
    assert "\nnpm ci\n" in README
    ran = subprocess.run(
        [npm, "ci", "--prefer-offline"], cwd=example, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return example


@pytest.fixture(scope="module")
def javascript(example: Path, server: LocalServer) -> Iterator[JavaScript]:
    command = ["node", str(CALLS), str(example / "entropyd.js"), server.target]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield JavaScript(process)
    assert process.returncode == 0


@pytest.fixture(scope="module")
def models(client: entropyd.Client) -> dict[str, entropyd.Model]:
    return {name: client.create_model(config) for name, config in CONFIGS.items()}


@pytest.fixture
def run(example: Path, server: LocalServer) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the example's command, with the shared server unless `--server` names another."""

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        command = ["node", "example.js", "--server", server.target, *map(str, words)]
        return subprocess.run(command, cwd=example, capture_output=True, text=True, check=False)

    return run


def draws() -> Iterator[tuple[str, Array]]:
    """Names of models, and random arrays for them: of all symbol dtypes, most with escapes."""
    rng = np.random.default_rng(27)
    for number in range(36):
        name, spread = list(CONFIGS)[number % 3], (1, 20, 3000, 1e6)[number % 4]
        batch = ((), (1,), (5,), (2, 3))[rng.integers(4)]
        shape = (*batch, *(() if name == "float64" else (int(rng.integers(9)),)), 3)
        yield name, rng.laplace(0, spread, shape).astype("float64" if name == "float64" else "float32")
    yield "offsets", rng.laplace(0, 20, (70, 400, 3)).astype(np.float32)  # several blocks
    yield "offsets", rng.laplace(0, 9, (2, 5, 1)).astype(np.float32)  # an axis that the server repeats


@pytest.mark.parametrize("symbols", [True, False])
def test_strings_arrays_and_checksums_are_those_of_the_python_client(
    javascript: JavaScript, models: dict[str, entropyd.Model], *, symbols: bool
) -> None:
    javascript("info", symbols=symbols)
    try:
        for name, x in draws():
            model = models[name]
            compressed = model.compress(x)
            restored = model.decompress(compressed)
            message = javascript.compress(model, x)
            assert message == compressed.to_message(), (name, x.shape)
            for array in (
                javascript.decompress(compressed.to_message()),
                model.decompress(entropyd.CompressedTensor.from_message(message)),
            ):
                assert array.dtype == restored.dtype
                assert array.shape == restored.shape
                assert array.tobytes() == restored.tobytes()
    finally:
        javascript("info", symbols=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_symbols_are_those_of_the_python_client_in_the_narrowest_type(
    javascript: JavaScript, dtype: str
) -> None:
    rng = np.random.default_rng(28)
    offsets = np.array([0.25, -0.375, 0.1], dtype)
    quantizer = Quantizer(dtype, np.tile(offsets, 40))
    seen = set()
    for edge in (
        0.0,
        127.25,
        127.75,
        -128.5,
        32767.0,
        -32769.0,
        2.0**31 - 200,
        -(2.0**31) - 300,
        2.0**31,
        np.inf,
        np.nan,
    ):
        halves = rng.integers(-40, 40, (1, 120)) / 2 + np.tile(offsets, 40)
        halves[0, 0] = edge
        x = halves.astype(dtype)
        expected = quantizer.symbols(x)
        answer = javascript("quantize", x=sent(x), offsets=sent(offsets))
        if expected is None:
            assert answer is None, edge
        else:
            assert answer["dtype"] == expected.dtype.name, edge
            assert np.array_equal(taken(answer), expected[0]), edge
            seen.add(answer["dtype"])
    assert seen == {"int8", "int16", "int32"}


def test_a_changed_byte_is_found_by_the_checksum_of_its_block(
    javascript: JavaScript, models: dict[str, entropyd.Model]
) -> None:
    x = np.random.default_rng(29).laplace(0, 20, (70, 400, 3)).astype(np.float32)
    message = models["offsets"].compress(x).to_message()
    assert len(message.blocks) > 1
    assert javascript.decompress(message).shape == x.shape
    first, first_byte = 0, 0
    for block in message.blocks:
        last_byte = first_byte + sum(message.lengths[first : first + block.units])
        damaged = types_pb2.CompressedTensor.FromString(message.SerializeToString())
        payload = bytearray(damaged.payload)
        payload[last_byte - 1] ^= 1
        damaged.payload = bytes(payload)
        answer = javascript.answer("decompress", compressed=text(damaged.SerializeToString()))
        assert answer["error"]["reason"] == "CORRUPT_STRING"
        assert f"units {first} to {first + block.units - 1} " in answer["error"]["message"]
        first, first_byte = first + block.units, last_byte


def test_limits_are_those_that_the_server_announces(javascript: JavaScript, client: entropyd.Client) -> None:
    info = client.server_info()
    found = javascript("info")
    assert found["symbols"] == info.symbols
    assert found["limits"]["max_message_bytes"] == info.max_message_bytes


def test_an_error_has_its_reason_field_and_expectation(
    javascript: JavaScript, models: dict[str, entropyd.Model]
) -> None:
    x = np.full((2, 5, 3), np.nan, np.float32)
    with pytest.raises(entropyd.InvalidTensorError) as raised:
        models["offsets"].compress(x)
    error = javascript.answer("compress", model=models["offsets"].id, x=sent(x), shape=x.shape)["error"]
    assert (error["name"], error["code"], error["reason"]) == (
        "EntropydError",
        "INVALID_ARGUMENT",
        "INVALID_TENSOR",
    )
    violations = [
        {"field": wrong.field, "description": wrong.description} for wrong in raised.value.violations
    ]
    assert error["violations"] == violations


def test_a_model_of_another_kind_is_refused_with_what_the_client_codes(
    javascript: JavaScript, model: entropyd.Model
) -> None:
    error = javascript.answer("compress", model=model.id, x=sent(np.zeros(6)), shape=(1, 2, 3))["error"]
    assert "universal_batched" in error["message"]
    assert "continuous_batched or tabulated" in error["message"]


# The command


def test_the_readmes_demo_prints_what_it_shows(
    run: Callable[..., subprocess.CompletedProcess[str]], server: LocalServer
) -> None:
    assert "\nnode example.js --server HOST:7070\n" in README
    (shown,) = re.findall(r"```text\n(.*?)```", README, re.DOTALL)
    ran = run()
    assert (ran.returncode, ran.stderr) == (0, "")
    assert _without_version(ran.stdout) == _without_version(shown.replace("HOST:7070", server.target))


def _without_version(output: str) -> str:
    return re.sub(r"entropyd [\d.]+", "entropyd", output)


def test_the_readmes_program_runs_as_it_is_written(
    example: Path, server: LocalServer, models: dict[str, entropyd.Model]
) -> None:
    (code,) = re.findall(r"```js\n(.*?)```", README, re.DOTALL)
    (example / "program.js").write_text(code)
    command = ["node", "program.js", server.target, models["heuristic"].id]
    ran = subprocess.run(command, cwd=example, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "restored as 4,16,3" in ran.stdout


def test_files_of_numbers_become_bit_strings_and_come_back(
    run: Callable[..., subprocess.CompletedProcess[str]], models: dict[str, entropyd.Model], tmp_path: Path
) -> None:
    model = models["offsets"]
    x = np.random.default_rng(0).laplace(0, 9, (4, 16, 3)).astype(np.float32)
    x.tofile(tmp_path / "x.f32")
    compressed = model.compress(x)
    ran = run("compress", model.id, "--shape", "4,16,3", tmp_path / "x.f32", tmp_path / "x.compressed")
    assert (ran.returncode, ran.stderr) == (0, "")
    message = types_pb2.CompressedTensor.FromString((tmp_path / "x.compressed").read_bytes())
    assert message == compressed.to_message()
    ran = run("decompress", tmp_path / "x.compressed", tmp_path / "y.f32")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert np.fromfile(tmp_path / "y.f32", np.float32).tobytes() == model.decompress(compressed).tobytes()


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--help"], 0, "compress MODEL_ID IN OUT"),
        (["models"], 0, "tabulated  [3]"),
        (["compress", "0" * 64, "--shape", "1", "crc32c.js", "out"], 2, "expected 4 or 8"),
        (["decompress", "example.js", "out"], 2, "example.js is no CompressedTensor"),
        (["--token-file", "x"], 2, "--token-file takes --tls or --ca"),
    ],
)
def test_the_command_says_what_it_does_and_what_is_wrong(
    run: Callable[..., subprocess.CompletedProcess[str]],
    models: dict[str, entropyd.Model],
    *,
    words: list[str],
    status: int,
    said: str,
) -> None:
    ran = run(*words)
    assert ran.returncode == status, ran.stderr
    assert said in (ran.stderr if status else ran.stdout)


def test_a_token_is_sent_over_tls(
    run: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    authority = Authority("servers")
    ca = authority.write(tmp_path / "ca.pem")
    cert, key = authority.issue(tmp_path, "server")
    token = tmp_path / "token"
    token.write_text("entropyd_javascript_0123456789\n")
    digest = hashlib.sha256(token.read_text().strip().encode()).hexdigest()
    (tmp_path / "tokens").write_text(f"reader model {digest}\n")
    flags = ["--role", "registry", "--tls-cert", cert, "--tls-key", key, "--tokens-file", tmp_path / "tokens"]
    listen = f"localhost:{free_ports(1)[0]}"
    trust = entropyd.tls_credentials(ca)
    with LocalServer(*map(str, flags), listen=listen, credentials=trust) as secured:
        words = ["--server", secured.target, "--ca", ca, "models"]
        refused = run(*words)
        assert refused.returncode == 1
        assert "MISSING_CREDENTIALS (UNAUTHENTICATED)" in refused.stderr
        allowed = run("--token-file", token, *words)
        assert (allowed.returncode, allowed.stderr, allowed.stdout) == (0, "", "")
