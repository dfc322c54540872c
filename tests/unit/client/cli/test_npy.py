"""Laws of arrays in files: what is read is what NumPy reads, all of the file, and the file as it was."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from entropyd.cli import npy as npy_format
from entropyd.cli.arrays import member_names, open_array, open_member, read_array

if TYPE_CHECKING:
    import numpy.typing as npt

X = np.arange(600, dtype=np.float32).reshape(50, 4, 3)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=7)
DTYPES = st.sampled_from(["<f4", ">f4", "<f2", "<f8", ">i8", "|V2", "<c8"])


def npy(array: npt.NDArray[Any], version: tuple[int, int] | None = None) -> bytes:
    file = io.BytesIO()
    layout: Any = np.lib.format
    layout.write_array(file, array, version)
    return file.getvalue()


def message_of(path: Path) -> str:
    with pytest.raises(click.ClickException) as caught:
        read_array(path)
    return caught.value.message


@given(
    st.tuples(DTYPES, SHAPES).flatmap(
        lambda made: hnp.arrays(np.uint8, (*made[1], np.dtype(made[0]).itemsize)).map(
            lambda content: content.view(made[0]).reshape(made[1])
        )
    ),
    st.sampled_from([(1, 0), (2, 0), (3, 0)]),
    st.booleans(),
    st.booleans(),
    st.data(),
)
def test_slices_of_a_file_are_those_of_its_array(
    array: npt.NDArray[Any],
    version: tuple[int, int],
    column_major: bool,
    by_columns: bool,
    data: st.DataObject,
) -> None:
    array = np.asfortranarray(array) if column_major else array
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        # Both ways of reading rows of columns, in blocks of any number of columns.
        patch.setattr(npy_format, "_COLUMN_BYTES", 0 if by_columns else 1 << 20)
        patch.setattr(npy_format, "_READ_BYTES", data.draw(st.integers(1, 100)) * array.dtype.itemsize * 7)
        path = Path(folder, "x.npy")
        path.write_bytes(npy(array, version))
        with open_array(path) as found:
            assert (found.shape, found.dtype, found.nbytes) == (array.shape, array.dtype, array.nbytes)
            assert found[...].tobytes() == array.tobytes()
            if array.ndim:
                part = data.draw(st.slices(len(array)).filter(lambda part: part.step in {None, 1}))
                assert found[part].shape == array[part].shape
                assert found[part].tobytes() == array[part].tobytes()


@pytest.mark.parametrize("array", [X, np.asfortranarray(X)], ids=["row-major", "column-major"])
def test_a_pipe_holds_the_same_array_as_a_file(tmp_path: Path, array: npt.NDArray[Any]) -> None:
    (tmp_path / "x.npy").write_bytes(npy(array))
    ours, theirs = os.pipe()
    os.write(theirs, npy(array))
    os.close(theirs)
    try:
        np.testing.assert_array_equal(read_array(Path(f"/dev/fd/{ours}")), X)
    finally:
        os.close(ours)
    np.testing.assert_array_equal(read_array(tmp_path / "x.npy"), X)


AFTER = {"another array": npy(X), "a part of one": npy(X)[:-1], "a byte": b"\n"}


@pytest.mark.parametrize("after", AFTER.values(), ids=AFTER)
def test_what_follows_an_array_is_not_dropped(tmp_path: Path, after: bytes) -> None:
    expected = f"holds {len(after):,} bytes after its array"
    path = tmp_path / "x.npy"
    path.write_bytes(npy(X) + after)
    assert message_of(path).startswith(f"{path} {expected}")
    ours, theirs = os.pipe()
    os.write(theirs, npy(X) + after)
    os.close(theirs)
    try:
        assert expected in message_of(Path(f"/dev/fd/{ours}"))
    finally:
        os.close(ours)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as members:
        members.writestr("a.npy", npy(X) + after)
    with pytest.raises(click.ClickException, match=f"array a of .*x.npz {expected}"):
        with open_member(tmp_path / "x.npz", "a"):
            pass


@pytest.mark.parametrize("kept", [-1, -1200, 128, 127, 64, 8, 0])
def test_an_array_that_is_cut_short_is_none(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(npy(X)[:kept])
    assert message_of(path).startswith(str(path))
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as members:
        members.writestr("a.npy", npy(X)[:kept])
    with pytest.raises(click.ClickException, match="array a of"), open_member(tmp_path / "x.npz", "a"):
        pass


@pytest.mark.parametrize("array", [X, np.asfortranarray(X)], ids=["row-major", "column-major"])
@pytest.mark.parametrize("change", ["shrinks", "grows", "is written to"])
@pytest.mark.parametrize("read", [0, 10, 50])
def test_a_file_that_changes_while_it_is_read_is_an_error(
    tmp_path: Path, array: npt.NDArray[Any], change: str, read: int
) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(npy(array))
    os.utime(path, ns=(0, 0))

    def changes_halfway() -> None:
        with open_array(path) as found:
            found[:read]
            with path.open("r+b") as file:
                file.seek(0, os.SEEK_END)
                if change == "shrinks":
                    file.truncate(file.tell() - 100)
                else:
                    file.seek(0 if change == "grows" else -4, os.SEEK_END)
                    file.write(b"0123")
            found[read:]

    with pytest.raises(click.ClickException, match=r"x\.npy (changed while it was read|ended \d+ bytes)"):
        changes_halfway()


def test_a_file_that_another_one_replaces_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(npy(X))
    with open_array(path) as found:
        first = found[:10]
        (tmp_path / "other").write_bytes(b"")
        (tmp_path / "other").replace(path)
        np.testing.assert_array_equal(np.concatenate([first, found[10:]]), X)


def header(shape: str, descr: str = "<f4") -> bytes:
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + (len(text)).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not an array",
        b"PK\x03\x04",
        header("(-1, 2)"),
        header("(2,)", "|O"),
        header("(2,)", "|V0"),
        header("(2,)", "nonsense"),
        header("'a'"),
        header("(" + "9" * 30 + ",)"),
        header("(1000000000000000,)"),
        b"\x93NUMPY\x09\x00" + header("(1,)")[8:],
    ],
)
@pytest.mark.parametrize("by_pipe", [False, True])
def test_what_is_no_array_is_refused_by_its_name(tmp_path: Path, content: bytes, by_pipe: bool) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(content)
    if not by_pipe:
        assert message_of(path).startswith(str(path))
        return
    ours, theirs = os.pipe()
    os.write(theirs, content)
    os.close(theirs)
    try:
        assert message_of(Path(f"/dev/fd/{ours}")).startswith(f"/dev/fd/{ours}")
    finally:
        os.close(ours)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert (
        message_of(tmp_path / "missing.npy")
        == f"{tmp_path / 'missing.npy'} cannot be read: No such file or directory"
    )
    assert message_of(tmp_path) == f"{tmp_path} cannot be read: Is a directory"


def test_members_are_arrays_and_each_is_there_once(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, a=X, b=X[:2])
    assert member_names(path) == ["a", "b"]
    with open_member(path, "b") as found:
        np.testing.assert_array_equal(found, X[:2])
    with zipfile.ZipFile(path, "a") as members:
        members.writestr("notes.txt", b"of the arrays")
        members.writestr("folder/", b"")
    assert member_names(path) == ["a", "b", "notes.txt"]
    with (
        pytest.raises(click.ClickException, match=r"notes\.txt of .* is not an array"),
        open_member(path, "notes.txt"),
    ):
        pass
    with zipfile.ZipFile(path, "a") as members, pytest.warns(UserWarning, match="Duplicate"):
        members.writestr("a.npy", npy(X))
    with pytest.raises(click.ClickException, match="2 arrays named a"):
        member_names(path)


def test_a_member_that_is_damaged_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, a=X)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(click.ClickException, match="Bad CRC-32"), open_member(path, "a"):
        pass
