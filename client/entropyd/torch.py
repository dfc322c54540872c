"""Bits per coding unit as a tensor of torch that can be differentiated.

Needs torch, which no other module of the client imports but `entropyd.compressai`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from entropyd import Model
from entropyd._gradients import perturbed, propagated
from entropyd.contract.dtypes import Array, numpy_dtype

__all__ = ["rate"]

_INPUTS = ("y", "indexes", "loc")


def rate(
    model: Model, y: torch.Tensor, indexes: Any = None, loc: Any = None, *, training: bool = True
) -> torch.Tensor:
    """Bits of each coding unit, estimated by the server, differentiable by each argument.

    It is one call of Perturb, with gradients only if an argument requires one, and none in the backward pass.
    Arguments may lie on any device; they go through the CPU.

    Args:
      model: Of a blocking client.
      y: The bottleneck, in the model's bottleneck_dtype; as for `Model.perturb`.
      indexes: Of a model with indexes, a tensor or an array. They have a gradient if they are floats and the
        prior has a function of the index; otherwise it is None.
      loc: Of a LocationScaleIndexed model, a tensor, an array or a number.
      training: As for calling the model. With True the server draws new noise at each call; with False bits
        are those of what compression codes, and gradients those of `Model.perturb`.

    Returns:
      [batch...], on the device of y and in the dtype of the prior. There is no second derivative: backward
      with create_graph=True raises RuntimeError.

    Raises:
      EntropydError: As `Model.perturb`, which calls `y` the bottleneck.
    """
    requiring = (value for value in (y, indexes, loc) if isinstance(value, torch.Tensor))
    wanted = torch.is_grad_enabled() and any(value.requires_grad for value in requiring)
    bits: torch.Tensor = _Rate.apply(model, training, wanted, y, indexes, loc)
    return bits


class _Rate(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(ctx: Any, model: Model, training: bool, gradient: bool, *inputs: Any) -> torch.Tensor:
        """Of y, indexes and loc."""
        arrays = dict(zip(_INPUTS, map(_array_of, inputs), strict=True))
        found = perturbed(model, **arrays, training=training, gradient=gradient)
        shapes = {name: np.shape(array) for name, array in arrays.items() if array is not None}
        ctx.found = model.config, found.gradient, found.index_gradient, shapes
        # Not the tensors themselves, which would stay in memory.
        ctx.like = [value.new_empty(0) if isinstance(value, torch.Tensor) else None for value in inputs]
        return _tensor_of(found.bits, ctx.like[0])

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        # torch's once_differentiable raises only if upstream requires a gradient, and else drops it silently.
        if torch.is_grad_enabled():
            raise RuntimeError(
                "the bits of entropyd.torch.rate have no second derivative: no create_graph=True"
            )
        config, *of_sum = ctx.found
        found = propagated(config, _array_of(upstream), *of_sum)
        gradients = [
            _tensor_of(found[name], like).to(like) if needed and name in found else None
            for name, like, needed in zip(_INPUTS, ctx.like, ctx.needs_input_grad[3:], strict=True)
        ]
        return None, None, None, *gradients


def _array_of(value: Any) -> Any:
    """A tensor's numbers, which it may share; anything else as it is."""
    if not isinstance(value, torch.Tensor):
        return value
    value = value.detach().cpu()
    # NumPy alone has no bfloat16, so torch gives none.
    narrow = value.dtype == torch.bfloat16
    return value.view(torch.int16).numpy().view(numpy_dtype("bfloat16")) if narrow else value.numpy()


def _tensor_of(array: Array, like: torch.Tensor) -> torch.Tensor:
    """An array's numbers on the device of a tensor; bfloat16 is float32."""
    wide = array.astype(np.float32) if array.dtype.name == "bfloat16" else array
    return torch.tensor(wide, device=like.device)
