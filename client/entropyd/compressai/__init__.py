"""CompressAI's entropy models, with the coding done by a server.

Needs torch and CompressAI, which are imported when a name of this package is first used; no other part of the
client imports either.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from entropyd.compressai.entropy_models import RemoteEntropyBottleneck, RemoteGaussianConditional
    from entropyd.compressai.models import remote
    from entropyd.compressai.registration import register

__all__ = ["RemoteEntropyBottleneck", "RemoteGaussianConditional", "register", "remote"]

_MODULES = {
    "RemoteEntropyBottleneck": "entropy_models",
    "RemoteGaussianConditional": "entropy_models",
    "register": "registration",
    "remote": "models",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
