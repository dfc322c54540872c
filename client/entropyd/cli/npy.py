"""Reads and writes `.npy` files of one array, whole or in slices, without mapping them."""

from __future__ import annotations

import copy
import os
from math import prod
from types import EllipsisType
from typing import Any, BinaryIO

import click
import numpy as np
import numpy.typing as npt

from entropyd._target import Target

_READ_BYTES = 2**20
# Shorter columns are read whole even for some rows: the cost of a read is the same.
_COLUMN_BYTES = 16 * 2**10


class NpyFile:
    """The array of an open `.npy` file; slices of its first axis are read into memory.

    A slice of a row-major file takes the memory of the slice. A slice of a column-major file takes up to
    1 MiB more, and a read for each column, or of the whole file if columns are shorter than 16 KiB.

    Args:
      file: A regular file, at its beginning.
      name: For messages.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self.shape, self._column_major, self.dtype = _read_header(file, name)
        self._start = file.tell()
        file_bytes = os.fstat(file.fileno()).st_size
        following = file_bytes - self._start - self.nbytes
        if following < 0:
            found = f"ends after {file_bytes - self._start:,} of the {self.nbytes:,} bytes of its array"
            raise click.ClickException(f"{name} {found}")
        _refuse_following(name, following)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: slice | EllipsisType) -> npt.NDArray[Any]:
        """Reads consecutive items of the first axis; or all of the array, for `...`."""
        if key is ...:
            return self._elements(0, self.size).reshape(self.shape, order="F" if self._column_major else "C")
        first, stop, step = key.indices(len(self))
        if step != 1:
            raise IndexError(f"expected consecutive items; the step is {step}")
        if self._column_major:
            return self._rows_of_columns(first, max(first, stop))
        items = max(stop - first, 0)
        per_item = prod(self.shape[1:])
        return self._elements(first * per_item, items * per_item).reshape(items, *self.shape[1:])

    def view(self, dtype: npt.DTypeLike) -> NpyFile:
        """The same bytes as elements of another dtype of that size."""
        viewed = copy.copy(self)
        viewed.dtype = np.dtype(dtype)
        return viewed

    def _rows_of_columns(self, first: int, stop: int) -> npt.NDArray[Any]:
        rows, columns = len(self), prod(self.shape[1:])
        found = np.empty((columns, stop - first), self.dtype)
        column_bytes = rows * self.dtype.itemsize
        if column_bytes < _COLUMN_BYTES:
            step = _READ_BYTES // max(column_bytes, 1)
            for column in range(0, columns, step):
                last = min(column + step, columns)
                read = self._elements(column * rows, (last - column) * rows)
                found[column:last] = read.reshape(last - column, rows)[:, first:stop]
        else:
            for column in range(columns):
                found[column] = self._elements(column * rows + first, stop - first)
        return found.reshape(*self.shape[:0:-1], stop - first).T

    def _elements(self, first: int, count: int) -> npt.NDArray[Any]:
        """Elements in the order of the file, as a vector."""
        try:
            self._file.seek(self._start + first * self.dtype.itemsize)
        except OSError as error:
            raise _unreadable(self._name, error) from error
        return _read_elements(self._file, count, self.dtype, self._name)


def write_header(target: Target, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Writes the header of a `.npy` file, which the elements follow in row-major order."""
    layout: Any = np.lib.format  # NumPy gives its format module no types
    description = {"descr": layout.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    layout.write_array_header_1_0(target, description)


def read_stream(stream: Any, name: str) -> npt.NDArray[Any]:
    shape, column_major, dtype = _read_header(stream, name)
    array = _read_elements(stream, prod(shape), dtype, name)
    following = len(stream.read(_READ_BYTES))
    _refuse_following(name, following, "at least " if following == _READ_BYTES else "")
    return array.reshape(shape, order="F" if column_major else "C")


def _read_header(file: Any, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether the order is column-major, and dtype."""
    layout: Any = np.lib.format
    try:
        version = layout.read_magic(file)
        if version not in {(1, 0), (2, 0), (3, 0)}:
            raise ValueError(f"its version is {version}")
        # Versions 2 and 3 differ only in names of fields.
        read = layout.read_array_header_1_0 if version == (1, 0) else layout.read_array_header_2_0
        shape, column_major, dtype = read(file)
    except OSError as error:
        raise _unreadable(name, error) from error
    except (ValueError, EOFError) as error:
        raise click.ClickException(f"{name} is not a .npy file: {error}") from error
    if dtype.hasobject or not dtype.itemsize or any(axis < 0 for axis in shape):
        raise click.ClickException(f"{name} holds {dtype.name} of shape {shape}; expected numbers")
    return shape, column_major, dtype


def _read_elements(file: Any, count: int, dtype: np.dtype[Any], name: str) -> npt.NDArray[Any]:
    wanted = count * dtype.itemsize
    try:
        content = np.empty(wanted, np.uint8)
        view, filled = content.data, 0
        while filled < wanted and (read := file.readinto(view[filled:])):
            filled += read
    except OSError as error:
        raise _unreadable(name, error) from error
    except (MemoryError, OverflowError, ValueError) as error:
        raise click.ClickException(f"{name} has {wanted:,} bytes of elements, too many for memory") from error
    if filled < wanted:
        raise click.ClickException(f"{name} ended {wanted - filled:,} bytes before the end of its array")
    return content.view(dtype)


def _refuse_following(name: str, following: int, least: str = "") -> None:
    if following:
        found = f"holds {least}{following:,} bytes after its array; expected one array and nothing else"
        raise click.ClickException(f"{name} {found}")


def _unreadable(name: str, error: OSError) -> click.ClickException:
    return click.ClickException(f"{name} cannot be read: {error.strerror or error}")
