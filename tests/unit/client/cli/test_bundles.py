"""`inspect`, `verify` and `decompress` of bundles, as far as they need no server: all name the parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from entropyd.cli.main import entropyd
from entropyd.contract.integrity import BLOCK_BYTES
from tests.support.archive_cases import SMALL, archive_bytes, bundle_bytes, tensor_of

if TYPE_CHECKING:
    from click.testing import Result

# Three blocks of two units each in `y`.
LARGE = tensor_of(
    [bytes([65 + unit]) * (BLOCK_BYTES // 2) for unit in range(6)], (6,), indexes_crc32c=[7] * 6
)
WHOLE = bundle_bytes({"z": SMALL, "y": LARGE}, {"photo": "coffee"})


def run(*arguments: str, status: int = 0, stdin: bytes = b"") -> Result:
    ran = CliRunner().invoke(entropyd, arguments, input=stdin)
    assert ran.exit_code == status, (ran.stdout, ran.stderr, ran.exception)
    assert ran.exception is None or isinstance(ran.exception, SystemExit)
    return ran


def shown(*arguments: str, status: int = 0, **options: Any) -> Any:
    return json.loads(run("--json", *arguments, status=status, **options).stdout)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    damaged = bytearray(WHOLE)
    damaged[damaged.index(b"CCC")] ^= 1
    contents = {"whole": WHOLE, "damaged": bytes(damaged), "half": WHOLE[: WHOLE.index(b"DDD")]}
    for name, content in {**contents, "plain": archive_bytes(SMALL)}.items():
        Path(f"{name}.entropyd").write_bytes(content)


def test_inspect_shows_each_part() -> None:
    said = run("inspect", "whole.entropyd").stdout
    assert "parts              z, y\n" in said
    assert said.index("\npart z\n") < said.index("\npart y\n")
    assert said.count("lengths of bit strings") == 2
    for found in (shown("inspect", "whole.entropyd"), shown("inspect", "-", stdin=WHOLE)):
        assert (found["file_bytes"], found["metadata"]) == (len(WHOLE), {"photo": "coffee"})
        assert found["payload_bytes"] == len(SMALL.payload) + len(LARGE.payload)
        assert [part["coding_units"] for part in found["parts"].values()] == [3, 6]
        assert [part["index_checksums"] for part in found["parts"].values()] == [False, True]
        assert "file_bytes" not in found["parts"]["y"]


def test_inspect_of_a_cut_bundle_says_what_each_part_lacks() -> None:
    assert "--recover reads the rest" in run("inspect", "half.entropyd", status=1).stderr
    parts = shown("inspect", "--recover", "half.entropyd")["parts"]
    assert [(part["complete"], part["missing_units"]) for part in parts.values()] == [(True, 0), (False, 4)]


def test_verify_names_the_damaged_part_and_its_units() -> None:
    assert "whole.entropyd: good, 9 coding units in parts z, y" in run("verify", "whole.entropyd").stdout
    said = run("verify", "damaged.entropyd", status=1).stdout
    assert "damaged.entropyd: DAMAGED, 2 of 9 coding units lost" in said
    assert "  part y: coding units 2 to 3: the bit strings do not match their checksum" in said
    said = run("verify", "half.entropyd", status=1).stdout
    assert "half.entropyd: INCOMPLETE, 5 whole coding units found; at least 4 more are missing" in said
    assert "  part y: the last 4 of 6 coding units are missing" in said
    (report,) = shown("verify", "damaged.entropyd", status=1)["files"]
    assert report["parts"]["z"]["damaged"] == []
    (run_of_units,) = report["parts"]["y"]["damaged"]
    assert (run_of_units["first"], run_of_units["last"]) == (2, 3)
    assert (report["damaged"][0]["first"], report["coding_units"]) == (5, 9)
    assert "parts" not in shown("verify", "plain.entropyd")["files"][0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["whole.entropyd"], "whole.entropyd is a bundle of parts z, y; --part NAME says which one"),
        (["--part", "q", "whole.entropyd"], "whole.entropyd has no part q; it is a bundle of parts z, y"),
        (["--part", "z", "plain.entropyd"], "plain.entropyd is no bundle; it has no part z"),
    ],
)
def test_decompress_needs_the_name_of_a_part(arguments: list[str], message: str) -> None:
    assert message in run("decompress", *arguments, "x.npy", status=1).stderr
    assert not Path("x.npy").exists()
