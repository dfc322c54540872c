"""Client for entropyd, the entropy coding service. No TensorFlow.

import entropyd
from entropyd import priors

with entropyd.Client("localhost:7070") as client:
    model = client.create_model(
        entropyd.UniversalBatchedConfig(prior=priors.NoisyNormal(loc=0.0, scale=[1.0, 2.0]), coding_rank=1)
    )
    compressed = model.compress([[0.3, -1.2]])
    restored = model.decompress(compressed)
"""

import typing

from entropyd._client import Client
from entropyd._credentials import tls_credentials
from entropyd._info import ModelInfo, ServerInfo
from entropyd._messages import FitProgress, Perturbed
from entropyd._model import Model
from entropyd.archive import (
    Archive,
    ArchiveWriter,
    Bundle,
    CompressedBundle,
    CompressedTensor,
    EmbeddedModel,
    MeasuredTensor,
    RateReport,
    pack,
)
from entropyd.contract.config import ModelConfig
from entropyd.contract.errors import (
    CancelledError,
    CorruptStringError,
    DataLossError,
    DeadlineExceededError,
    EntropydError,
    IndexesMismatchError,
    InternalError,
    InvalidConfigError,
    InvalidRequestError,
    InvalidTensorError,
    LimitExceededError,
    ModelNotFoundError,
    ModelStateError,
    OverloadedError,
    PermissionDeniedError,
    RoleMissingError,
    TablesMismatchError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
    Violation,
)
from entropyd.contract.kinds.continuous_batched import ContinuousBatchedConfig
from entropyd.contract.kinds.continuous_indexed import ContinuousIndexedConfig
from entropyd.contract.kinds.location_scale_indexed import LocationScaleIndexedConfig
from entropyd.contract.kinds.power_law import PowerLawConfig
from entropyd.contract.kinds.tabulated import TabulatedConfig
from entropyd.contract.kinds.universal_batched import UniversalBatchedConfig
from entropyd.contract.kinds.universal_indexed import UniversalIndexedConfig
from entropyd.contract.prior import Prior

if typing.TYPE_CHECKING:
    from entropyd_server.local import LocalServer as LocalServer
else:

    def __getattr__(name):
        """`LocalServer`, of the server's package, which the client imports only here. Raises ImportError."""
        if name != "LocalServer":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from entropyd._server_package import server_module  # noqa: PLC0415

        return server_module("local").LocalServer


__all__ = [
    "Archive",
    "ArchiveWriter",
    "Bundle",
    "CancelledError",
    "Client",
    "CompressedBundle",
    "CompressedTensor",
    "ContinuousBatchedConfig",
    "ContinuousIndexedConfig",
    "CorruptStringError",
    "DataLossError",
    "DeadlineExceededError",
    "EmbeddedModel",
    "EntropydError",
    "FitProgress",
    "IndexesMismatchError",
    "InternalError",
    "InvalidConfigError",
    "InvalidRequestError",
    "InvalidTensorError",
    "LimitExceededError",
    "LocationScaleIndexedConfig",
    "MeasuredTensor",
    "Model",
    "ModelConfig",
    "ModelInfo",
    "ModelNotFoundError",
    "ModelStateError",
    "OverloadedError",
    "PermissionDeniedError",
    "Perturbed",
    "PowerLawConfig",
    "Prior",
    "RateReport",
    "RoleMissingError",
    "ServerInfo",
    "TablesMismatchError",
    "TabulatedConfig",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "UniversalBatchedConfig",
    "UniversalIndexedConfig",
    "Violation",
    "pack",
    "tls_credentials",
]
