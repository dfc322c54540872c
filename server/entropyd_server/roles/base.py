"""What a role of a server is, and what it is built from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor import ServiceDescriptor

from entropyd_server.batching.observer import BatchObserver, Observers
from entropyd_server.limits import Limits
from entropyd_server.metrics import Metrics
from entropyd_server.models.cache import ModelCache
from entropyd_server.observe.call_log import CallLog
from entropyd_server.observe.spans import BatchSpans
from entropyd_server.rpc.interceptors.admission import Admit
from entropyd_server.security.access import Access
from entropyd_server.settings import Settings
from entropyd_server.store.model_store import ModelStore
from entropyd_server.vital import Vital

if TYPE_CHECKING:
    from entropyd_server.observe.tracing import Tracing  # which needs OpenTelemetry
    from entropyd_server.transport.transports import Resume


@dataclass(frozen=True)
class Shared:
    """What the roles of one server share."""

    settings: Settings
    limits: Limits
    metrics: Metrics
    call_log: CallLog
    tracing: Tracing | None
    vital: Vital
    resume: Resume
    access: Access
    store: ModelStore
    models: ModelCache

    def observer(self, metrics: BatchObserver) -> BatchObserver:
        """Returns the observer of a role's batches: `metrics`, and spans if tracing is on."""
        return metrics if self.tracing is None else Observers(metrics, BatchSpans(self.tracing.tracer))


class Role(ABC):
    """One gRPC service with its parts.

    Attributes:
      service: The descriptor of the service.
      servicer: The object that serves it.
      lacks: By the name of each method of the service that needs another role, that role.
      admit: By the path of a method, the check that a call passes before its message is read; it raises.
      devices: What the role computes on, as `--devices` names it.
    """

    service: ServiceDescriptor
    servicer: Any
    lacks: Mapping[str, str] = {}
    admit: Mapping[str, Admit] = {}
    devices: Sequence[str] = ()

    @property
    def stalled_s(self) -> float:
        """Seconds since a batch last ended, while work is queued; 0 without queued work."""
        return 0.0

    @abstractmethod
    async def start(self) -> None:
        """Starts the parts; returns when the service can answer."""

    async def drain(self) -> None:  # noqa: B027 - most roles have nothing to end early
        """Ends at once the work that would take longer than a drain; the rest goes on."""

    @abstractmethod
    async def close(self) -> None:
        """Ends the parts."""
