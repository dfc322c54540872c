"""How long a server without TensorFlow takes from its start to SERVING, and what it then holds.

    python -m benchmarks.startup [--python PATH] [--runs 10]

`--python` is the Python of an environment in which `entropyd[coding]` is installed from its wheel, with
bytecode (`pip` compiles it); by default the one that runs this. A first start, which is not counted, compiles
the kernels and stores them. Each other one is a process of its own: the time is that from its start to the
first message of health that says SERVING, the processor time what it used until then.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from statistics import median
from typing import Any

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

from entropyd_server.local import LocalServer

# Looks for the server this often: gRPC's own pause, of a second, would be most of what is measured.
_RECONNECT_MS = 10


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--runs", type=int, default=10)
    arguments = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # as in a container or a unit of systemd
    _start(arguments.python)
    runs = [_start(arguments.python) for _ in range(arguments.runs)]
    columns = zip(
        ("seconds to SERVING", "seconds of processor", "MB resident"), zip(*runs, strict=True), strict=True
    )
    for name, values in columns:
        print(f"{name:20}  least {min(values):7.2f}  median {median(values):7.2f}  most {max(values):7.2f}")


def _start(python: str) -> tuple[float, float, float]:
    """Starts a server and ends it; returns the three figures."""

    class Server(LocalServer):
        _program = (python, "-m", "entropyd_server", "--role", "coding,registry")

    started = time.perf_counter()
    with Server(wait=False) as server:
        options = [
            (f"grpc.{which}_reconnect_backoff_ms", _RECONNECT_MS) for which in ("initial", "min", "max")
        ]
        with grpc.insecure_channel(server.target, options) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            for response in health.Watch(health_pb2.HealthCheckRequest(), timeout=600, wait_for_ready=True):
                if response.status == health_pb2.HealthCheckResponse.SERVING:
                    break
        seconds = time.perf_counter() - started
        process = psutil.Process(server.process.pid)
        used = process.cpu_times()
        return seconds, used.user + used.system, process.memory_info().rss / 1e6


if __name__ == "__main__":
    main()
