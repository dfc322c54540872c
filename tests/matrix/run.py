"""The whole matrix: `python -m tests.matrix.run [--only VERSION]...`, or `make matrix`.

Every Python version has an environment of the built wheel and the newest releases that it needs; 3.11 has a
second one with the oldest grpcio. Servers with the modeling role run on 3.11, where TensorFlow is; replicas
with the coding role run on the version that is tested. Ends with a table; the status is 1 if a suite failed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.matrix.environments import EXTRAS, OLDEST_GRPCIO, Environment, build_wheel, interpreter
from tests.support.interpreters import NAMED

_MODELING = "3.11"
_INTEGRATION = "tests/integration/test_{}.py".format
CLIENT = (
    "tests/unit/client",
    *map(_INTEGRATION, ("aio", "archive_service", "bounded", "cli", "cli_targets", "failover", "perturb")),
    *map(_INTEGRATION, ("service", "streams", "traps", "unreachable", "worker_processes", "zarr")),
)
CODING = ("tests/unit/server", "tests/golden", *map(_INTEGRATION, ("nginx", "tracing")))
TRANSPORT = (
    "tests/unit/server/transport",
    "tests/unit/server/rpc",
    *map(_INTEGRATION, ("lost_connections", "silence", "strangers")),
)


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=EXTRAS, help="a version; again for more")
    only = parser.parse_args().only or list(EXTRAS)
    with tempfile.TemporaryDirectory(prefix="entropyd-matrix-") as folder:
        rows = _rows(Path(folder), only)
    print("\n" + "\n".join(rows))
    sys.exit(any("FAILED" in row for row in rows))


def _rows(folder: Path, only: list[str]) -> list[str]:
    wheel = build_wheel(folder / "wheel")
    modeling = interpreter(_MODELING)
    if modeling is None:
        return [f"nothing was tested, FAILED: servers need a Python {_MODELING}, and none is here"]
    server = _environment(folder / "server", _MODELING, modeling, wheel)
    rows = []
    for version in EXTRAS:
        python = interpreter(version)
        if version not in only or python is None:
            why = "not asked for" if version not in only else "no such Python on this machine"
            rows.append(f"Python {version}: skipped, {why}")
            continue
        suites = CLIENT if version == "3.10" else CLIENT + CODING
        environment = server
        if version != _MODELING:
            environment = _environment(folder / version, version, python, wheel)
        rows.append(_row(f"Python {version}", environment, suites, server))
    if _MODELING in only:
        oldest = _environment(folder / "oldest", _MODELING, modeling, wheel, f"grpcio=={OLDEST_GRPCIO}")
        rows.append(_row(f"Python {_MODELING}", oldest, CLIENT + TRANSPORT, oldest))
    return rows


def _environment(folder: Path, version: str, python: Path, wheel: Path, *requirements: str) -> Environment:
    environment = Environment(folder, python)
    environment.install(f"{wheel}[{EXTRAS[version]},report,test,tracing,zarr]", *requirements)
    return environment


def _row(name: str, environment: Environment, suites: tuple[str, ...], server: Environment) -> str:
    script = "import entropyd, grpc, numpy; print(entropyd.__file__, grpc.__version__, numpy.__version__)"
    package, grpcio, numpy = environment.run("-c", script).stdout.split()
    name = f"{name}, grpcio {grpcio}, numpy {numpy}"
    print(f"\n== {name} from {package}", flush=True)
    since = time.monotonic()
    passed, output = environment.test(suites, "-n", "2", "--dist", "loadfile", **{NAMED: str(server.python)})
    print(output, flush=True)
    counts = output.strip().splitlines()[-1].strip("= ")
    return f"{name}: {'passed' if passed else 'FAILED'} in {time.monotonic() - since:.0f} s: {counts}"


if __name__ == "__main__":
    main()
