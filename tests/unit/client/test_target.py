"""Laws of targets: whole or not at all; links and devices stay; nobody may read more than before."""

from __future__ import annotations

import errno
import os
import socket
import stat
import threading
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropyd._modes import make_folders
from entropyd._target import open_descriptor, open_target

if TYPE_CHECKING:
    from collections.abc import Iterator

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="owners can be changed by root alone")
MODES = st.integers(0, 0o777)


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def write(path: Path, content: bytes = b"new", **options: object) -> None:
    with open_target(path, **options) as target:  # type: ignore[arg-type]
        target.write(content)


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_takes_its_name_when_it_is_whole(tmp_path: Path, replaced: bool) -> None:
    path = tmp_path / "x"
    if replaced:
        path.write_bytes(b"old")
    with open_target(path) as target:
        target.write(b"new")
        target.flush()
        assert path.read_bytes() == b"old" if replaced else not path.exists()
        (hidden,) = set(tmp_path.iterdir()) - {path}
        assert hidden.name.startswith(".x.")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("replaced", [False, True])
def test_an_error_leaves_what_was_there(tmp_path: Path, replaced: bool) -> None:
    path = tmp_path / "x"
    if replaced:
        path.write_bytes(b"old")

    def fails_halfway() -> None:
        with open_target(path) as target:
            target.write(b"new")
            raise KeyError("the caller's")

    with pytest.raises(KeyError):
        fails_halfway()
    assert [found.read_bytes() for found in tmp_path.iterdir()] == ([b"old"] if replaced else [])


@given(source=MODES, other=MODES, umask=st.sampled_from([0o022, 0o077, 0o002, 0]))
def test_a_new_file_is_open_to_nobody_whom_a_source_is_not_open_to(
    source: int, other: int, umask: int
) -> None:
    with TemporaryDirectory() as name:
        sources = [Path(name, "a"), Path(name, "b")]
        for path, its in zip(sources, (source, other), strict=True):
            path.touch()
            path.chmod(its)
        os.umask(umask)
        target = Path(name, "x")
        with open_target(target, sources=[path.stat() for path in sources]) as file:
            file.write(b"new")
            file.flush()
            (hidden,) = set(Path(name).iterdir()) - set(sources)
            written_to = mode(hidden)
        assert mode(target) == written_to == 0o666 & ~umask & (0o700 | source & other)


@given(source=MODES, before=MODES, umask=st.sampled_from([0o022, 0o077]))
def test_a_file_that_is_replaced_keeps_its_mode_within_that_of_the_source(
    source: int, before: int, umask: int
) -> None:
    with TemporaryDirectory() as name:
        path, target = Path(name, "a"), Path(name, "x")
        for file, its in ((path, source), (target, before)):
            file.touch()
            file.chmod(its)
        os.umask(umask)
        write(target, sources=[path.stat()])
        assert mode(target) == before & (0o700 | source)
        write(target)
        assert mode(target) == before & (0o700 | source)


@AS_ROOT
def test_a_file_that_is_replaced_keeps_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.touch(0o640)
    os.chown(path, 1234, 4321)
    write(path)
    assert (path.stat().st_uid, path.stat().st_gid, mode(path)) == (1234, 4321, 0o640)


@AS_ROOT
def test_another_group_may_do_what_everybody_may(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.touch()
    source.chmod(0o640)
    os.chown(source, -1, 4321)
    write(tmp_path / "x", sources=[source.stat()])
    assert mode(tmp_path / "x") == 0o600
    (tmp_path / "in").mkdir()
    (tmp_path / "in").chmod(0o750)
    os.chown(tmp_path / "in", -1, 4321)
    make_folders(tmp_path / "out", tmp_path / "in")
    assert mode(tmp_path / "out") == 0o700
    # Where new files have the group of their folder, it is the source's.
    os.chown(tmp_path, -1, 4321)
    tmp_path.chmod(0o2755)
    write(tmp_path / "y", sources=[source.stat()])
    assert mode(tmp_path / "y") == 0o640
    make_folders(tmp_path / "same group", tmp_path / "in")
    assert mode(tmp_path / "same group") == 0o2750


@AS_ROOT
def test_whoever_cannot_keep_the_owner_opens_the_file_to_no_other_group() -> None:
    with TemporaryDirectory() as name:
        folder, path = Path(name), Path(name, "x")
        folder.chmod(0o777)
        path.write_bytes(b"old")
        path.chmod(0o660)
        child = os.fork()
        if not child:
            # As somebody else, who may not run this interpreter anew.
            try:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                write(path)
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        assert (path.stat().st_uid, mode(path), path.read_bytes()) == (65534, 0o600, b"new")


def test_links_stay_links_and_lead_to_what_was_written(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "old").write_bytes(b"old")
    for name in ("old", "new"):
        link = tmp_path / name
        link.symlink_to(Path("elsewhere") / name)
        (tmp_path / f"{name}-twice").symlink_to(name)
        write(tmp_path / f"{name}-twice")
        assert link.is_symlink()
        assert (folder / name).read_bytes() == b"new"
    assert sorted(path.name for path in folder.iterdir()) == ["new", "old"]
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="loop"):
        write(tmp_path / "loop")


