"""Parses Perturb requests and renders the responses.

Invariant: a `PerturbCall` fits its model and holds finite numbers only, so it cannot fail its batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from entropyd.contract.config import ModelConfig
from entropyd.contract.dtypes import are_finite
from entropyd.contract.wire import tensor_to_message
from entropyd.v1 import model_pb2
from entropyd_server.limits import Limits
from entropyd_server.modeling.perturbation import PerturbCall, Perturbed, PerturbKey
from entropyd_server.rpc.requests.bottleneck import check_finite, parse_bottleneck


def parse_perturb(
    request: model_pb2.PerturbRequest, config: ModelConfig, limits: Limits
) -> tuple[PerturbCall, tuple[int, ...]]:
    """Checks a bottleneck against its model.

    Returns:
      The call, and the batch shape.

    Raises:
      InvalidTensorError: As `parse_bottleneck`; or if an element is not finite; names it.
      LimitExceededError: As `parse_bottleneck`.
    """
    array, batch_shape, _, units, unit_symbols = parse_bottleneck(request.bottleneck, config, limits)
    check_finite(are_finite(array, config.bottleneck_dtype), "bottleneck")
    coding_shape = array.shape[len(batch_shape) :]
    key = PerturbKey(config.model_id, request.training, request.gradient, coding_shape)
    flat = np.ascontiguousarray(array).reshape(units, *coding_shape)
    return PerturbCall(config, key, flat, unit_symbols), batch_shape


def render_perturbed(
    perturbed: Perturbed, call: PerturbCall, batch_shape: tuple[int, ...]
) -> model_pb2.PerturbResponse:
    dtype = call.config.bottleneck_dtype
    response = model_pb2.PerturbResponse(
        perturbed=tensor_to_message(_shaped(perturbed.perturbed, batch_shape), dtype),
        bits=tensor_to_message(_shaped(perturbed.bits, batch_shape)),
    )
    if perturbed.gradient is not None:
        response.gradient.CopyFrom(tensor_to_message(_shaped(perturbed.gradient, batch_shape), dtype))
    return response


def nothing_perturbed(call: PerturbCall) -> Perturbed:
    """Returns the result of a call without units, which needs no device."""
    bits = np.zeros(0, call.config.needed_prior.dtype)
    return Perturbed(call.units, bits, call.units if call.key.gradient else None)


def _shaped(array: npt.NDArray[Any], batch_shape: tuple[int, ...]) -> npt.NDArray[Any]:
    return array.reshape(batch_shape + array.shape[1:])
