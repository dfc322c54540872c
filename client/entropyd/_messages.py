"""The calls of ModelService and InfoService as values: a request, and how its response is read.

The blocking and the asynchronous session send them alike. Invariant: what can be refused before sending is
refused here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Generic, NamedTuple, TypeVar

import numpy.typing as npt

from entropyd._arrays import (
    bottleneck_array,
    broadcast_bottleneck,
    check_finite,
    check_inputs,
    tensor_array,
)
from entropyd._indexes import has_index_gradient, plane_shape, sent_indexes
from entropyd._info import ModelInfo, ServerInfo, model_info, server_info
from entropyd._location import less_location, location_array, plus_location, summed_to
from entropyd.contract.arrays import array_of, numbers_as, read_array
from entropyd.contract.config import ModelConfig
from entropyd.contract.errors import InvalidRequestError, InvalidTensorError, LimitExceededError
from entropyd.contract.kinds import check_fittable, config_to_message
from entropyd.contract.names import checked_name
from entropyd.contract.tables import RawTables
from entropyd.contract.wire import array_from_message, tensor_to_message
from entropyd.v1 import info_pb2, model_pb2

Array = npt.NDArray[Any]

# Larger messages are compared with the server's limits before they are sent.
UNCHECKED_BYTES = 1024 * 1024
_SAMPLES_MESSAGE_BYTES = 1024 * 1024
_UINT32_MAX = 2**32 - 1

_Result_co = TypeVar("_Result_co", covariant=True)


@dataclass(frozen=True)
class Call(Generic[_Result_co]):
    """One call.

    Attributes:
      request: Its message.
      read: Makes the result of the response.
      model_id: The model that it is about, for proxies that route by it.
    """

    request: Any
    read: Callable[[Any], _Result_co]
    model_id: str | None = None

    @property
    def method(self) -> str:
        return type(self.request).__name__.removesuffix("Request")


class Perturbed(NamedTuple):
    """A bottleneck with noise, and what it would cost.

    Attributes:
      perturbed: Of the bottleneck's shape and dtype.
      bits: Bits of each coding unit, shaped like the batch.
      gradient: Gradient of the summed bits with respect to the bottleneck, of its shape and dtype; None
        unless it was asked for.
      index_gradient: With respect to the indexes, of their shape and dtype; also None unless they are floats
        and the prior has a function of the index.
      loc_gradient: With respect to the location, of its shape and the bottleneck's dtype; also None without
        a location.
    """

    perturbed: Array
    bits: Array
    gradient: Array | None
    index_gradient: Array | None = None
    loc_gradient: Array | None = None


class FitProgress(NamedTuple):
    """How far a fit is.

    Attributes:
      step: Optimiser steps done.
      bits_per_element: On the samples held out, by the best prior so far.
      remaining_seconds: At most; a fit that converges ends sooner.
    """

    step: int
    bits_per_element: float
    remaining_seconds: float


def get_server_info() -> Call[ServerInfo]:
    return Call(info_pb2.GetServerInfoRequest(), server_info)


def create_model(config: ModelConfig) -> Call[ModelInfo]:
    request = model_pb2.CreateModelRequest(config=config_to_message(config))
    return Call(request, _model_of_response, config.model_id)


def get_model(model_id: str) -> Call[ModelInfo]:
    return Call(model_pb2.GetModelRequest(model_id=model_id), _model_of_response, model_id)


def list_models(page_token: str) -> Call[tuple[list[ModelInfo], str]]:
    """Asks for a page of models; the result has the token of the next page, "" after the last."""

    def read(response: model_pb2.ListModelsResponse) -> tuple[list[ModelInfo], str]:
        return [model_info(model) for model in response.models], response.next_page_token

    return Call(model_pb2.ListModelsRequest(page_token=page_token), read)


def delete_model(model_id: str) -> Call[None]:
    return Call(model_pb2.DeleteModelRequest(model_id=model_id), lambda _: None, model_id)


def set_model_name(name: str, model_id: str, expected: str | None) -> Call[str]:
    """Points a name at a model; the result is the id that it pointed at before, "" for none."""
    request = model_pb2.SetModelNameRequest(
        name=checked_name(name), model_id=model_id, expected_model_id=expected
    )
    return Call(request, lambda response: str(response.previous_model_id), model_id)


def delete_model_name(name: str, expected: str | None) -> Call[str]:
    """Removes a name; the result is the id that it pointed at."""
    request = model_pb2.DeleteModelNameRequest(name=checked_name(name), expected_model_id=expected)
    return Call(request, lambda response: str(response.model_id))


def list_model_names(page_token: str) -> Call[tuple[dict[str, str], str]]:
    """Asks for a page of names; the result has their ids, and the token as that of `list_models`."""

    def read(response: model_pb2.ListModelNamesResponse) -> tuple[dict[str, str], str]:
        return {named.name: named.model_id for named in response.names}, response.next_page_token

    return Call(model_pb2.ListModelNamesRequest(page_token=page_token), read)


def export_model(model: ModelInfo) -> Call[bytes]:
    request = model_pb2.ExportModelRequest(model_id=model.id)
    return Call(request, lambda response: bytes(response.object), model.id)


def import_model(exported: bytes) -> Call[ModelInfo]:
    return Call(model_pb2.ImportModelRequest(object=exported), _model_of_response)


def get_tables(model: ModelInfo) -> Call[RawTables]:
    def read(response: model_pb2.GetTablesResponse) -> RawTables:
        tables = response.tables
        return RawTables(
            **{
                name: array_from_message(getattr(tables, name), f"tables.{name}")[1]
                for name in RawTables._fields
                if tables.HasField(name)
            }
        )

    return Call(model_pb2.GetTablesRequest(model_id=model.id), read, model.id)


def get_weights(model: ModelInfo) -> Call[list[Array]]:
    def read(response: model_pb2.GetWeightsResponse) -> list[Array]:
        return [tensor_array(weight.tensor) for weight in response.weights]

    return Call(model_pb2.GetWeightsRequest(model_id=model.id), read, model.id)


def set_weights(model: ModelInfo, weights: Sequence[Any]) -> Call[ModelInfo]:
    """Makes the model with other variables."""
    if not isinstance(weights, (list, tuple)):
        found = f"is a {type(weights).__name__}; expected a list of arrays, as get_weights returns"
        raise InvalidTensorError.at("weights", found)
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
            raise InvalidTensorError.at(field, f"has dtype {array.dtype.name}; expected {dtype}") from error
    request = model_pb2.SetWeightsRequest(model_id=model.id, weights=tensors)
    return Call(request, _model_of_response, model.id)


def _weight_dtype(config: ModelConfig, number: int, own: int) -> str:
    """Name of the dtype of a weight, of which the first `own` are not the prior's."""
    if number < own:
        return "int32" if number < 2 else str(config.bottleneck_dtype)
    return config.needed_prior.dtype


