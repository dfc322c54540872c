"""Parses the indexes of Perturb, which are those of the caller: of any number type, with their channel axis.

Invariant: parsed indexes fit the bottleneck and hold no NaN. Out of range ones are clipped where TFC does it.
"""

from __future__ import annotations

import numpy as np

from entropyd.contract.config import ModelConfig
from entropyd.contract.dtypes import BOTTLENECK_DTYPES, Array, widened
from entropyd.contract.errors import InvalidTensorError
from entropyd.contract.index_functions import IndexFunction
from entropyd.contract.kinds.indexed import IndexedConfig
from entropyd.contract.prior import Prior
from entropyd.contract.wire import array_from_message
from entropyd.v1 import model_pb2


def parse_perturb_indexes(
    request: model_pb2.PerturbRequest, config: ModelConfig, shape: tuple[int, ...]
) -> tuple[Array | None, str | None]:
    """Checks the indexes of a request; `shape` is the bottleneck's.

    Returns:
      The indexes, with the channel axis as the last one, and the name of their dtype; None for a model
      without indexes.

    Raises:
      InvalidTensorError: If they are missing, or not wanted; if dtype or shape is wrong, or one is NaN; names
        it. If their gradient is wanted and does not exist.
    """
    if not isinstance(config, IndexedConfig):
        if request.HasField("indexes"):
            raise InvalidTensorError.at("indexes", f"is set; a {config.kind} model takes none")
        if request.index_gradient:
            raise InvalidTensorError.at("index_gradient", f"is set; a {config.kind} model takes no indexes")
        return None, None
    if not request.HasField("indexes"):
        found = f"is missing; a {config.kind} model needs the indexes of each element"
        raise InvalidTensorError.at("indexes", found)
    dtype, indexes = array_from_message(request.indexes, "indexes")
    axis, expected = config.channel_axis, shape
    if axis is not None:
        rank = len(shape) + 1
        if not -rank <= axis < rank:
            found = f"has rank {indexes.ndim}; channel_axis {axis} needs more axes of the bottleneck"
            raise InvalidTensorError.at("indexes", found)
        position = axis % rank
        expected = (*shape[:position], len(config.index_ranges), *shape[position:])
    if indexes.shape != expected:
        found = f"has shape {indexes.shape}; expected {expected} for a bottleneck of shape {shape}"
        raise InvalidTensorError.at("indexes", found)
    if dtype in BOTTLENECK_DTYPES:
        _check_numbers(widened(indexes, dtype))
    if request.index_gradient:
        _check_gradient(config, dtype)
    return indexes if axis is None else np.moveaxis(indexes, axis, -1), dtype


def _check_numbers(indexes: Array) -> None:
    nan = np.isnan(indexes)
    if nan.any():
        element = [int(i) for i in np.unravel_index(int(np.argmax(nan)), nan.shape)]
        raise InvalidTensorError.at(f"indexes{element}", "is NaN; expected a number")


def _check_gradient(config: IndexedConfig, dtype: str) -> None:
    if dtype not in BOTTLENECK_DTYPES:
        raise InvalidTensorError.at("indexes.dtype", f"is {dtype}; index_gradient needs floats")
    if not _has_function(config.prior):
        found = "is set; expected a prior with a function of the index"
        raise InvalidTensorError.at("index_gradient", found)


def _has_function(prior: Prior) -> bool:
    values = prior.parameters.values()
    own = any(isinstance(value, IndexFunction) for value in values)
    return own or (prior.nested is not None and _has_function(prior.nested))
