"""The indexes and the location that a command takes beside an array, read in the parts of that array."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from entropyd import InvalidTensorError, ModelConfig
from entropyd._indexes import plane_shape
from entropyd.cli.arrays import open_array
from entropyd.cli.npy import NpyFile
from entropyd.cli.paths import FILE
from entropyd.contract.dtypes import numpy_dtype
from entropyd.contract.indexes import takes_indexes

Array = npt.NDArray[Any] | NpyFile

indexes_option = click.option(
    "--indexes",
    type=FILE,
    metavar="FILE",
    help="For a model with indexes: .npy file with the index of each element.",
)
loc_option = click.option(
    "--loc",
    type=FILE,
    metavar="FILE",
    help="For a LocationScaleIndexed model: .npy file with the location of each element.",
)


@dataclass(frozen=True)
class CodingInputs:
    """Indexes and location of an array, or of some items of its first axis.

    Attributes:
      indexes, loc: Arrays, or files of which slices are read; None without any.
      first: Number of the first item that they have.
    """

    indexes: Array | None = None
    loc: Array | None = None
    first: int = 0

    def shape(self, config: ModelConfig) -> tuple[int, ...] | None:
        """The shape of the elements that the indexes belong to; None for a model without them.

        Raises:
          InvalidTensorError: If indexes are missing, superfluous, or of a wrong shape.
        """
        if not takes_indexes(config):
            if self.indexes is not None:
                raise InvalidTensorError.at("indexes", f"are given; a {config.kind} model takes none")
            return None
        if self.indexes is None:
            what = f"are missing; a {config.kind} model picks the row of each element by its index"
            raise InvalidTensorError.at("indexes", f"{what}: --indexes FILE gives them")
        return plane_shape(config, self.indexes.shape)

    def part(
        self, config: ModelConfig, items: slice | EllipsisType
    ) -> tuple[npt.NDArray[Any] | None, npt.NDArray[Any] | None]:
        """Indexes and location of some items of the first axis, or of all."""
        shape = self.shape(config)
        indexes = loc = None
        if isinstance(items, slice):
            items = slice(items.start - self.first, items.stop - self.first)
        if self.indexes is not None and takes_indexes(config):
            axis = config.channel_axis
            # With the channel axis first, the items are those of the second axis.
            behind = isinstance(items, slice) and axis is not None and not axis % self.indexes.ndim
            indexes = self.indexes[...][:, items] if behind else self.indexes[items]
        if self.loc is not None:
            # One that is broadcast is used whole.
            has_items = shape and self.loc.ndim == len(shape) and self.loc.shape[0] == shape[0]
            loc = self.loc[items if has_items else ...]
        return indexes, loc


NO_INPUTS = CodingInputs()


@contextmanager
def opened_inputs(indexes: Path | None, loc: Path | None) -> Iterator[CodingInputs]:
    """Opens the files; see `open_array`."""
    with (
        nullcontext() if indexes is None else open_array(indexes) as index_array,
        nullcontext() if loc is None else open_array(loc) as location,
    ):
        yield CodingInputs(_typed(index_array), _typed(location))


def _typed(array: Array | None) -> Array | None:
    # .npy files have no name for bfloat16: its elements are two bytes of any kind.
    if array is not None and array.dtype == np.dtype("V2"):
        return array.view(numpy_dtype("bfloat16"))
    return array
