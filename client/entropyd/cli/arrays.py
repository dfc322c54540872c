"""Arrays in files and pipes.

Owns reading `.npy`, `.npz` and standard input, and writing `.npy` piece by piece. It must not know what the
arrays are for. Invariant: a `.npy` file is mapped, never loaded, and one that is written appears under its
name when it is complete.
"""

from __future__ import annotations

import secrets
import sys
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

if TYPE_CHECKING:
    from types import TracebackType
    from typing import BinaryIO

    import numpy.typing as npt
    from typing_extensions import Self

STREAM = Path("-")


def read_array(path: Path) -> npt.NDArray[Any]:
    """The array of a `.npy` file, mapped; or that of a `.npy` stream on standard input, for `-`.

    Raises:
      click.ClickException: If there is no such file, or it is something else.
    """
    try:
        if path == STREAM:
            stream: Any = np.lib.format  # NumPy gives its format module no types
            array = stream.read_array(_OnlyRead(), allow_pickle=False)
        else:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise click.ClickException(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise click.ClickException(f"{path} is not a .npy file: {error}") from error
    if not isinstance(array, np.ndarray):
        raise click.ClickException(f"{path} holds several arrays; expected a .npy file")
    return array


class _OnlyRead:
    """Standard input as NumPy reads pipes; what has a file descriptor it would seek in."""

    def read(self, count: int) -> bytes:
        return sys.stdin.buffer.read(count)


def member_names(path: Path) -> list[str]:
    """Names of the arrays of a `.npz` file.

    Raises:
      click.ClickException: If there is no such file, it is something else, or a name would leave a folder.
    """
    with _members(path) as members:
        names = list(members.files)
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise click.ClickException(f"{path} has an array named {name!r}, which is no name for a file")
    return names


def read_member(path: Path, name: str) -> npt.NDArray[Any]:
    """One array of a `.npz` file.

    Raises:
      click.ClickException: If the file or the array is damaged.
    """
    with _members(path) as members:
        try:
            array: npt.NDArray[Any] = members[name]
        except (ValueError, OSError, zipfile.BadZipFile, zlib.error) as error:
            raise click.ClickException(f"array {name} of {path} cannot be read: {error}") from error
    return array


def _members(path: Path) -> Any:
    try:
        found = np.load(path, allow_pickle=False)
    except OSError as error:
        raise click.ClickException(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise click.ClickException(f"{path} is not a .npz file: {error}") from error
    if isinstance(found, np.ndarray):
        raise click.ClickException(f"{path} holds one array; expected a .npz file")
    return found


class ArrayWriter:
    """Writes a `.npy` file, or standard output for `-`, from pieces of its first axis.

    Args:
      target: The file, which is replaced if it is there.
      shape: Of the whole array.
      dtype: Of its elements.
    """

    def __init__(self, target: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._target = target
        self._temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
        self._file: BinaryIO = sys.stdout.buffer if target == STREAM else self._temporary.open("xb")
        layout: Any = np.lib.format  # NumPy gives its format module no types
        description = {"descr": layout.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        layout.write_array_header_1_0(self._file, description)

    def append(self, piece: npt.NDArray[Any]) -> None:
        """Adds elements in row-major order."""
        self._file.write(np.ascontiguousarray(piece).tobytes())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._target == STREAM:
            self._file.flush()
            return
        self._file.close()
        if error is None:
            self._temporary.replace(self._target)
        else:
            self._temporary.unlink(missing_ok=True)
