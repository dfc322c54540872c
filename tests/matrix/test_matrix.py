"""The short form of the matrix: the built wheel, with the newest releases it needs, on each Python here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

import entropyd
from entropyd.contract.wire import tensor_to_message
from entropyd.v1 import coding_pb2, coding_pb2_grpc
from entropyd_server.local import LocalServer
from tests.matrix.environments import EXTRAS, OLDEST_GRPCIO, Environment, build_wheel, interpreter
from tests.support.machine import offline

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

SCRIPT = """
import importlib.metadata, importlib.util, json, sys
import numpy as np
import entropyd
from entropyd import priors

target, model_id, folder = sys.argv[1:]
prior = priors.NoisyLaplace(loc=[0.0, 0.5], scale=[1.0, 3.0])
config = entropyd.UniversalBatchedConfig(prior=prior, coding_rank=2)
with entropyd.Client(target) as client:
    model = client.create_model(config)
    x = np.random.default_rng(0).normal(0, 3, (4, 5, 2)).astype(np.float32)
    compressed = model.compress(x)
    compressed.save(folder + "/x.entropyd")
    restored = model.decompress(entropyd.CompressedTensor.load(folder + "/x.entropyd"))
    try:
        client.model(model_id).compress(np.full((1, 3), np.nan, np.float32))
        error = None
    except entropyd.InvalidTensorError as raised:
        error = [raised.reason, str(raised)]
print(json.dumps({
    "python": sys.version_info[:2],
    "package": entropyd.__file__,
    "protobuf": importlib.metadata.version("protobuf"),
    "extras": [name for name in ("click", "numba", "tensorflow") if importlib.util.find_spec(name)],
    "largest_error": float(np.abs(x - restored).max()),
    "same_id": model.id == config.model_id,
    "error": error,
}))
"""

BRINGS_TABLES = """
import sys
import numpy as np
import entropyd
from entropyd import priors

target, folder = sys.argv[1:]
x = np.random.default_rng(0).integers(-9, 9, (4, 5, 2)).astype(np.float32)
indexes = np.random.default_rng(1).integers(0, 2, (4, 5, 2))
with entropyd.Client(target) as client:
    for row_by, coder in (("position", "range"), ("index", "range"), ("index", "rans64")):
        bits = 16 if coder == "rans64" else 4
        rows = [[cut << bits - 4 for cut in row] for row in ([0, 3, 16], [0, 1, 2, 16])]
        config = entropyd.TabulatedConfig(rows, [-1, 5], 2, row_by=row_by, coder=coder, precision=bits)
        model = client.create_model(config)
        beside = {"indexes": indexes} if row_by == "index" else {}
        path = f"{folder}/{row_by}-{coder}.entropyd"
        with entropyd.ArchiveWriter(path, model=entropyd.EmbeddedModel.of(model)) as archive:
            archive.append(model.compress(x, **beside))
        with entropyd.Archive.open(path) as archive:
            assert np.array_equal(model.decompress(archive.read(), **beside), x)
    try:
        prior = priors.NoisyNormal(0.0, 1.2345)  # which no other test makes
        client.create_model(entropyd.UniversalBatchedConfig(prior=prior, coding_rank=1))
    except entropyd.RoleMissingError as error:
        print(*client.server_info().roles, error.reason, error.role, error)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def environment_of(tmp_path: Path) -> Callable[[str], Environment]:
    """Makes an empty environment of a version; skips the test if the machine lacks it."""

    def make(version: str) -> Environment:
        python = interpreter(version)
        if python is None:
            pytest.skip(f"no Python {version} here: whether entropyd works on it was NOT tested")
        return Environment(tmp_path / "environment", python)

    return make


@pytest.mark.parametrize("version", EXTRAS)
def test_the_bare_client_codes_and_fails_as_here(
    version: str,
    environment_of: Callable[[str], Environment],
    *,
    wheel: Path,
    server: LocalServer,
    model: entropyd.Model,
    tmp_path: Path,
) -> None:
    environment = environment_of(version)
    environment.install(str(wheel))
    ran = environment.run("-c", SCRIPT, server.target, model.id, str(tmp_path))
    assert ran.returncode == 0, ran.stdout
    said = json.loads(ran.stdout)
    assert said["python"] == [int(part) for part in version.split(".")]
    assert Path(said["package"]).is_relative_to(environment.python.parents[1])
    assert said["protobuf"].startswith("7.")
    assert said["extras"] == []
    assert said["largest_error"] <= 0.5 + 1e-6
    assert said["same_id"]
    assert said["error"][0] == "INVALID_TENSOR"
    assert "NaN" in said["error"][1]


