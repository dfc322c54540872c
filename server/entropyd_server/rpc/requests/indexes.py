"""Parses the indexes of a call, which pick the row of each element, and the numbers of its coding units.

Invariants: `UnitIndexes` have the shape of their units, and numbers within an array of at most 2^59 elements.
Whether each index is a row of the model is left to its codec.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from entropyd.contract.errors import InvalidRequestError, InvalidTensorError
from entropyd.contract.wire import MAX_ELEMENTS, array_from_message
from entropyd.v1 import coding_pb2, types_pb2
from entropyd_server.coding.indexed import IndexedCodec
from entropyd_server.rpc.requests.selection import run_numbers

_INDEX_DTYPES = ("uint8", "uint16", "int32")


class UnitIndexes(NamedTuple):
    """The rows of coding units, one for each symbol.

    Attributes:
      codec: That of their model.
      plane: uint8, uint16 or int32 [units, symbols]; any number of their types.
      unit_shape: Dimensions of one coding unit.
      unit_numbers: int64 [units], number of each in the array that it is a part of.
    """

    codec: IndexedCodec
    plane: npt.NDArray[Any]
    unit_shape: tuple[int, ...]
    unit_numbers: npt.NDArray[np.int64]


def parse_indexes(
    request: coding_pb2.CompressRequest | coding_pb2.DecompressRequest,
    codec: IndexedCodec,
    shape: tuple[int, ...],
    unit_numbers: npt.NDArray[np.int64],
) -> UnitIndexes:
    """Checks the indexes of a request for a model whose rows they pick; `shape` is that of the array.

    Raises:
      InvalidTensorError: If they are missing, or their dtype or shape is wrong.
    """
    if not request.HasField("indexes"):
        found = f"is missing; the model needs the row of each element, so an array of shape {shape}"
        raise InvalidTensorError.at("indexes", found)
    dtype, indexes = array_from_message(request.indexes, "indexes")
    if dtype not in _INDEX_DTYPES:
        expected = ", ".join(_INDEX_DTYPES)
        raise InvalidTensorError.at("indexes.dtype", f"is {dtype}; expected one of {expected}")
    if indexes.shape != shape:
        found = f"has shape {indexes.shape}; expected {shape}, one index for each element"
        raise InvalidTensorError.at("indexes", found)
    unit_shape = shape[len(shape) - codec.coding_rank :]
    symbols = int(np.prod(unit_shape, dtype=np.int64))
    return UnitIndexes(codec, indexes.reshape(len(unit_numbers), symbols), unit_shape, unit_numbers)


def refuse_indexes(request: coding_pb2.CompressRequest | coding_pb2.DecompressRequest) -> None:
    """Raises InvalidTensorError if a request for a model without indexes has some."""
    if request.HasField("indexes"):
        found = "is set; expected none, because the position of an element picks its row in this model"
        raise InvalidTensorError.at("indexes", found)


def numbers_from(first_unit: int, units: int, unit_symbols: int) -> npt.NDArray[np.int64]:
    """Returns the numbers first_unit, first_unit + 1, ... of so many units.

    Raises:
      InvalidRequestError: If an array with units of such numbers would have more than 2^59 elements.
    """
    check_numbers("first_unit", first_unit + units, unit_symbols)
    return np.arange(first_unit, first_unit + units)


def parse_unit_numbers(
    runs: Sequence[types_pb2.UnitNumbers], units: int, unit_symbols: int
) -> npt.NDArray[np.int64]:
    """Returns the number of each of `units` units; 0, 1, 2, ... without runs.

    Raises:
      InvalidRequestError: If there are not as many numbers as units, or as `numbers_from`.
    """
    if not runs:
        return numbers_from(0, units, unit_symbols)
    firsts, counts = [run.first for run in runs], [run.count for run in runs]
    if sum(counts) != units or 0 in counts:
        found = f"has {sum(counts)} numbers; expected one for each of {units} coding units, at least 1 a run"
        raise InvalidRequestError.at("unit_numbers", found)
    check_numbers("unit_numbers", max(map(int.__add__, firsts, counts)), unit_symbols)
    return run_numbers(firsts, counts)


def check_numbers(field: str, end: int, unit_symbols: int) -> None:
    """Raises InvalidRequestError if an array of `end` units would have more than 2^59 elements."""
    most = MAX_ELEMENTS // max(unit_symbols, 1)
    if end > most:
        found = f"reaches {end - 1}; expected at most {most - 1} with units of {unit_symbols} elements"
        raise InvalidRequestError.at(field, found)
