"""Parses Perturb requests and renders the responses.

Invariant: a `PerturbCall` fits its model and holds finite numbers only, so it cannot fail its batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from entropyd.contract.config import ModelConfig
from entropyd.contract.dtypes import are_finite, element_dtype
from entropyd.contract.kinds.indexed import IndexedConfig
from entropyd.contract.wire import tensor_to_message
from entropyd.v1 import model_pb2
from entropyd_server.limits import Limits
from entropyd_server.modeling.perturbation import PerturbCall, Perturbed, PerturbKey
from entropyd_server.rpc.requests.bottleneck import check_finite, parse_bottleneck
from entropyd_server.rpc.requests.indexes import check_numbers
from entropyd_server.rpc.requests.perturb_indexes import parse_perturb_indexes


def parse_perturb(
    request: model_pb2.PerturbRequest, config: ModelConfig, limits: Limits
) -> tuple[PerturbCall, tuple[int, ...]]:
    """Checks a bottleneck, and its indexes if the model takes any.

    Returns:
      The call, and the batch shape.

    Raises:
      InvalidTensorError: As `parse_bottleneck` and `parse_perturb_indexes`; or if an element is not finite;
        names it.
      InvalidRequestError: If first_unit is too large for the model's dither.
      LimitExceededError: As `parse_bottleneck`.
      ModelStateError: If the model has no density.
    """
    _ = config.bits_dtype  # refuses a model without a density
    array, batch_shape, _, units, unit_symbols = parse_bottleneck(request.bottleneck, config, limits)
    check_finite(are_finite(array, config.bottleneck_dtype), "bottleneck")
    indexes, index_dtype = parse_perturb_indexes(request, config, array.shape)
    if config.numbers_units:
        check_numbers("first_unit", request.first_unit + units, unit_symbols)
    coding_shape = array.shape[len(batch_shape) :]
    key = PerturbKey(
        config.model_id,
        request.training,
        request.gradient,
        coding_shape,
        request.index_gradient,
        index_dtype,
        config.kind,
    )
    if indexes is not None:
        indexes = indexes.reshape(units, *indexes.shape[len(batch_shape) :])
    flat = np.ascontiguousarray(array).reshape(units, *coding_shape)
    return PerturbCall(config, key, flat, unit_symbols, indexes, request.first_unit), batch_shape


def render_perturbed(
    perturbed: Perturbed, call: PerturbCall, batch_shape: tuple[int, ...]
) -> model_pb2.PerturbResponse:
    dtype = call.config.bottleneck_dtype
    response = model_pb2.PerturbResponse(
        perturbed=tensor_to_message(_shaped(perturbed.perturbed, batch_shape), dtype),
        bits=tensor_to_message(_shaped(perturbed.bits, batch_shape), call.config.bits_dtype),
    )
    if perturbed.gradient is not None:
        response.gradient.CopyFrom(tensor_to_message(_shaped(perturbed.gradient, batch_shape), dtype))
    if perturbed.index_gradient is not None:
        gradient = _shaped(perturbed.index_gradient, batch_shape)
        axis = call.config.channel_axis if isinstance(call.config, IndexedConfig) else None
        gradient = gradient if axis is None else np.moveaxis(gradient, -1, axis)
        response.index_gradient.CopyFrom(tensor_to_message(gradient, call.key.index_dtype))
    return response


def nothing_perturbed(call: PerturbCall) -> Perturbed:
    """Returns the result of a call without units, which needs no device."""
    bits = np.zeros(0, element_dtype(call.config.bits_dtype))
    key = call.key
    return Perturbed(
        call.units, bits, call.units if key.gradient else None, call.indexes if key.index_gradient else None
    )


def _shaped(array: npt.NDArray[Any], batch_shape: tuple[int, ...]) -> npt.NDArray[Any]:
    return array.reshape(batch_shape + array.shape[1:])
