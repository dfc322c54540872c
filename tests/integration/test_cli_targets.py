"""Every command that writes a file with every kind of target, and every one that reads a file with every kind
of source: nothing is lost, what was not named is not touched, and nobody may read more than before.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner

from entropyd import CompressedTensor
from entropyd.cli.main import entropyd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from click.testing import Result

    from entropyd import Client, Model
    from entropyd_server.local import LocalServer

X = np.random.default_rng(0).normal(0, 2, (50, 4, 3)).astype(np.float32)
# A name that `fit --report` takes too.
TARGET = "target.html"
ENTROPYD = [sys.executable, "-m", "entropyd.cli"]
NOWHERE = "127.0.0.1:1"


@dataclass(frozen=True)
class Writes:
    """A command that writes a file.

    Attributes:
      source: What it reads; None for nothing.
      arguments: Of the command, for an id, a source and a target.
      is_whole: Whether a target's content is all of the result.
    """

    source: str | None
    arguments: Callable[[str, str, str], list[str]]
    is_whole: Callable[[bytes], bool]


def is_archive(content: bytes) -> bool:
    Path("content").write_bytes(content)
    found = CompressedTensor.load("content").batch_shape == (50,)
    Path("content").unlink()
    return found


def is_array(content: bytes) -> bool:
    return bool(np.load(io.BytesIO(content)).shape == X.shape)


FIT = ["fit", "--coding-rank", "1", "--prior", "NoisyNormal", "--max-steps", "1"]
WRITES = {
    "compress": Writes(
        "x.npy",
        lambda model_id, source, target: ["compress", "--model", model_id, source, target],
        is_archive,
    ),
    "decompress": Writes(
        "x.entropyd", lambda model_id, source, target: ["decompress", source, target], is_array
    ),
    "fit": Writes(
        "x.npy",
        lambda model_id, source, target: [*FIT, source, "--report", target],
        lambda content: content.startswith(b"<!doctype html>") and content.endswith(b"</html>\n"),
    ),
    "models export": Writes(
        None,
        lambda model_id, source, target: ["models", "export", model_id, target],
        lambda content: b"entropyd.config" in content,
    ),
    "token new": Writes(
        None,
        lambda model_id, source, target: ["token", "new", "--scope", "code", "--output", target, "ci"],
        lambda content: content.startswith(b"entropyd_") and content.endswith(b"\n"),
    ),
}
each_command = pytest.mark.parametrize("name", WRITES)
each_with_source = pytest.mark.parametrize("name", [name for name, writes in WRITES.items() if writes.source])


class Cli:
    """Runs commands in a folder that holds the array x.npy and its archive x.entropyd."""

    def __init__(self, server: str, model: Model) -> None:
        self.server = server
        self.model = model

    def run(self, *arguments: str, status: int = 0, stdin: bytes = b"", server: str = "") -> Result:
        ran = CliRunner().invoke(entropyd, ["--server", server or self.server, *arguments], input=stdin)
        assert ran.exit_code == status, (ran.stdout, ran.stderr, ran.exception)
        assert ran.exception is None or isinstance(ran.exception, SystemExit)
        return ran

    def arguments(self, name: str, target: str = TARGET, source: str | None = None) -> list[str]:
        writes = WRITES[name]
        return writes.arguments(self.model.id, source or str(writes.source), target)

    def write(self, name: str, *options: str, target: str = TARGET, source: str | None = None) -> Result:
        return self.run(*self.arguments(name, target, source), *options)

    def refused(self, name: str, *options: str, source: str | None = None) -> str:
        """What is said of TARGET before a server is asked."""
        said = self.run(*self.arguments(name, TARGET, source), *options, status=1, server=NOWHERE).stderr
        assert "UNREACHABLE" not in said
        assert TARGET in said
        assert ".part" not in said
        return said


@pytest.fixture
def cli(server: LocalServer, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cli]:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", X)
    model.compress(X).save("x.entropyd")
    before = os.umask(0o022)
    yield Cli(server.target, model)
    os.umask(before)


def mode(path: str | Path) -> int:
    return stat.S_IMODE(Path(path).lstat().st_mode)


def names() -> set[str]:
    return {str(path) for path in Path().rglob("*")} - {"x.npy", "x.entropyd"}


def device(minor: int) -> None:
    """Makes TARGET a device like /dev/null (3) or /dev/full (7)."""
    try:
        os.mknod(TARGET, stat.S_IFCHR | 0o666, os.makedev(1, minor))
        Path(TARGET).open("rb").close()
    except OSError as error:
        pytest.skip(f"no device can be made here: {error.strerror}")


# Targets


@each_command
def test_a_new_file_is_made_whole(cli: Cli, name: str) -> None:
    cli.write(name)
    assert names() == {TARGET}
    assert WRITES[name].is_whole(Path(TARGET).read_bytes())
    assert mode(TARGET) == (0o600 if name == "token new" else 0o644)


@each_command
def test_a_file_that_is_there_is_replaced_by_force_alone(cli: Cli, name: str) -> None:
    target = Path(TARGET)
    target.write_bytes(b"precious")
    target.chmod(0o600)
    assert "--force" in cli.refused(name)
    assert target.read_bytes() == b"precious"
    cli.write(name, "--force" if name == "compress" else "-f")
    assert WRITES[name].is_whole(target.read_bytes())
    assert mode(target) == 0o600
    assert names() == {TARGET}


@each_command
def test_a_link_stays_one_and_what_it_leads_to_is_written(cli: Cli, name: str) -> None:
    Path("elsewhere").mkdir()
    Path(TARGET).symlink_to("elsewhere/file")
    cli.write(name)
    assert Path(TARGET).is_symlink()
    assert WRITES[name].is_whole(Path("elsewhere/file").read_bytes())
    Path("elsewhere/file").write_bytes(b"precious")
    assert "--force" in cli.refused(name)
    assert Path("elsewhere/file").read_bytes() == b"precious"
    assert names() == {TARGET, "elsewhere", "elsewhere/file"}


@each_command
def test_a_device_stays_one(cli: Cli, name: str) -> None:
    device(3)
    cli.write(name)
    assert stat.S_ISCHR(Path(TARGET).lstat().st_mode)


@each_command
def test_a_device_that_is_full_is_an_error(cli: Cli, name: str) -> None:
    device(7)
    ran = cli.run(*cli.arguments(name), status=1)
    assert f"{TARGET}: No space left on device" in ran.stderr
    assert stat.S_ISCHR(Path(TARGET).lstat().st_mode)


@each_command
@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_pipes_and_sockets_are_written_to(cli: Cli, name: str, kind: str) -> None:
    got = []

    def read() -> None:
        if kind == "pipe":
            got.append(Path(TARGET).read_bytes())
            return
        connection, _ = listening.accept()
        with connection, connection.makefile("rb") as file:
            got.append(file.read())

    with socket.socket(socket.AF_UNIX) as listening:
        if kind == "pipe":
            os.mkfifo(TARGET)
        else:
            listening.bind(TARGET)
            listening.listen(1)
        reader = threading.Thread(target=read)
        reader.start()
        cli.write(name)
        reader.join()
    assert WRITES[name].is_whole(got[0])
    assert names() == {TARGET}


@pytest.mark.parametrize("name", [name for name in WRITES if name != "fit"])
def test_standard_output_under_any_name_takes_the_result_and_nothing_else(cli: Cli, name: str) -> None:
    for target in ("-", "/proc/self/fd/1", "/dev/fd/1"):
        command = [*ENTROPYD, "--server", cli.server, *cli.arguments(name, target)]
        ran = subprocess.run(command, capture_output=True, check=True)
        assert WRITES[name].is_whole(ran.stdout)
        assert ran.stderr
        with Path("/dev/full").open("wb") as full:
            ran = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
        assert ran.returncode == 1
        assert b"No space left on device" in ran.stderr
        assert b"Exception" not in ran.stderr
    assert names() == set()


@each_command
def test_a_folder_is_refused_by_its_name(cli: Cli, name: str) -> None:
    Path(TARGET).mkdir()
    for force in ([], ["--force"]):
        assert "folder" in cli.refused(name, *force)
    assert names() == {TARGET}


@each_with_source
@pytest.mark.parametrize("spelling", ["the same", "a hard link", "a link", "standard input"])
def test_an_input_is_no_target_whatever_its_name(cli: Cli, name: str, spelling: str) -> None:
    source = str(WRITES[name].source)
    original = Path(source).read_bytes()
    if spelling in {"the same", "standard input"}:
        Path(source).rename(TARGET)
        source = f"../{Path.cwd().name}/{TARGET}"
    elif spelling == "a hard link":
        Path(TARGET).hardlink_to(source)
    else:
        Path(TARGET).symlink_to(source)
    if spelling == "standard input":
        command = [*ENTROPYD, "--server", NOWHERE, *cli.arguments(name, source="-"), "--force"]
        with Path(TARGET).open("rb") as stdin:
            ran = subprocess.run(command, stdin=stdin, capture_output=True, text=True, check=False)
        assert ran.returncode == 1
        assert f"{TARGET}: is an input" in ran.stderr
    else:
        for force in ([], ["--force"]):
            assert f"{TARGET}: is an input" in cli.refused(name, *force, source=source)
    assert Path(TARGET).read_bytes() == original
    assert names() == {TARGET}


# Mounts two small file systems for one command: the first is full, the second read-only.
MOUNTED = """
mount -t tmpfs -o size=16k none full && mount -t tmpfs -o ro none fixed || exit 99
head -c 64k /dev/zero > full/filler 2>/dev/null
"$@"
code=$?
ls -A full fixed
exit $code
"""


@each_command
@pytest.mark.parametrize(("folder", "problem"), [("full", "No space left"), ("fixed", "Read-only file")])
def test_a_file_system_that_is_full_or_read_only_is_an_error(
    cli: Cli, name: str, folder: str, problem: str
) -> None:
    Path("full").mkdir()
    Path("fixed").mkdir()
    command = [*ENTROPYD, "--server", cli.server, *cli.arguments(name, f"{folder}/{TARGET}")]
    mounted = ["unshare", "--mount", "sh", "-c", MOUNTED, "sh", *command]
    ran = subprocess.run(mounted, capture_output=True, text=True, check=False)
    if ran.returncode == 99 or "unshare failed" in ran.stderr:
        pytest.skip(f"nothing can be mounted here: {ran.stderr.strip()}")
    assert ran.returncode == 1, ran.stderr
    assert f"{folder}/{TARGET}: {problem}" in ran.stderr
    assert ".part" not in ran.stderr
    # Nothing but what filled the one.
    assert ran.stdout.split() == ["fixed:", "full:", "filler"]


WITH_FILES_OF = """
import resource, sys
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
from entropyd.cli.__main__ import main
main()
"""


@each_command
def test_a_file_that_gets_too_large_is_an_error_and_gone(cli: Cli, name: str) -> None:
    command = [sys.executable, "-c", WITH_FILES_OF, "16", "--server", cli.server, *cli.arguments(name)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert f"{TARGET}: File too large" in ran.stderr
    assert names() == set()


@each_command
def test_a_name_that_cannot_be_is_said_as_it_was_given(cli: Cli, name: str) -> None:
    for target in (f"missing/{TARGET}", f"x.npy/{TARGET}", "x" * 300 + ".html"):
        said = cli.run(*cli.arguments(name, target), status=1, server=NOWHERE).stderr
        assert target in said or Path(target).parent.name in said
        assert ".part" not in said


# Sources


def fed(descriptor: int, content: bytes) -> None:
    with os.fdopen(descriptor, "wb") as pipe:
        pipe.write(content)


READS: dict[str, Callable[[str, str], list[str]]] = {
    "compress": lambda model_id, source: ["compress", "--model", model_id, source, TARGET],
    "fit": lambda model_id, source: [*FIT, source],
    "models import": lambda model_id, source: ["models", "import", source],
    "models create": lambda model_id, source: ["models", "create", "--config", source],
}


@pytest.mark.parametrize("name", READS)
def test_a_pipe_is_read_as_a_file_is_under_any_name(cli: Cli, client: Client, name: str) -> None:
    content = {
        "compress": Path("x.npy").read_bytes(),
        "fit": Path("x.npy").read_bytes(),
        "models import": cli.model.export(),
        "models create": json.dumps(cli.model.config.to_dict()).encode(),
    }[name]
    Path("source").write_bytes(content)
    os.mkfifo("pipe")
    printed = []
    # It is the array that a fit reads as compress does, and a fit takes its time.
    for source in ("-",) if name == "fit" else ("source", "-", "/dev/stdin", "/dev/fd/N", "pipe"):
        ours, theirs = os.pipe()
        command = [*ENTROPYD, "--server", cli.server]
        command += READS[name](cli.model.id, source.replace("N", str(ours)))
        feeds = threading.Thread(target=fed, args=(theirs, content))
        feeds.start()
        if source == "pipe":
            named = threading.Thread(target=Path("pipe").write_bytes, args=(content,))
            named.start()
        ran = subprocess.run(
            command, stdin=ours, pass_fds=[ours], capture_output=True, text=True, check=False
        )
        os.close(ours)
        assert ran.returncode == 0, ran.stderr
        if name == "compress":
            printed.append(Path(TARGET).read_bytes().hex())
            Path(TARGET).unlink()
        else:
            printed.append(ran.stdout.strip())
    assert len(set(printed)) == 1


def test_a_file_named_by_a_dash_is_one(cli: Cli) -> None:
    shutil.copy("x.npy", "./-")
    cli.run("compress", "--model", cli.model.id, "./-", "x")
    Path("-").unlink()
    cli.run("compress", "--model", cli.model.id, "x.npy", "./-")
    assert Path("-").read_bytes() == Path("x").read_bytes()


@each_with_source
def test_nobody_can_read_a_result_who_cannot_read_its_source(cli: Cli, name: str) -> None:
    Path(str(WRITES[name].source)).chmod(0o600)
    cli.write(name)
    assert mode(TARGET) == 0o600


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def shrink(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 100)


@pytest.mark.parametrize("change", [grow, shrink])
@pytest.mark.parametrize("recursive", [False, True])
def test_a_source_that_changes_is_an_error_and_leaves_nothing(
    cli: Cli, change: Callable[[Path], None], recursive: bool
) -> None:
    Path("in").mkdir()
    source = Path("in/x.npy")
    np.save(source, np.zeros((600_000, 4, 3), np.float32))
    paths = ["-r", "in", "out"] if recursive else [str(source), "out/x.entropyd"]
    Path("out").mkdir()
    with subprocess.Popen(
        [*ENTROPYD, "--server", cli.server, "compress", "--model", cli.model.id, *paths],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as running:  # fmt: skip
        # Whether it has begun to read by now or not, this is no whole array, or not the one that it saw.
        while running.poll() is None and not any(Path("out").iterdir()):
            pass
        change(source)
        _, said = running.communicate()
    assert running.returncode == 1
    assert str(source) in said
    assert list(Path("out").iterdir()) == []


def test_a_source_that_changes_is_an_error_where_the_target_is_a_pipe(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("entropyd.cli.compressing._PART_BYTES", 100_000)
    rng = np.random.default_rng(1)
    np.save("large.npy", rng.normal(0, 2, (200_000, 4, 3)).astype(np.float32))
    os.mkfifo(TARGET)
    ran: list[Any] = []
    arguments = ["compress", "--model", cli.model.id, "large.npy", TARGET]
    compresses = threading.Thread(target=lambda: ran.append(cli.run(*arguments, status=1)))
    compresses.start()
    with Path(TARGET).open("rb") as pipe:
        pipe.read(1)
        # The pipe is full now, and most of the array not read.
        grow(Path("large.npy"))
        while pipe.read(1 << 20):
            pass
    compresses.join()
    assert "large.npy changed while it was read" in ran[0].stderr


# Folders


def test_a_run_over_a_folder_replaces_nothing_that_it_could_not_make_again(cli: Cli) -> None:
    Path("in").mkdir()
    for name in ("a", "b", "c", "d"):
        shutil.copy("x.npy", f"in/{name}.npy")
    command = ["--json", "compress", "--model", cli.model.id, "-r", "in", "out"]
    cli.run(*command)
    Path("out/a.entropyd").write_bytes(b"precious")
    np.save("in/b.npy", X + 1)
    archive = Path("out/c.entropyd")
    archive.write_bytes(archive.read_bytes()[:-1])
    before = {path: path.read_bytes() for path in map(Path, ("out/a.entropyd", "out/b.entropyd"))}

    found = json.loads(cli.run(*command, status=1).stdout)
    assert {file["target"]: file["status"] for file in found["files"]} == {
        "out/a.entropyd": "failed",
        "out/b.entropyd": "failed",
        "out/c.entropyd": "done",
        "out/d.entropyd": "skipped",
    }
    assert all("--force" in file["text"] for file in found["files"] if file["status"] == "failed")
    assert {path: path.read_bytes() for path in before} == before
    # With other options the archives of sources that are as they were are made again.
    found = json.loads(cli.run(*command, "--embed-model", status=1).stdout)
    assert (found["done"], found["failed"]) == (2, 2)
    found = json.loads(cli.run(*command, "--embed-model", "--force").stdout)
    assert (found["done"], found["skipped"], found["failed"]) == (2, 2, 0)


def test_a_run_over_a_folder_goes_on_where_it_was_killed(cli: Cli) -> None:
    Path("in").mkdir()
    for name in ("a", "b"):
        shutil.copy("x.npy", f"in/{name}.npy")
    cli.run("compress", "--model", cli.model.id, "-r", "in", "out")
    # What a process leaves that is killed while it writes.
    Path("out/b.entropyd").rename("out/.b.entropyd.0123abcd.part")
    ran = cli.run("compress", "--model", cli.model.id, "-r", "in", "out")
    assert "1 done, 1 skipped, 0 failed" in ran.stdout
    ran = cli.run("decompress", "-r", "out", "back")
    assert "2 done, 0 skipped, 0 failed" in ran.stdout


def test_arrays_that_are_there_are_replaced_by_force_alone(cli: Cli) -> None:
    Path("in").mkdir()
    shutil.copy("x.entropyd", "in/a.entropyd")
    shutil.copy("x.entropyd", "in/b.entropyd")
    Path("out").mkdir()
    Path("out/a.npy").write_bytes(b"precious")
    ran = cli.run("decompress", "-r", "in", "out", status=1)
    assert "1 done, 0 skipped, 1 failed" in ran.stdout
    assert "out/a.npy exists already; --force replaces it" in ran.stderr
    assert Path("out/a.npy").read_bytes() == b"precious"
    cli.run("decompress", "-r", "-f", "in", "out")
    assert np.load("out/a.npy").shape == X.shape


def test_two_sources_of_one_archive_are_not_both_taken(cli: Cli) -> None:
    Path("in/x").mkdir(parents=True)
    np.savez("in/x.npz", y=X)
    np.save("in/x/y.npy", X + 1)
    for force in ([], ["--force"]):
        ran = cli.run("compress", "--model", cli.model.id, *force, "-r", "in", "out", status=1)
        assert "1 failed" in ran.stdout
        assert "out/x/y.entropyd" in ran.stderr


def test_the_results_of_a_folder_are_as_private_as_it_is(cli: Cli) -> None:
    Path("in/deep").mkdir(parents=True)
    shutil.copy("x.npy", "in/x.npy")
    shutil.copy("x.npy", "in/deep/x.npy")
    np.savez("in/pair.npz", a=X)
    Path("in/x.npy").chmod(0o600)
    Path("in/pair.npz").chmod(0o640)
    Path("in/deep").chmod(0o700)
    cli.run("compress", "--model", cli.model.id, "-r", "in", "out")
    cli.run("decompress", "-r", "out", "back")
    for folder, suffix in (("out", "entropyd"), ("back", "npy")):
        assert [mode(f"{folder}/{path}") for path in ("", "deep", "pair")] == [0o755, 0o700, 0o750]
        files = [f"{folder}/{path}.{suffix}" for path in ("x", "deep/x", "pair/a")]
        assert [mode(path) for path in files] == [0o600, 0o644, 0o640]


@pytest.mark.parametrize("target", ["x.entropyd", "-"])
def test_several_files_need_a_folder(cli: Cli, target: str) -> None:
    Path("in").mkdir()
    shutil.copy("x.npy", "in/x.npy")
    np.savez("pair.npz", a=X)
    for arguments in (
        ["compress", "--model", cli.model.id, "-r", "in", target],
        ["compress", "--model", cli.model.id, "pair.npz", target],
        ["decompress", "-r", "in", target],
    ):
        assert f"{target} is not a folder" in cli.run(*arguments, status=1, server=NOWHERE).stderr
    assert names() == {"in", "in/x.npy", "pair.npz"}


# Selections


@pytest.mark.parametrize("units", ["48:99", "7:3", "3:3", "50", "51:", "-51", "-51:", ":-50", "50:"])
def test_units_that_are_not_there_are_refused(cli: Cli, units: str) -> None:
    said = cli.run("decompress", "--units", units, "x.entropyd", TARGET, status=1).stderr
    assert "x.entropyd holds 50 coding units, 0:50" in said
    Path("in").mkdir()
    Path("x.entropyd").rename("in/x.entropyd")
    said = cli.run("decompress", "--units", units, "-r", "in", "out", status=1).stderr
    assert "holds 50 coding units, 0:50" in said
    assert not Path(TARGET).exists()
    assert not list(Path("out").iterdir())


@pytest.mark.parametrize("units", ["", "a", "1:2:3", "1.5", "1:x"])
def test_units_that_are_no_numbers_are_refused(cli: Cli, units: str) -> None:
    assert "is not A:B" in cli.run("decompress", "--units", units, "x.entropyd", TARGET, status=2).stderr
