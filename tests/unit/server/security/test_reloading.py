"""Laws of reloading: a change that can be used is used, and any other leaves what was before in use."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from entropyd_server.security.reloading import FilesError, Reloaded
from entropyd_server.security.tls import CERT, CLIENT_CA, KEY, parse_tls
from tests.support.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def number(contents: Mapping[str, bytes]) -> int:
    return sum(int(content) for content in contents.values())


def make(folder: Path) -> tuple[Reloaded[int], dict[str, Path], defaultdict[tuple[str, str], int]]:
    paths = {"--a": folder / "a", "--b": folder / "b"}
    for path in paths.values():
        path.write_text("1")
    reloads: defaultdict[tuple[str, str], int] = defaultdict(int)
    return Reloaded("numbers", paths, number, reloads), paths, reloads


def test_a_change_is_read_anew_and_counted(tmp_path: Path) -> None:
    reloaded, paths, reloads = make(tmp_path)
    asyncio.run(reloaded.refresh())
    assert (reloaded.value, dict(reloads)) == (2, {})
    paths["--a"].write_text("5")
    asyncio.run(reloaded.refresh())
    assert (reloaded.value, dict(reloads)) == (6, {("numbers", "ok"): 1})


def test_a_file_that_was_replaced_is_read_whatever_its_time_and_size(tmp_path: Path) -> None:
    reloaded, paths, _ = make(tmp_path)
    before = paths["--a"].stat()
    paths["--a"].write_text("7")
    os.utime(paths["--a"], ns=(before.st_atime_ns, before.st_mtime_ns))
    asyncio.run(reloaded.refresh())
    assert reloaded.value == 8


@pytest.mark.parametrize("damage", ["not a number", None])
def test_what_cannot_be_used_leaves_the_value_and_is_told_once(
    tmp_path: Path, damage: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    reloaded, paths, reloads = make(tmp_path)
    if damage is None:
        paths["--b"].unlink()
    else:
        paths["--b"].write_text(damage)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            asyncio.run(reloaded.refresh())
    assert reloaded.value == 2
    assert dict(reloads) == {("numbers", "failed"): 1}
    (record,) = caplog.records
    assert "--b" in record.getMessage()
    paths["--b"].write_text("3")
    asyncio.run(reloaded.refresh())
    assert reloaded.value == 4


def test_what_has_become_a_pipe_or_a_device_is_not_waited_for(tmp_path: Path) -> None:
    reloaded, paths, reloads = make(tmp_path)
    paths["--a"].unlink()
    os.mkfifo(paths["--a"])
    asyncio.run(reloaded.refresh())
    assert (reloaded.value, dict(reloads)) == (2, {("numbers", "failed"): 1})
    paths["--a"].unlink()
    paths["--a"].write_text("5")
    asyncio.run(reloaded.refresh())
    assert reloaded.value == 6


def test_a_server_does_not_start_with_a_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FilesError, match=r"--a .*/nothing: No such file or directory"):
        Reloaded("numbers", {"--a": tmp_path / "nothing"}, number, {})


def tls_error(files: dict[str, Path]) -> str:
    with pytest.raises(FilesError) as caught:
        Reloaded("certificates", files, parse_tls, {})
    (line,) = str(caught.value).splitlines()
    assert all(f"{flag} {path}" in line for flag, path in files.items())
    return line


def test_a_certificate_and_a_key_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    authority = Authority("root")
    (cert, _), (_, key) = authority.issue(tmp_path, "one"), authority.issue(tmp_path, "other")
    assert "the key is not the certificate's" in tls_error({CERT: cert, KEY: key})


def test_an_encrypted_key_is_refused(tmp_path: Path) -> None:
    cert, key = Authority("root").issue(tmp_path, "one", password=b"secret")
    assert "encrypted" in tls_error({CERT: cert, KEY: key})


@pytest.mark.parametrize("damaged", [CERT, KEY, CLIENT_CA])
def test_a_file_that_is_no_pem_is_refused(tmp_path: Path, damaged: str) -> None:
    cert, key = Authority("root").issue(tmp_path, "one")
    files = {CERT: cert, KEY: key, CLIENT_CA: cert}
    parse_tls({flag: path.read_bytes() for flag, path in files.items()})
    files[damaged] = tmp_path / "damaged"
    files[damaged].write_bytes(b"\xff\x00 no PEM")
    assert "PEM" in tls_error(files)
