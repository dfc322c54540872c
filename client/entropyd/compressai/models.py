"""Whole models of CompressAI, with the coding done by a server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from compressai.entropy_models import (
    EntropyBottleneck,
    EntropyModel,
    EntropyModelVbr,
    GaussianConditional,
)
from compressai.latent_codecs import RasterScanLatentCodec
from compressai.models import JointAutoregressiveHierarchicalPriors

from entropyd import Client
from entropyd.compressai.entropy_models import (
    RemoteEntropyBottleneck,
    RemoteEntropyModel,
    RemoteGaussianConditional,
)

_Model = TypeVar("_Model")
_REMOTE: Mapping[type[Any], type[Any]] = {
    EntropyBottleneck: RemoteEntropyBottleneck,
    GaussianConditional: RemoteGaussianConditional,
}
_AUTOREGRESSIVE = JointAutoregressiveHierarchicalPriors, RasterScanLatentCodec


def remote(model: _Model, client: Client) -> _Model:
    """Makes the entropy models inside a model remote ones, in place.

    Their parameters and buffers stay what they are, so optimisers and checkpoints do, too.

    Args:
      model: A CompressionModel, or another module that has entropy models inside.
      client: Connected to the server.

    Returns:
      The model itself.

    Raises:
      TypeError: If there are no entropy models inside, or one that cannot be remote; the model is as it was
        then.
    """
    modules: Any = dict(model.named_modules())  # type: ignore[attr-defined]
    found = {name: module for name, module in modules.items() if _is_entropy_model(name, module)}
    if not found:
        raise TypeError(f"a {type(model).__name__} has no EntropyBottleneck or GaussianConditional inside")
    for module in found.values():
        module.__class__ = _REMOTE.get(type(module), type(module))
        module.use(client)
    return model


def _is_entropy_model(name: str, module: Any) -> bool:
    """Whether a module codes; raises TypeError if it does so in a way that cannot be remote."""
    what = f"{name or 'the model'} is a {type(module).__name__}"
    if isinstance(module, _AUTOREGRESSIVE):
        raise TypeError(
            f"{what}, which codes one symbol at a time, each with a scale computed from those before: that "
            "would take a call for every symbol. Code with it locally, or use a model with channel slices"
        )
    if not isinstance(module, (EntropyModel, EntropyModelVbr)):
        return False
    if type(module) not in _REMOTE and not isinstance(module, RemoteEntropyModel):
        raise TypeError(
            f"{what}; expected an EntropyBottleneck or a GaussianConditional, or a class derived from "
            "RemoteEntropyBottleneck or RemoteGaussianConditional"
        )
    return True
