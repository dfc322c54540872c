"""The `coding` image, built and run as the Dockerfile says, in a folder instead of a container.

What is not run: base images, the commands of the stage `runtime`, and an engine's isolation. A user who may
write to one folder only stands for a root that is read-only.
"""

from __future__ import annotations

import datetime
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import numpy as np
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import entropyd
from entropyd import ModelInfo, priors
from entropyd_server.coding import self_test
from entropyd_server.coding.tables import CodingTables
from entropyd_server.store import model_object
from tests.deploy import dockerfile
from tests.support.machine import unprivileged

if TYPE_CHECKING:
    from collections.abc import Iterator

# Building it compiles the kernels from nothing, beside whatever else runs.
pytestmark = pytest.mark.timeout(900)
USER, GROUP = dockerfile.last("coding", "USER").split(":")


@pytest.fixture(scope="module")
def root() -> Iterator[dockerfile.Root]:
    """A root folder in which the stages of `coding` have been built."""
    folder = Path(tempfile.mkdtemp(prefix="entropyd-image-"))
    try:
        built = dockerfile.Root(folder)
        built.build("wheel")
        built.build("coding-build")
        (folder / "var/lib/entropyd").mkdir(parents=True)
        (folder / "tmp").mkdir()
        if os.geteuid() == 0:
            os.chown(folder / "tmp", int(USER), int(GROUP))
        yield built
    finally:
        shutil.rmtree(folder)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def stored_model(store: Path) -> ModelInfo:
    """Puts a model into a store, with tables that need no TensorFlow to be made."""
    prior = priors.NoisyNormal(loc=[0.0, 0.0], scale=[0.5, 2.0])
    config = entropyd.UniversalBatchedConfig(
        prior=prior,
        coding_rank=2,
        num_noise_levels=self_test.NUM_NOISE_LEVELS,
        range_coder_precision=self_test.PRECISION,
    )
    cdf = [value for row in self_test.ROWS for value in (-self_test.PRECISION, *row)]
    tables = CodingTables.parse(cdf, self_test.CDF_OFFSET)
    target = store / "models" / f"{config.model_id}.safetensors"
    target.parent.mkdir()
    target.write_bytes(model_object.serialise(config, tables, {}))
    return ModelInfo(
        id=config.model_id,
        config=config,
        tables_digest=tables.digest,
        table_rows=len(tables.cdf_offset),
        table_bytes=tables.cdf.nbytes + tables.cdf_offset.nbytes,
        built_with={},
        created_at=datetime.datetime.now(datetime.timezone.utc),
    )


def wait_until_serving(target: str) -> None:
    with grpc.insecure_channel(target) as channel:
        request = health_pb2.HealthCheckRequest(service="entropyd.v1.CodingService")
        for answer in health_pb2_grpc.HealthStub(channel).Watch(request, timeout=60, wait_for_ready=True):
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return
    raise AssertionError("the stream of health ended")


def test_the_image_has_no_tensorflow_no_pip_and_nothing_missing(root: dockerfile.Root) -> None:
    interpreter = root.path("/opt/entropyd/bin/python3")
    program = (
        "import importlib.util as u; print([n for n in ('tensorflow', 'pip', 'pytest') if u.find_spec(n)])"
    )
    asked = subprocess.run([interpreter, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert asked.stdout == "[]\n"
    check = [sys.executable, "-m", "pip", "--python", interpreter, "check"]
    checked = subprocess.run(check, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_the_image_serves_to_anybody_without_compiling_in_less_than_200_mb(root: dockerfile.Root) -> None:
    store = Path(root.path("/var/lib/entropyd"))
    model = stored_model(store)
    # As COPY from a stage, or a registry, may leave it: the same bytes with other times.
    for source in Path(root.path("/opt/entropyd/lib")).rglob("entropyd_server/kernels/*.py"):
        os.utime(source, (1_700_000_000, 1_700_000_000))
    before = files(root.folder / "opt")
    target = root.path("unix:/tmp/socket")
    command, variables = root.start("coding")
    command += ["--listen", target, "--metrics-listen", "", "--drain-seconds", "0"]
    variables["NUMBA_DEBUG_CACHE"] = "1"
    pipe = subprocess.PIPE
    server = subprocess.Popen(
        [*unprivileged(USER, GROUP), *command], env=variables, stdout=pipe, stderr=pipe, text=True
    )
    try:
        wait_until_serving(target)
        # Here, where nothing is installed that an operator's server lacks.
        assert psutil.Process(server.pid).memory_info().rss < 200e6
        with entropyd.Client(target) as client:
            x = np.random.default_rng(1).normal(0, 2, (5, 30, 2)).astype(np.float32)
            served = client.model(model.id)
            assert served.tables_digest == model.tables_digest
            restored = served.decompress(served.compress(x))
            assert client.server_info().roles == ("coding", "registry")
        assert np.abs(restored - x).max() <= 0.5
    finally:
        server.send_signal(signal.SIGTERM)
        kernels, log = server.communicate()
    # The start script has become the server: the signal reached it, and it drained.
    assert server.returncode == 0, log
    assert log.rstrip().endswith("stopped")
    assert "data loaded from" in kernels
    assert "data saved to" not in kernels
    assert files(root.folder / "opt") == before
    assert {path.name for path in store.iterdir()} == {"models"}


def test_the_user_of_the_image_can_change_nothing_of_it(root: dockerfile.Root) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become the image's user")
    prefix = root.path("/opt/entropyd")
    find = [*unprivileged(USER, GROUP), "find", prefix, "-writable", "-not", "-type", "l"]
    found = subprocess.run(find, capture_output=True, text=True, check=True)
    assert found.stdout == ""
