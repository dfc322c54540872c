"""`entropyd --local` and `entropyd.LocalServer`: the same bytes without a service, and no process left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest
from click.testing import CliRunner

import entropyd
from entropyd import priors
from entropyd.cli.local import shown_folder
from entropyd.cli.main import entropyd as command_line
from entropyd.cli.session import Session
from entropyd_server.embedded import EmbeddedServer
from entropyd_server.flags import default_store
from entropyd_server.local import LocalServer
from tests.support.interpreters import CODING_SERVER

if TYPE_CHECKING:
    from click.testing import Result

COMMAND = (sys.executable, "-c", "import entropyd_command; entropyd_command.main()", "--local")


def run(*arguments: str, store: str | Path, status: int = 0) -> Result:
    ran = CliRunner().invoke(command_line, arguments, env={"ENTROPYD_STORE": str(store)})
    assert ran.exit_code == status, (ran.stdout, ran.stderr, ran.exception)
    return ran


@pytest.fixture(autouse=True)
def x(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(0, 3, (6, 9, 3)).astype(np.float32)
    x[0, 0, 0] = 5e4  # an escape
    np.save("x.npy", x)


def test_a_command_gives_the_bytes_of_a_server(
    server: LocalServer, store_url: str, model: entropyd.Model
) -> None:
    for where in ("--local", f"--server={server.target}"):
        run(where, "compress", "--model", model.id[:12], "x.npy", f"{where[2:7]}.entropyd", store=store_url)
        run(where, "decompress", f"{where[2:7]}.entropyd", f"{where[2:7]}.npy", store=store_url)
    assert Path("local.entropyd").read_bytes() == Path("serve.entropyd").read_bytes()
    assert Path("local.npy").read_bytes() == Path("serve.npy").read_bytes()


def test_an_archive_of_a_server_decodes_with_its_model_inside_or_beside_it(
    server: LocalServer, store_url: str, model: entropyd.Model
) -> None:
    there = f"--server={server.target}"
    run(there, "compress", "--model", model.id, "--embed-model", "x.npy", "inside.entropyd", store=store_url)
    run(there, "compress", "--model", model.id, "x.npy", "beside.entropyd", store=store_url)
    run(there, "models", "export", model.id, "beside.safetensors", store=store_url)
    run(there, "decompress", "beside.entropyd", "there.npy", store=store_url)
    run("--local", "decompress", "inside.entropyd", "inside.npy", store="one")
    missing = run("--local", "decompress", "beside.entropyd", "beside.npy", store="two", status=1)
    assert "MODEL_NOT_FOUND" in missing.stderr
    run("--local", "models", "import", "beside.safetensors", store="two")
    run("--local", "decompress", "beside.entropyd", "beside.npy", store="two")
    for restored in ("inside.npy", "beside.npy"):
        assert Path(restored).read_bytes() == Path("there.npy").read_bytes()


def test_commands_at_once_share_a_folder_and_none_outlives_its_signal(
    store_url: str, model: entropyd.Model
) -> None:
    Path("temporary").mkdir()
    environment = {**os.environ, "ENTROPYD_STORE": store_url, "TMPDIR": str(Path("temporary").resolve())}
    running = []
    for number in range(3):
        os.mkfifo(f"{number}.fifo")
        command = [*COMMAND, "compress", "--model", model.id, f"{number}.fifo", f"{number}.entropyd"]
        running.append(
            subprocess.Popen(
                command, env=environment, start_new_session=True, stderr=subprocess.PIPE, text=True
            )
        )
    # A command opens its source when its server has found the model, and only then is a pipe open here.
    pipes = [Path(f"{number}.fifo").open("wb") for number in range(3)]  # noqa: SIM115 - closed one by one
    running[0].kill()
    running[1].send_signal(signal.SIGINT)
    said = [process.communicate()[1] for process in running[:2]]
    pipes[2].write(Path("x.npy").read_bytes())
    for pipe in pipes:
        pipe.close()
    said += running[2].communicate()[1:]
    assert [process.returncode for process in running] == [-signal.SIGKILL, 1, 0], said
    assert (said[0], said[1].strip()) == ("", "Aborted!")
    for process in running:
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)
    assert len(list(Path("temporary").iterdir())) == 1  # that of the one that was killed
    assert entropyd.CompressedTensor.load("2.entropyd").payload


def test_what_needs_no_server_starts_none() -> None:
    run("--local", "token", "new", "--scope", "code", "ci", store="/dev/null/no-folder")
    refused = run("--local", "models", "list", store="/dev/null/no-folder", status=1)
    assert refused.stderr.startswith("Error: --local: cannot open the store /dev/null/no-folder: ")


def test_a_build_goes_to_the_server_that_can_only_where_it_is_needed(
    client: entropyd.Client, store_url: str
) -> None:
    prior = priors.NoisyNormal(loc=0.0, scale=1.625)
    config = entropyd.UniversalBatchedConfig(prior=prior, coding_rank=1)
    asked: list[bool] = []

    with EmbeddedServer(store_url) as plain, entropyd.Client(plain.target) as other:

        def connect(modeling: bool) -> entropyd.Client:
            asked.append(modeling)
            return client if modeling else other

        session = Session(connect, as_json=False)
        assert session.build(lambda one: one.create_model(config)).id == config.model_id
        assert True in asked
        asked.clear()
        assert session.build(lambda one: one.create_model(config)).id == config.model_id
        assert asked == [False]
        unseen = entropyd.UniversalBatchedConfig(prior=prior, coding_rank=2)
        lacking = Session(lambda _: other, as_json=False)
        with pytest.raises(entropyd.RoleMissingError):
            lacking.build(lambda one: one.create_model(unseen))


@pytest.mark.parametrize(
    ("typed", "variables", "named"),
    [
        (["--local", "--server", "a:1"], {}, "--server"),
        (["--local", "--tls", "--token-file", "t"], {}, "--tls, --token-file"),
        ([], {"ENTROPYD_LOCAL": "1", "ENTROPYD_SERVER": "a:1"}, "ENTROPYD_SERVER"),
    ],
)
def test_another_server_beside_local_is_refused_by_name(
    typed: list[str], variables: dict[str, str], named: str
) -> None:
    ran = CliRunner().invoke(command_line, [*typed, "models", "list"], env=variables)
    assert ran.exit_code == 2
    assert f"--local needs no server, and {named} would have no effect" in ran.stderr


@pytest.mark.parametrize("where", ["--local", "--server=127.0.0.1:1"])
@pytest.mark.parametrize("timeout_s", ["-1", "nan"])
def test_a_time_that_is_none_is_refused_here_and_elsewhere(where: str, timeout_s: str) -> None:
    ran = CliRunner().invoke(command_line, [where, "--timeout-s", timeout_s, "models", "list"])
    assert ran.exit_code == 2
    assert f"timeout_s is {float(timeout_s)}; expected seconds from 0 up" in ran.stderr


def test_the_command_line_wins_over_variables_of_servers(store_url: str, model: entropyd.Model) -> None:
    there = {"ENTROPYD_SERVER": "127.0.0.1:1", "ENTROPYD_STORE": store_url}
    shown = CliRunner().invoke(command_line, ["--local", "models", "show", model.id], env=there)
    assert (shown.exit_code, model.id in shown.stdout) == (0, True)
    asked = ["--server", "127.0.0.1:1", "--timeout-s", "0.3", "models", "list"]
    refused = CliRunner().invoke(command_line, asked, env={"ENTROPYD_LOCAL": "1"})
    assert "127.0.0.1:1 cannot be reached" in refused.stderr
    assert "entropyd-server" in refused.stderr
    assert "--local" in refused.stderr


def test_the_folder_is_that_of_servers_and_help_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ENTROPYD_STORE", raising=False)
    assert Path(shown_folder()).as_uri() == default_store()
    said = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True).stdout
    assert shown_folder() in " ".join(said.split())


def test_a_local_server_takes_a_folder_and_any_free_port(tmp_path: Path) -> None:
    config = entropyd.TabulatedConfig([[0, 9, 14, 16]], [-1], 1, precision=4)
    folder = tmp_path / "models # 1"
    with LocalServer("--role", "coding,registry", listen="127.0.0.1:0", store=folder) as server:
        host, _, port = server.target.rpartition(":")
        assert host == "127.0.0.1"
        assert int(port) > 0
        with entropyd.Client(server.target) as client:
            client.create_model(config)
    with EmbeddedServer(str(folder)) as again, entropyd.Client(again.target) as client:
        assert client.model(config.model_id).config == config


@pytest.mark.parametrize("flags", [(), ("--processes", "2", "--role", "coding,registry")], ids=["one", "two"])
def test_a_server_ends_with_a_program_that_is_killed(store_url: str, flags: tuple[str, ...]) -> None:
    program = f"""
from entropyd_server.local import LocalServer
LocalServer._program = {CODING_SERVER}
with LocalServer(*{flags}, listen="127.0.0.1:0", store={store_url!r}) as server:
    print(server.process.pid, flush=True)
    input()
"""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe, text=True) as started:
        assert started.stdout
        server = psutil.Process(int(started.stdout.readline()))
        processes = [server, *server.children(recursive=True)]
        started.kill()
    assert psutil.wait_procs(processes, timeout=60)[1] == []


def test_a_server_without_an_input_cannot_end_with_it(store_url: str) -> None:
    command = [*CODING_SERVER, "--end-with-input", "--listen", "127.0.0.1:0", "--store", store_url]
    ended = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *command], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert "--end-with-input needs a standard input, and it is closed" in ended.stderr
