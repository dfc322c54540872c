"""Requests and replies of the modeling plane: bit costs, weights, tables, fits.

Owns the conversion between the public values and the messages, for the blocking and the asynchronous client
alike. It must not know a channel. Invariant: what can be refused before sending is.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy.typing as npt

from entropyd._calls import bottleneck_array, check_finite, tensor_array
from entropyd.contract.arrays import array_of, numbers_as, read_array
from entropyd.contract.dtypes import numpy_dtype
from entropyd.contract.errors import InvalidRequestError, InvalidTensorError, Violation
from entropyd.contract.kinds import config_to_message
from entropyd.contract.tables import RawTables
from entropyd.contract.wire import array_from_message, tensor_to_message
from entropyd.v1 import model_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from entropyd._calls import ModelInfo
    from entropyd.contract.config import ModelConfig

Array = npt.NDArray[Any]

# One message of samples.
_PIECE_BYTES = 2**20
_UINT32_MAX = 2**32 - 1


class Perturbed(NamedTuple):
    """A bottleneck with noise, and what it would cost.

    Attributes:
      perturbed: Of the bottleneck's shape and dtype. bits: Bits of each coding unit, shaped like the batch.
      gradient: Gradient of the summed bits with respect to the bottleneck, of its shape and dtype; None
      unless
        it was asked for.
    """

    perturbed: Array
    bits: Array
    gradient: Array | None


class FitProgress(NamedTuple):
    """How far a fit has come.

    Attributes:
      step: Optimiser steps done.
      bits_per_element: On the samples held out, by the best prior so far.
      remaining_seconds: At most; a fit that converges ends sooner.
    """

    step: int
    bits_per_element: float
    remaining_seconds: float


def perturb_request(
    model: ModelInfo, bottleneck: Any, *, training: bool, gradient: bool
) -> model_pb2.PerturbRequest:
    """Renders a Perturb call.

    Raises:
      InvalidTensorError: If an array has another dtype than the model's.
    """
    tensor = tensor_to_message(bottleneck_array(model, bottleneck))
    return model_pb2.PerturbRequest(
        model_id=model.id, bottleneck=tensor, training=training, gradient=gradient
    )


def perturbed(reply: model_pb2.PerturbResponse) -> Perturbed:
    """Reads a Perturb reply."""
    gradient = tensor_array(reply.gradient) if reply.HasField("gradient") else None
    return Perturbed(tensor_array(reply.perturbed), tensor_array(reply.bits), gradient)


def weights(reply: model_pb2.GetWeightsResponse) -> list[Array]:
    """Reads a GetWeights reply."""
    return [tensor_array(weight.tensor) for weight in reply.weights]


def tables(reply: model_pb2.GetTablesResponse) -> RawTables:
    """Reads a GetTables reply."""
    tables = reply.tables
    return RawTables(
        **{
            name: array_from_message(getattr(tables, name), f"tables.{name}")[1]
            for name in RawTables._fields
            if tables.HasField(name)
        }
    )


def quantization_offset(model: ModelInfo, tables: RawTables) -> Array | None:
    """The quantization offset in a model's tables, in its bottleneck_dtype; None without any."""
    if tables.quantization_offset is None:
        return None
    offset = model.config.shaped_offset(tables.quantization_offset)
    return offset.astype(numpy_dtype(model.config.bottleneck_dtype), copy=False)


def set_weights_request(model: ModelInfo, weights: Sequence[Any]) -> model_pb2.SetWeightsRequest:
    """Renders a SetWeights call.

    Raises:
      InvalidTensorError: If one is neither an array nor a list of numbers.
    """
    if not isinstance(weights, (list, tuple)):
        found = f"is a {type(weights).__name__}; expected a list of arrays, as get_weights returns"
        raise InvalidTensorError.of([Violation("weights", found)])
    config = model.config
    own = len(weights) - (0 if config.prior is None else len(config.prior.variables))
    tensors = []
    for number, weight in enumerate(weights):
        field, dtype = f"weights[{number}]", _weight_dtype(config, number, own)
        array, found_dtypes = read_array(field, weight)
        if not found_dtypes:
            array = numbers_as(field, array, dtype)
        try:
            tensors.append(tensor_to_message(array))
        except InvalidTensorError as error:
            found = f"has dtype {array.dtype.name}; expected {dtype}"
            raise InvalidTensorError.of([Violation(field, found)]) from error
    return model_pb2.SetWeightsRequest(model_id=model.id, weights=tensors)


def _weight_dtype(config: ModelConfig, number: int, own: int) -> str:
    """Name of the dtype of a weight, of which the first `own` are not the prior's."""
    if number < own:
        return "int32" if number < 2 else str(config.bottleneck_dtype)
    return config.needed_prior.dtype


def fit_requests(
    config: ModelConfig, samples: Any, max_steps: int, validation_share: float
) -> Iterator[model_pb2.FitModelRequest]:
    """Renders a FitModel call: the configuration, then the samples in pieces.

    Raises:
      InvalidTensorError: If the samples are of another dtype than the configuration, of another shape, or not
        finite.
      InvalidRequestError: If `max_steps` is no number of steps.
    """
    if not 0 <= max_steps <= _UINT32_MAX:
        found = f"is {max_steps}; expected 0, for the server's default, or a number of steps"
        raise InvalidRequestError.of([Violation("max_steps", found)])
    rows = _rows(config, samples)
    configuration = model_pb2.FitConfiguration(
        config=config_to_message(config), max_steps=max_steps, validation_share=validation_share
    )
    count = max(1, _PIECE_BYTES // max(rows[:1].nbytes, 1))
    pieces = (rows[start : start + count] for start in range(0, len(rows), count))
    return chain(
        [model_pb2.FitModelRequest(configuration=configuration)],
        (model_pb2.FitModelRequest(samples=tensor_to_message(piece)) for piece in pieces),
    )


def _rows(config: ModelConfig, samples: Any) -> Array:
    dtype, shape = config.bottleneck_dtype, config.prior_shape
    array = array_of("samples", samples, dtype)
    if array.ndim < len(shape) or array.shape[array.ndim - len(shape) :] != shape:
        found = f"has shape {array.shape}; expected leading axes and then prior_shape {shape}"
        raise InvalidTensorError.of([Violation("samples", found)])
    check_finite(array, "samples")
    return array.reshape(-1, *shape)


def fit_progress(message: model_pb2.FitProgress) -> FitProgress:
    """Reads a progress message."""
    return FitProgress(message.step, message.bits_per_element, message.remaining_seconds)
