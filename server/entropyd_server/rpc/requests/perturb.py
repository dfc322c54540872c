"""Parsing of Perturb requests and rendering of their answers.

Owns what a well-formed Perturb call is. It must not know how bits are estimated. Invariant: a `PerturbCall`
that exists fits its model and holds finite numbers only, so it fails for no reason of its own in a batch.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from entropyd.contract.dtypes import are_finite
from entropyd.contract.errors import InvalidTensorError, LimitExceededError, Violation
from entropyd.contract.wire import array_from_message, tensor_to_message
from entropyd.v1 import model_pb2
from entropyd_server.modeling.perturbation import Perturbed, PerturbKey
from entropyd_server.modeling.perturber import PerturbCall

if TYPE_CHECKING:
    import numpy.typing as npt

    from entropyd.contract.config import ModelConfig
    from entropyd_server.limits import Limits


def parse_perturb(
    request: model_pb2.PerturbRequest, config: ModelConfig, limits: Limits
) -> tuple[PerturbCall, tuple[int, ...]]:
    """Checks a bottleneck against its model.

    Returns:
      The call, and the batch shape, whose product is the number of units.

    Raises:
      InvalidTensorError: If dtype, rank, shape or an element do not fit; names the axis or the element.
      LimitExceededError: If it has too many units, or is too large once axes of length 1 are repeated.
    """
    dtype, array = array_from_message(request.bottleneck, "bottleneck")
    if dtype != config.bottleneck_dtype:
        raise _invalid("bottleneck.dtype", f"is {dtype}; the model's is {config.bottleneck_dtype}")
    rank, prior_shape = config.coding_rank, config.prior_shape
    if array.ndim < rank:
        raise _invalid("bottleneck", f"has rank {array.ndim}; coding_rank {rank} needs at least {rank}")
    batch_shape, coding_shape = array.shape[: array.ndim - rank], array.shape[array.ndim - rank :]
    free = rank - len(prior_shape)
    for axis, (found, wanted) in enumerate(
        zip(coding_shape[free:], prior_shape, strict=True), array.ndim - len(prior_shape)
    ):
        if found not in {1, wanted}:
            expected = f"expected {wanted} (or 1) for prior_shape {prior_shape}"
            raise _invalid(f"bottleneck.shape[{axis}]", f"is {found}; {expected}")
    units, unit_symbols = prod(batch_shape), prod(coding_shape[:free]) * prod(prior_shape)
    _check_size(units, unit_symbols * array.itemsize, limits)
    _check_finite(array, dtype)
    key = PerturbKey(config.model_id, request.training, request.gradient, coding_shape)
    flat = np.ascontiguousarray(array).reshape(units, *coding_shape)
    return PerturbCall(config, key, flat, unit_symbols), batch_shape


def render_perturbed(
    perturbed: Perturbed, call: PerturbCall, batch_shape: tuple[int, ...]
) -> model_pb2.PerturbResponse:
    """The answer to a call."""
    dtype = call.config.bottleneck_dtype
    response = model_pb2.PerturbResponse(
        perturbed=tensor_to_message(_shaped(perturbed.perturbed, batch_shape), dtype),
        bits=tensor_to_message(_shaped(perturbed.bits, batch_shape)),
    )
    if perturbed.gradient is not None:
        response.gradient.CopyFrom(tensor_to_message(_shaped(perturbed.gradient, batch_shape), dtype))
    return response


def nothing_perturbed(call: PerturbCall) -> Perturbed:
    """The answer to a call without units, which no device has to see."""
    bits = np.zeros(0, call.config.needed_prior.dtype)
    return Perturbed(call.units, bits, call.units if call.key.gradient else None)


def _shaped(array: npt.NDArray[Any], batch_shape: tuple[int, ...]) -> npt.NDArray[Any]:
    return array.reshape(batch_shape + array.shape[1:])


def _check_size(units: int, unit_bytes: int, limits: Limits) -> None:
    for limit, value, found in (
        ("max_units", limits.max_units, units),
        ("max_message_bytes", limits.max_message_bytes, units * unit_bytes),
    ):
        if found > value:
            what = f"{found} coding units" if limit == "max_units" else f"an array of {found} bytes"
            raise LimitExceededError(
                f"{what} exceeds the server's {limit} of {value}",
                metadata={"limit": limit, "value": str(value)},
            )


def _check_finite(array: npt.NDArray[Any], dtype: str) -> None:
    finite = are_finite(array, dtype)
    if not finite.all():
        element = tuple(int(i) for i in np.unravel_index(int(np.argmin(finite)), array.shape))
        raise _invalid(f"bottleneck{list(element)}", "is NaN or infinite; expected finite numbers")


def _invalid(field: str, description: str) -> InvalidTensorError:
    return InvalidTensorError.of([Violation(field, description)])
