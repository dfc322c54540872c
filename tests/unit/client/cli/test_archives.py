"""`inspect` and `verify`, which need no server: files, folders, pipes, and what is missing in them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner

from entropyd.archive import ExactElements
from entropyd.cli.main import entropyd
from entropyd.contract.integrity import BLOCK_BYTES
from tests.support.archive_cases import archive_bytes, tensor_of

if TYPE_CHECKING:
    from click.testing import Result

TENSOR = tensor_of([bytes([65 + unit]) * (BLOCK_BYTES // 3) for unit in range(12)], (12,))  # four blocks
VALUES = np.arange(24, dtype=np.float32).reshape(12, 2)
EXACT = ExactElements.of(VALUES, VALUES % 5 == 4)
WHOLE = archive_bytes(TENSOR, exact=[EXACT], exact_dtype="float32")
HALF = WHOLE[: len(WHOLE) // 2 + 1000]  # two whole blocks, and one that is cut
TORN = WHOLE[:1000]


def run(*arguments: str, status: int = 0, stdin: bytes = b"") -> Result:
    ran = CliRunner().invoke(entropyd, arguments, input=stdin)
    assert ran.exit_code == status, (ran.stdout, ran.stderr, ran.exception)
    assert ran.exception is None or isinstance(ran.exception, SystemExit)
    return ran


def shown(*arguments: str, status: int = 0) -> Any:
    return json.loads(run("--json", *arguments, status=status).stdout)


def with_closed(streams: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the command in a shell that closes standard streams."""
    command = ["sh", "-c", f'exec "$@" {streams}', "sh", sys.executable, "-m", "entropyd.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, content in (("whole", WHOLE), ("half", HALF), ("torn", TORN)):
        Path(f"{name}.entropyd").write_bytes(content)
    return tmp_path


def test_verify_tells_how_much_of_a_cut_archive_is_there_and_how_much_is_known_to_be_missing() -> None:
    said = run("verify", "half.entropyd", status=1).stdout
    assert "half.entropyd: INCOMPLETE, 6 whole coding units found; at least 3 more are missing" in said
    (report,) = shown("verify", "half.entropyd", status=1)["files"]
    assert (report["coding_units"], report["missing_units"], report["complete"]) == (6, 3, False)
    assert "no whole coding units found; at least 3 more" in run("verify", "torn.entropyd", status=1).stdout
    Path("end.entropyd").write_bytes(WHOLE[: WHOLE.index(b"INDX")])
    said = run("verify", "end.entropyd", status=1).stdout
    assert "12 whole coding units found; the file does not say whether more are missing" in said
    Path("other.entropyd").write_bytes(b"something else")
    assert "is not an entropyd file" in run("verify", "other.entropyd", status=1).stdout


def test_verify_of_what_is_whole_ends_with_0() -> None:
    assert "whole.entropyd: good, 12 coding units" in run("verify", "whole.entropyd").stdout
    (report,) = shown("verify", "whole.entropyd")["files"]
    assert (report["good"], report["missing_units"], report["complete"]) == (True, 0, True)


def test_verify_checks_the_others_where_one_is_not_there() -> None:
    ran = run("verify", "nothing.entropyd", "whole.entropyd", status=1)
    assert "nothing.entropyd: No such file" in ran.stderr
    assert "whole.entropyd: good" in ran.stdout
    found = shown("verify", "nothing.entropyd", "whole.entropyd", status=1)
    assert [file["good"] for file in found["files"]] == [False, True]
    assert not found["good"]


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- 2>&-"])
def test_verify_and_inspect_need_no_standard_stream_that_is_closed(closed: str) -> None:
    for command in ("verify", "inspect"):
        ran = with_closed(closed, command, "whole.entropyd")
        assert (ran.returncode, ran.stderr) == (0, "")
        assert "whole.entropyd" in ran.stdout


def test_standard_input_that_is_closed_is_named() -> None:
    assert with_closed("<&-", "inspect", "-").stderr == "Error: standard input: is closed\n"
    ran = with_closed("<&-", "verify", "-", "whole.entropyd")
    assert (ran.returncode, ran.stderr) == (1, "-: is closed\n")
    assert "whole.entropyd: good" in ran.stdout


def test_names_that_are_not_utf_8_are_shown() -> None:
    Path(os.fsdecode(b"\xff.entropyd")).write_bytes(WHOLE)
    command = [sys.executable, "-m", "entropyd.cli", "verify", "."]
    # In some locales, Python would print the name's own bytes.
    env = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    ran = subprocess.run(command, capture_output=True, env=env, check=False)
    assert rb"\udcff.entropyd: good" in ran.stdout
    assert b"half.entropyd: INCOMPLETE" in ran.stdout


def test_verify_of_a_folder_without_archives_is_not_good(folder: Path) -> None:
    Path("empty/inner").mkdir(parents=True)
    assert "empty: holds no .entropyd files" in run("verify", "empty", status=1).stderr
    assert shown("verify", "empty", status=1) == {
        "good": False,
        "files": [
            {
                "file": "empty",
                "good": False,
                "file_bytes": 0,
                "coding_units": 0,
                "damaged": [],
                "complete": False,
                "missing_units": 0,
                "problems": ["holds no .entropyd files"],
                "index_checksums": False,
            }
        ],
    }
    Path("good").mkdir()
    Path("good/whole.entropyd").write_bytes(WHOLE)
    ran = run("verify", "good", "empty", status=1)
    assert "good/whole.entropyd: good" in ran.stdout


def test_verify_of_a_folder_tells_of_archives_that_it_cannot_reach() -> None:
    Path("links").mkdir()
    Path("links/whole.entropyd").write_bytes(WHOLE)
    Path("links/gone.entropyd").symlink_to("nowhere")
    assert "links/gone.entropyd: No such file" in run("verify", "links", status=1).stderr


def test_verify_of_a_folder_tells_of_links_to_folders_and_of_pipes(folder: Path) -> None:
    Path("top").mkdir()
    Path("top/linked").symlink_to(folder)
    os.mkfifo("top/pipe.entropyd")
    Path("top/whole.entropyd").write_bytes(WHOLE)
    ran = run("verify", "top", status=1)
    assert "top/linked: is a link to a folder, which is not followed" in ran.stderr
    assert "top/pipe.entropyd: is not a regular file" in ran.stderr
    assert "top/whole.entropyd: good" in ran.stdout


def test_verify_of_a_folder_tells_of_folders_that_it_cannot_list(folder: Path) -> None:
    Path("top/closed").mkdir(parents=True)
    Path("top/whole.entropyd").write_bytes(WHOLE)
    Path("top/closed").chmod(0)
    folder.chmod(0o755)
    user = os.geteuid()
    if user == 0:  # who may list everything
        os.seteuid(65534)
    try:
        ran = run("verify", "top", status=1)
    finally:
        os.seteuid(user)
    assert "top/closed: Permission denied" in ran.stderr
    assert "top/whole.entropyd: good" in ran.stdout


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_a_dash_is_standard_input_and_a_file_of_that_name_has_another_spelling(command: str) -> None:
    assert "12" in run(command, "-", stdin=WHOLE).stdout
    Path("-").write_bytes(archive_bytes(TENSOR[:5]))
    assert "5" in run("--json", command, "./-", stdin=WHOLE).stdout
    (units,) = {file["coding_units"] for file in [*shown("verify", "./-")["files"]]}
    assert units == 5


def piped(command: list[str], content: bytes, *, named: bool) -> subprocess.CompletedProcess[str]:
    """Runs `entropyd` with a pipe as its standard input, or as a file that a shell's <(...) would name."""
    ours, theirs = os.pipe()

    def feed() -> None:
        with os.fdopen(theirs, "wb") as pipe:
            pipe.write(content)

    feeder = threading.Thread(target=feed)
    feeder.start()
    name = f"/dev/fd/{ours}" if named else "/dev/stdin"
    whole = [sys.executable, "-m", "entropyd.cli", *command, name]
    options: dict[str, Any] = {"pass_fds": [ours]} if named else {"stdin": ours}
    ran = subprocess.run(whole, capture_output=True, text=True, check=False, timeout=60, **options)
    os.close(ours)
    feeder.join()
    return ran


@pytest.mark.parametrize("named", [False, True])
def test_pipes_are_read_under_any_name(named: bool) -> None:
    verified = piped(["--json", "verify"], WHOLE, named=named)
    assert verified.returncode == 0, verified.stderr
    assert json.loads(verified.stdout)["files"][0]["coding_units"] == 12
    inspected = piped(["--json", "inspect"], WHOLE, named=named)
    assert json.loads(inspected.stdout)["exact_elements"] == len(EXACT)
    assert piped(["verify"], HALF, named=named).returncode == 1


def test_inspect_counts_exact_elements() -> None:
    found = shown("inspect", "whole.entropyd")
    assert found["exact_elements"] == len(EXACT) == 4
    assert (found["complete"], found["missing_units"]) == (True, 0)


def test_inspect_of_what_is_not_whole_shows_what_is_there_on_request() -> None:
    for name in ("half", "torn"):
        assert "is not complete" in run("inspect", f"{name}.entropyd", status=1).stderr
    half, torn = (shown("inspect", "--recover", f"{name}.entropyd") for name in ("half", "torn"))
    assert (half["coding_units"], half["missing_units"], half["complete"]) == (6, 3, False)
    assert sum(half["lengths"]["histogram"]["units"]) == 6
    assert (torn["coding_units"], torn["missing_units"], torn["complete"]) == (0, 3, False)
    assert torn["model_id"] == "ab" * 32
    content = bytearray(HALF)
    content[content.index(b"AAA") - 2] ^= 1  # the head of the first block
    Path("lost.entropyd").write_bytes(content)
    lost = shown("inspect", "--recover", "lost.entropyd")
    assert (lost["coding_units"], lost["model_embedded"]) == (6, None)
    assert sum(lost["lengths"]["histogram"]["units"]) == 3
