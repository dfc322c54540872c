"""Parses FitModel's messages.

Invariant: a `FitTask` has enough finite samples of the prior's shape, within the limits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from math import isfinite, prod
from typing import Any

import numpy as np
import numpy.typing as npt

from entropyd.contract.config import ModelConfig
from entropyd.contract.dtypes import widened
from entropyd.contract.errors import InvalidRequestError, InvalidTensorError
from entropyd.contract.kinds import check_fittable, config_from_message
from entropyd.contract.wire import array_from_message
from entropyd.v1 import model_pb2
from entropyd_server.errors import limit_exceeded
from entropyd_server.limits import Limits
from entropyd_server.modeling.fit_frames import FitTask
from entropyd_server.rpc.requests.bottleneck import check_finite

DEFAULT_MAX_STEPS = 3000
MOST_STEPS = 100_000
# Fewer say too little about a density, and nothing about its tails.
LEAST_ROWS = 100
# What a message of samples counts as at least, because even an empty one takes memory.
_LEAST_MESSAGE_BYTES = 256


async def read_task(requests: AsyncIterator[model_pb2.FitModelRequest], limits: Limits) -> FitTask:
    """Reads the configuration, and samples until the caller sends no more.

    Raises:
      InvalidRequestError: If the messages are out of order, or an option is out of range.
      InvalidConfigError: If the configuration cannot make a model, or is of a kind without a prior to fit.
      InvalidTensorError: If samples have a wrong shape or dtype, are not finite, are too few or all equal.
      LimitExceededError: If they are more than max_message_bytes together.
    """
    config: ModelConfig | None = None
    options: Any = None
    parts: list[npt.NDArray[Any]] = []
    sample_bytes = 0
    async for request in requests:
        part = request.WhichOneof("part")
        if (part == "configuration") != (config is None):
            raise InvalidRequestError.at(
                "part", f"is {part or 'missing'}; expected the configuration first, then samples"
            )
        if config is None:
            options = request.configuration
            config = await asyncio.to_thread(config_from_message, options.config)
            check_fittable(config)
            continue
        sample_bytes += max(len(request.samples.data), _LEAST_MESSAGE_BYTES)
        if sample_bytes > limits.max_message_bytes:
            raise limit_exceeded(
                "the samples exceed", "max_message_bytes", limits.max_message_bytes, "; send fewer"
            )
        parts.append(_samples(request.samples, config))
    if config is None:
        raise InvalidRequestError.at("configuration", "is missing")
    steps, share = options.max_steps or DEFAULT_MAX_STEPS, options.validation_share
    if steps > MOST_STEPS:
        raise InvalidRequestError.at("max_steps", f"is {steps}; expected at most {MOST_STEPS}")
    if not (isfinite(share) and 0 <= share < 1):
        raise InvalidRequestError.at("validation_share", f"is {share}; expected 0 <= x < 1")
    rows = np.concatenate(parts) if parts else np.zeros((0, *config.prior_shape), np.float32)
    _check_enough(rows, share)
    return FitTask(config, rows, steps, share)


def _samples(tensor: Any, config: ModelConfig) -> npt.NDArray[Any]:
    dtype, array = array_from_message(tensor, "samples")
    if dtype != config.bottleneck_dtype:
        raise InvalidTensorError.at(
            "samples.dtype", f"is {dtype}; the configuration's is {config.bottleneck_dtype}"
        )
    shape = config.prior_shape
    if array.ndim < len(shape) or array.shape[array.ndim - len(shape) :] != shape:
        raise InvalidTensorError.at(
            "samples", f"has shape {array.shape}; expected leading axes and then prior_shape {shape}"
        )
    array = widened(array, dtype)
    check_finite(np.isfinite(array), "samples")
    rows = array.size // max(prod(shape), 1)
    return array.reshape(rows, *shape)


def _check_enough(rows: npt.NDArray[Any], share: float) -> None:
    training = len(rows) - int(len(rows) * share)
    if training < LEAST_ROWS:
        found = f"has {len(rows)} rows, {training} of them to train on; expected at least {LEAST_ROWS}"
        raise InvalidTensorError.at("samples", found)
    if (rows == rows.flat[0]).all():
        raise InvalidTensorError.at(
            "samples", f"is {rows.flat[0]} everywhere; expected something to fit a density to"
        )