def test_what_may_not_be_replaced_is_refused_when_it_appears_meanwhile_too(tmp_path: Path) -> None:
    path = tmp_path / "x"

    def is_overtaken() -> None:
        with open_target(path, replace=False) as target:
            target.write(b"new")
            path.write_bytes(b"another's")

    with pytest.raises(FileExistsError, match="x"):
        is_overtaken()
    assert path.read_bytes() == b"another's"
    with pytest.raises(FileExistsError, match="x"):
        open_target(path, replace=False)
    assert list(tmp_path.iterdir()) == [path]


def test_no_source_is_replaced_whatever_its_name(tmp_path: Path) -> None:
    source = tmp_path / "x"
    source.write_bytes(b"precious")
    (tmp_path / "soft").symlink_to("x")
    (tmp_path / "hard").hardlink_to(source)
    for name in ("x", "soft", "hard", "../" + tmp_path.name + "/x"):
        with pytest.raises(OSError, match="input"):
            open_target(tmp_path / name, sources=[source.stat()])
    assert source.read_bytes() == b"precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hard", "soft", "x"]


@pytest.mark.parametrize("name", ["folder", "none/x", "file/x", "x" * 300])
def test_errors_say_the_path_that_was_given(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(OSError) as caught:  # noqa: PT011 - of several kinds
        write(tmp_path / name)
    assert caught.value.filename == str(tmp_path / name)
    assert caught.value.strerror
    assert ".part" not in str(caught.value)


@pytest.mark.parametrize("fails", ["open", "fsync"])
@pytest.mark.parametrize("number", [errno.EACCES, errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_a_folder_that_cannot_be_synced_is_no_error_and_one_whose_disk_fails_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str, number: int
) -> None:
    def is_folder(place: int | Path) -> bool:
        return stat.S_ISDIR(os.fstat(place).st_mode) if isinstance(place, int) else place == tmp_path

    original = getattr(os, fails)

    def failing(place: int | Path, *arguments: int, **options: int) -> int | None:
        if is_folder(place):
            raise OSError(number, os.strerror(number))
        made: int | None = original(place, *arguments, **options)
        return made

    monkeypatch.setattr(os, fails, failing)
    path = tmp_path / "x"
    with pytest.raises(OSError, match="put") if number == errno.EIO else nullcontext():
        write(path)
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_the_longest_name_of_a_file_will_do(tmp_path: Path) -> None:
    path = tmp_path / ("ö" * 127)
    write(path)
    assert path.read_bytes() == b"new"


def test_pipes_sockets_and_descriptors_are_written_to(tmp_path: Path) -> None:
    content = os.urandom(200_000)
    got: list[bytes] = []

    def from_pipe() -> None:
        got.append(pipe.read_bytes())

    def from_socket() -> None:
        connection, _ = listening.accept()
        with connection, connection.makefile("rb") as file:
            got.append(file.read())

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        listening.listen(1)
        for path, read in ((pipe, from_pipe), (tmp_path / "socket", from_socket)):
            reader = threading.Thread(target=read)
            reader.start()
            write(path, content, replace=False)
            reader.join()
    assert got == [content, content]
    with (tmp_path / "x").open("wb") as file:
        file.write(b"before")
        file.flush()
        write(Path(f"/dev/fd/{file.fileno()}"), replace=False)
        file.write(b"after")
    assert (tmp_path / "x").read_bytes() == b"beforenewafter"
    names = ["/dev/stdin", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/12", "/dev/null", "stdout", "/dev/fd/x"]
    assert [open_descriptor(name) for name in names] == [0, 1, 1, 12, None, None, None]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pipe", "socket", "x"]


def test_an_error_of_a_device_is_one(tmp_path: Path) -> None:
    full = tmp_path / "full"
    try:
        os.mknod(full, stat.S_IFCHR | 0o666, os.makedev(1, 7))
        full.open("wb").close()
    except OSError as error:
        pytest.skip(f"no device can be made here: {error.strerror}")
    for content in (b"little", os.urandom(1 << 20)):
        with pytest.raises(OSError, match="No space left") as caught:
            write(full, content)
        assert caught.value.filename == str(full)
    assert stat.S_ISCHR(full.lstat().st_mode)


@given(outer=MODES, inner=MODES)
def test_folders_are_open_to_nobody_whom_their_counterparts_are_not_open_to(outer: int, inner: int) -> None:
    with TemporaryDirectory() as name:
        source = Path(name, "in", "deep")
        source.mkdir(parents=True)
        file = source / "x.npz"
        file.touch()
        file.chmod(inner & 0o666)
        source.chmod(inner | 0o700)
        source.parent.chmod(outer | 0o700)
        make_folders(Path(name, "out", "deep", "x"), file)
        assert mode(Path(name, "out")) == 0o755 & (outer | 0o700)
        assert mode(Path(name, "out", "deep")) == 0o755 & (inner | 0o700)
        # Who may read a file may look into the folder that is made of it.
        assert mode(Path(name, "out", "deep", "x")) == 0o755 & (0o700 | inner & 0o666 | (inner & 0o444) >> 2)
