"""A server that is run by a user who has no home and no name, and may write nowhere."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

import entropyd
from entropyd import priors
from tests.support.load import free_ports
from tests.support.machine import unprivileged

if TYPE_CHECKING:
    from pathlib import Path

# As where /tmp is read-only too.
NO_TEMPORARY_FOLDER = "import tempfile\ntempfile._candidate_tempdir_list = lambda: []\n"


def wait_until_serving(target: str) -> None:
    with grpc.insecure_channel(target) as channel:
        request = health_pb2.HealthCheckRequest()
        for answer in health_pb2_grpc.HealthStub(channel).Watch(request, timeout=120, wait_for_ready=True):
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return
    raise AssertionError("the stream of health ended")


def test_both_roles_serve_a_user_without_a_home_or_a_place_to_write(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(NO_TEMPORARY_FOLDER)
    target = f"127.0.0.1:{free_ports(1)[0]}"
    command = [*unprivileged("54321", "54321"), sys.executable, "-m", "entropyd_server", "--listen", target]
    command += ["--metrics-listen", "", "--drain-seconds", "0", "--store", "memory:///"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)}
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, env=environment, cwd="/proc", stdout=log, stderr=log)
    try:
        wait_until_serving(target)
        with entropyd.Client(target) as client:
            prior = priors.NoisyNormal(loc=0.0, scale=2.0)
            model = client.create_model(entropyd.UniversalBatchedConfig(prior=prior, coding_rank=1))
            x = np.array([1.2, -3.4], np.float32)
            assert np.abs(model.decompress(model.compress(x)) - x).max() <= 0.5
    finally:
        server.terminate()
        server.wait()
    said = (tmp_path / "log").read_text()
    assert server.returncode == 0, said
    assert "Traceback" not in said