# The whole suite runs on 3.11. Compiling all kernels takes a minute, so they run as Python here, and a small
# one is compiled; `make matrix` compiles all.
@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_a_server_without_tensorflow_takes_tables_and_writes_the_bytes_of_other_pythons(
    version: str,
    environment_of: Callable[[str], Environment],
    *,
    wheel: Path,
    server: LocalServer,
    store_url: str,
    model: entropyd.Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environment = environment_of(version)
    environment.install(f"{wheel}[coding]")
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")

    class Server(LocalServer):
        _program = (str(environment.python), "-m", "entropyd_server")

    x = np.random.default_rng(0).normal(0, 4, (50, 7, 3)).astype(np.float32)
    x[0, 0, 0] = 5e4  # an escape
    request = coding_pb2.CompressRequest(model_id=model.id, bottleneck=tensor_to_message(x))
    with (
        Server(store=store_url) as other,
        grpc.insecure_channel(server.target) as channel_here,
        grpc.insecure_channel(other.target) as channel_there,
    ):
        here: Any = coding_pb2_grpc.CodingServiceStub(channel_here)
        there: Any = coding_pb2_grpc.CodingServiceStub(channel_there)
        compressed = here.Compress(request)
        assert there.Compress(request) == compressed
        again = coding_pb2.DecompressRequest(compressed=compressed.compressed)
        assert there.Decompress(again) == here.Decompress(again)
        ran = environment.run("-c", BRINGS_TABLES, other.target, str(tmp_path))
    assert ran.returncode == 0, ran.stdout
    assert ran.stdout.startswith("coding registry ROLE_MISSING modeling building the tables of this")
    assert f"this server runs on Python {version}: use Python 3.11" in ran.stdout
    if version == "3.13":  # the suite has the rest, on 3.11
        decodes_alone(environment, model, tmp_path)
    environment.install(f"{wheel}[coding,test]")
    compiled = ["tests/unit/server/kernels/test_decoder_steps.py"]
    passed, output = environment.test(compiled, NUMBA_DISABLE_JIT="0")
    assert passed, output


def decodes_alone(environment: Environment, model: entropyd.Model, folder: Path) -> None:
    """Decodes archives of a server with `entropyd --local`, in empty stores and without a network."""
    x = np.random.default_rng(1).normal(0, 4, (5, 7, 3)).astype(np.float32)
    compressed = model.compress(x)
    np.save(folder / "x.npy", model.decompress(compressed))
    compressed.save(folder / "beside.entropyd")
    (folder / "beside.safetensors").write_bytes(model.export())
    with entropyd.ArchiveWriter(
        folder / "inside.entropyd", model=entropyd.EmbeddedModel.of(model)
    ) as archive:
        archive.append(compressed)

    def local(*words: str, store: str) -> subprocess.CompletedProcess[str]:
        command = ["-m", "entropyd.cli", "--local", *words]
        return environment.run(*command, before=offline(), ENTROPYD_STORE=str(folder / store))

    imported = local("models", "import", str(folder / "beside.safetensors"), store="beside")
    assert imported.stdout == f"{model.id}\n"
    for name in ("inside", "beside"):
        ran = local("decompress", str(folder / f"{name}.entropyd"), str(folder / f"{name}.npy"), store=name)
        assert ran.returncode == 0, ran.stdout
        assert (folder / f"{name}.npy").read_bytes() == (folder / "x.npy").read_bytes()
    prior = ["--prior", "NoisyNormal", "-p", "loc=0", "-p", "scale=1.2345", "--coding-rank", "1"]
    lacking = local("models", "create", *prior, store="beside")
    assert lacking.returncode == 1
    assert "(ROLE_MISSING)" in lacking.stdout
    assert "--local does it where 'entropyd[server]' is installed" in lacking.stdout


@pytest.mark.parametrize("version", ["3.10", "3.13"])
def test_the_contract_holds(version: str, environment_of: Callable[[str], Environment], wheel: Path) -> None:
    environment = environment_of(version)
    environment.install(f"{wheel}[test]")
    names = ("config", "errors", "prior", "symbols", "wire")
    suites = [f"tests/unit/client/contract/test_{name}.py" for name in names]
    passed, output = environment.test(suites, "--hypothesis-profile=brief")
    assert passed, output


def test_the_transport_works_with_the_oldest_grpcio(
    environment_of: Callable[[str], Environment],
    *,
    wheel: Path,
    server: LocalServer,
    model: entropyd.Model,
    tmp_path: Path,
) -> None:
    environment = environment_of("3.11")
    environment.install(f"{wheel}[coding,test]", f"grpcio=={OLDEST_GRPCIO}")
    passed, output = environment.test(["tests/unit/server/transport/test_server.py"])
    assert passed, output
    ran = environment.run("-c", SCRIPT, server.target, model.id, str(tmp_path))
    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize(
    ("version", "extra", "said"),
    [
        ("3.10", "coding", "entropyd-server needs Python 3.11 or newer, and this is Python 3.10"),
        (
            "3.12",
            "server",
            "TensorFlow 2.14 has no wheels for Python 3.12 or newer",
        ),
        ("3.13", "cli", "pip install 'entropyd[coding]'"),
    ],
)
def test_a_server_says_what_its_environment_lacks(
    version: str, extra: str, said: str, environment_of: Callable[[str], Environment], wheel: Path
) -> None:
    environment = environment_of(version)
    environment.install(f"{wheel}[{extra}]")
    ran = environment.run("-m", "entropyd_server", "--role", "all")
    assert ran.returncode == 1
    assert said in ran.stdout
    assert "Traceback" not in ran.stdout
    if extra != "server":  # which has what --local needs
        local = environment.run("-m", "entropyd.cli", "--local", "models", "list")
        assert local.returncode == 1
        assert local.stdout.startswith("Error: --local: a server needs ")
        assert "Traceback" not in local.stdout