def perturb(
    model: ModelInfo, bottleneck: Any, indexes: Any = None, loc: Any = None, *, training: bool, gradient: bool
) -> Call[Perturbed]:
    """Adds noise to an array and asks for its cost."""
    config = model.config
    indexed = check_inputs(config, indexes, loc)
    array = bottleneck_array(config, bottleneck, located=loc is not None)
    shape, location = array.shape, None if loc is None else location_array(loc)
    if location is not None:
        array = less_location(array, location, config.bottleneck_dtype, in_place=False)
    request = model_pb2.PerturbRequest(model_id=model.id, training=training, gradient=gradient)
    if indexed is not None:
        sent = sent_indexes(indexed, indexes)
        array = broadcast_bottleneck(array, plane_shape(indexed, sent.shape))
        request.indexes.CopyFrom(tensor_to_message(sent))
        request.index_gradient = gradient and has_index_gradient(indexed, sent.dtype)
    request.bottleneck.CopyFrom(tensor_to_message(array))

    def read(response: model_pb2.PerturbResponse) -> Perturbed:
        perturbed, slope, by_index, by_location = tensor_array(response.perturbed), None, None, None
        if response.HasField("index_gradient"):
            by_index = tensor_array(response.index_gradient)
        if response.HasField("gradient"):
            whole = tensor_array(response.gradient)
            slope = summed_to(whole, shape)
            by_location = None if location is None else summed_to(-whole, location.shape)
        if location is not None:
            perturbed = plus_location(perturbed, location)
        return Perturbed(perturbed, tensor_array(response.bits), slope, by_index, by_location)

    return Call(request, read, model.id)


def fit_requests(
    config: ModelConfig, samples: Any, max_steps: int, validation_share: float
) -> Iterator[model_pb2.FitModelRequest]:
    """The messages of a FitModel call: the configuration, then the samples in chunks."""
    if not 0 <= max_steps <= _UINT32_MAX:
        found = f"is {max_steps}; expected 0, for the server's default, or a number of steps"
        raise InvalidRequestError.at("max_steps", found)
    rows = _rows(config, samples)
    configuration = model_pb2.FitConfiguration(
        config=config_to_message(config), max_steps=max_steps, validation_share=validation_share
    )
    count = max(1, _SAMPLES_MESSAGE_BYTES // max(rows[:1].nbytes, 1))
    chunks = (rows[start : start + count] for start in range(0, len(rows), count))
    return chain(
        [model_pb2.FitModelRequest(configuration=configuration)],
        (model_pb2.FitModelRequest(samples=tensor_to_message(chunk)) for chunk in chunks),
    )


def fitted(
    response: model_pb2.FitModelResponse, progress: Callable[[FitProgress], None] | None
) -> ModelInfo | None:
    """Reads a response of FitModel: the model, or None after telling `progress` how far the fit is."""
    if response.HasField("model"):
        return model_info(response.model)
    if progress is not None:
        found = response.progress
        progress(FitProgress(found.step, found.bits_per_element, found.remaining_seconds))
    return None


def check_bytes(message_bytes: int, info: ServerInfo) -> None:
    """Refuses a message that is larger than the server's max_message_bytes."""
    limit = info.max_message_bytes
    if message_bytes > limit:
        raise LimitExceededError(
            f"a message of {message_bytes} bytes exceeds the server's max_message_bytes of {limit}",
            metadata={"limit": "max_message_bytes", "value": str(limit)},
        )


def _model_of_response(response: Any) -> ModelInfo:
    return model_info(response.model)


def _rows(config: ModelConfig, samples: Any) -> Array:
    check_fittable(config)
    dtype, shape = config.bottleneck_dtype, config.prior_shape
    array = array_of("samples", samples, dtype)
    if array.ndim < len(shape) or array.shape[array.ndim - len(shape) :] != shape:
        found = f"has shape {array.shape}; expected leading axes and then prior_shape {shape}"
        raise InvalidTensorError.at("samples", found)
    check_finite(array, "samples")
    return array.reshape(-1, *shape)
