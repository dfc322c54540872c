"""Bits per coding unit as a tensor of TensorFlow that can be differentiated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NoReturn

import numpy as np
import tensorflow as tf
from tensorflow.python.eager import record

from entropyd import Model
from entropyd._arrays import check_inputs
from entropyd._gradients import perturbed, propagated
from entropyd._indexes import has_index_gradient
from entropyd.contract.config import ModelConfig
from entropyd.contract.indexes import takes_indexes
from entropyd.tfc.indexed import element_axes
from entropyd.tfc.tensors import call_python


def rate(model: Model, y: Any, indexes: Any = None, loc: Any = None, *, training: bool = True) -> Any:
    """Bits of each coding unit, estimated by the server, differentiable by each argument.

    It is one call of Perturb and none in the backward pass. Eagerly it asks for gradients only if a tape
    watches an argument; a graph always does. Inside a tf.function it is a call back to Python.

    Args:
      model: Of a blocking client.
      y: The bottleneck, in the model's bottleneck_dtype; as for `Model.perturb`.
      indexes: Of a model with indexes. They have a gradient if they are floats and the prior has a function
        of the index; otherwise it is None.
      loc: Of a LocationScaleIndexed model.
      training: As for calling the model. With True the server draws new noise at each call; with False bits
        are those of what compression codes, and gradients those of `Model.perturb`.

    Returns:
      [batch...], in the dtype of the prior. A second derivative raises LookupError.

    Raises:
      EntropydError: As `Model.perturb`, which calls `y` the bottleneck. When a graph runs, TensorFlow raises
        an error of its own with the text.
    """
    config, given = model.config, {"y": y, "indexes": indexes, "loc": loc}
    check_inputs(config, indexes, loc)
    inputs = {name: tf.convert_to_tensor(value) for name, value in given.items() if value is not None}

    def forward(*tensors: Any) -> tuple[Any, Callable[[Any], list[Any]]]:
        gradient = not tf.executing_eagerly() or record.should_record_backprop(tensors)

        def called(*arrays: Any) -> list[Any]:
            named = dict(zip(inputs, arrays, strict=True))
            found = perturbed(model, **named, training=training, gradient=gradient)
            return [x for x in (found.bits, found.gradient, found.index_gradient) if x is not None]

        specs = _specs(config, inputs)
        bits, *gradients = call_python(called, tensors, specs if gradient else specs[:1])
        return bits, partial(_backward, config, inputs, gradients)

    return tf.custom_gradient(forward)(*inputs.values())


def _specs(config: ModelConfig, inputs: Mapping[str, Any]) -> list[Any]:
    """Of the bits, of the gradient by the elements, and of that by the indexes if there is one."""
    of = inputs.get("indexes", inputs["y"])
    elements = batch = None
    if of.shape.rank is not None:
        elements = element_axes(of.shape, config.channel_axis if takes_indexes(config) else None)
        batch = elements[: len(elements) - config.coding_rank]
    specs = [tf.TensorSpec(batch, config.bits_dtype), tf.TensorSpec(elements, config.bottleneck_dtype)]
    if "indexes" in inputs and _has_gradient(config, "indexes", of):
        specs.append(tf.TensorSpec(of.shape, of.dtype))
    return specs


def _has_gradient(config: ModelConfig, name: str, tensor: Any) -> bool:
    """Whether bits have a gradient with respect to an input."""
    if name == "indexes" and takes_indexes(config):
        return has_index_gradient(config, np.dtype(tensor.dtype.as_numpy_dtype))
    return bool(tensor.dtype.is_floating)


def _backward(
    config: ModelConfig, inputs: Mapping[str, Any], gradients: list[Any], upstream: Any
) -> list[Any]:
    """Gradients by all inputs; None where there is none."""
    differentiable = {name: x for name, x in inputs.items() if _has_gradient(config, name, x)}

    def called(upstream: Any, *arrays: Any) -> list[Any]:
        gradient, index_gradient = (*arrays[: len(gradients)], None)[:2]
        given = zip(inputs, arrays[len(gradients) :], strict=True)
        shapes = {name: array.shape for name, array in given}
        found = propagated(config, upstream, gradient, index_gradient, shapes)
        return [found[name] for name in differentiable]

    # Of the inputs too, so that a second gradient ends in `_refuse` and is not just None.
    def once(*tensors: Any) -> tuple[list[Any], Callable[..., NoReturn]]:
        return call_python(called, tensors, list(differentiable.values())), _refuse

    found = dict(
        zip(differentiable, tf.custom_gradient(once)(upstream, *gradients, *inputs.values()), strict=True)
    )
    return [found.get(name) for name in inputs]


def _refuse(*_: Any) -> NoReturn:
    raise LookupError("the bits of entropyd.tfc.rate have no second derivative")
