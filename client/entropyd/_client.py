"""The blocking client.

Owns the public class `Client`, which makes every call. It must not know how arrays become messages (`_calls`,
`_pieces`) or what a gRPC failure means (`_caller`).
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any

import grpc

from entropyd import _calls, _channel, _modeling_calls
from entropyd._caller import Caller
from entropyd._credentials import check_token
from entropyd._model import Model
from entropyd._pieces import WINDOW, Compression, Decompression, Progress
from entropyd.contract.errors import InternalError
from entropyd.contract.wire import config_to_message
from entropyd.v1 import (
    coding_pb2_grpc,
    info_pb2,
    info_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Self

    from entropyd._calls import ModelInfo, ServerInfo
    from entropyd._modeling_calls import FitProgress, Perturbed
    from entropyd._pieces import Work
    from entropyd.archive import CompressedTensor
    from entropyd.contract.config import UniversalBatchedConfig


class Client:
    """A connection to an entropyd server. Thread-safe; close it, or use it in a `with` statement.

    Args:
      target: `HOST:PORT`, `unix:PATH`, or another gRPC target.
      credentials: Channel credentials for TLS, as `entropyd.tls_credentials` makes them; None for plain text.
      token: Bearer token to send with every call; without credentials, only to a server on this machine.
      timeout_s: Longest time for a call, in seconds, where the call names none.
      tracing: Whether each call is a span of the application's OpenTelemetry traces, which the server's own
        spans continue; needs `entropyd[tracing]`.

    Every call raises the errors of `entropyd.EntropydError`'s tree, UnavailableError where no server answers,
    and DeadlineExceededError past its time.

    Raises:
      ValueError: If the token cannot be sent, or would cross a network in plain text.
    """

    def __init__(
        self,
        target: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        token: str | None = None,
        timeout_s: float = 60.0,
        tracing: bool = False,
    ) -> None:
        check_token(target, credentials, token)
        self._channel = (
            grpc.insecure_channel(target, _channel.OPTIONS)
            if credentials is None
            else grpc.secure_channel(target, credentials, _channel.OPTIONS)
        )
        self._caller = Caller(token, timeout_s, tracing=tracing)
        self._coding = coding_pb2_grpc.CodingServiceStub(self._channel)
        self._models = model_pb2_grpc.ModelServiceStub(self._channel)
        self._info = info_pb2_grpc.InfoServiceStub(self._channel)
        self._server_info: ServerInfo | None = None
        self._server_info_lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; calls in flight end with CancelledError."""
        self._channel.close()

    def server_info(self) -> ServerInfo:
        """Version, roles, devices and limits of the server; asked for once."""
        with self._server_info_lock:
            if self._server_info is None:
                reply = self._call(self._info, info_pb2.GetServerInfoRequest())
                self._server_info = _calls.server_info(reply)
            return self._server_info

    def create_model(self, config: UniversalBatchedConfig, *, timeout_s: float = 600.0) -> Model:
        """Makes the model of a configuration, or finds it.

        Building tables takes seconds, minutes for thousands of channels. A build is cancelled when all who
        wait for it have left: after DeadlineExceededError, call again with more time.

        Raises:
          InvalidConfigError: If no tables can be built from it; names the field.
          LimitExceededError: If its tables exceed a limit of the server.
          OverloadedError: If too many models of this caller, or of all, are being made.
        """
        request = model_pb2.CreateModelRequest(config=config_to_message(config))
        reply = self._call(self._models, request, config.model_id, timeout_s)
        return Model(self, _calls.model_info(reply.model))

    def model(self, model_id: str) -> Model:
        """The model of an id.

        Raises:
          ModelNotFoundError: If the server has none.
          DataLossError: If the stored model is damaged.
        """
        reply = self._call(self._models, model_pb2.GetModelRequest(model_id=model_id), model_id)
        return Model(self, _calls.model_info(reply.model))

    def models(self) -> Iterator[Model]:
        """All models in order of their ids, read page by page; damaged ones are left out."""
        page_token = ""
        while True:
            reply = self._call(self._models, model_pb2.ListModelsRequest(page_token=page_token))
            for message in reply.models:
                yield Model(self, _calls.model_info(message))
            page_token = reply.next_page_token
            if not page_token:
                return

    def delete_model(self, model_id: str) -> None:
        """Removes a model. What was compressed with it can then no longer be decoded by this server.

        Raises:
          ModelNotFoundError: If the server has none.
        """
        self._call(self._models, model_pb2.DeleteModelRequest(model_id=model_id), model_id)

    def compress(
        self,
        model: ModelInfo,
        bottleneck: Any,
        timeout_s: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> CompressedTensor:
        """See Model.compress."""
        work = Compression(model, bottleneck)
        self._code(work, timeout_s, progress)
        return work.result()

    def decompress(
        self,
        model: ModelInfo,
        source: Any,
        broadcast_shape: Sequence[int] | None = None,
        timeout_s: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> npt.NDArray[Any]:
        """See Model.decompress."""
        work = Decompression(model, source, broadcast_shape)
        self._code(work, timeout_s, progress)
        return work.result()

    def perturb(
        self,
        model: ModelInfo,
        bottleneck: Any,
        *,
        training: bool,
        gradient: bool,
        timeout_s: float | None = None,
    ) -> Perturbed:
        """See Model.perturb."""
        request = _modeling_calls.perturb_request(model, bottleneck, training=training, gradient=gradient)
        reply = self._call(self._models, request, model.id, timeout_s)
        return _modeling_calls.perturbed(reply)

    def fit_model(
        self,
        config: UniversalBatchedConfig,
        samples: Any,
        *,
        max_steps: int = 0,
        validation_share: float = 0.1,
        progress: Callable[[FitProgress], None] | None = None,
        timeout_s: float = 3600.0,
    ) -> Model:
        """Fits a prior to samples of a bottleneck, and makes the model.

        Args:
          config: The model; the parameters of its prior are starting values, see
            `entropyd.fitting.starting_prior`.
          samples: Any leading axes, then prior_shape; of bottleneck_dtype, or nested lists of numbers.
          max_steps: Most optimiser steps; 0 for the server's default. A fit that converges ends sooner.
          validation_share: Share of the samples that is held out to judge convergence.
          progress: Called a few times a second; what it raises ends the fit.
          timeout_s: Longest time for the fit, in seconds.

        Raises:
          InvalidTensorError: For samples of wrong dtype or shape, not finite, too few, or all the same.
          InvalidConfigError: If the fit diverges, or no tables can be built from its result.
          LimitExceededError: If the samples exceed a limit of the server.
          UnavailableError: WORKER_LOST, if the fit was lost with the process that ran it. Whether to begin
            anew is up to the caller.
        """
        requests = _modeling_calls.fit_requests(config, samples, max_steps, validation_share)
        with self._caller.call("FitModel", None, timeout_s) as options:
            call = self._models.FitModel(requests, **options())
            try:
                for reply in call:
                    if reply.HasField("model"):
                        return Model(self, _calls.model_info(reply.model))
                    if progress is not None:
                        progress(_modeling_calls.fit_progress(reply.progress))
            finally:
                call.cancel()
            raise InternalError("the server ended a fit without a model")

    def import_model(self, exported: bytes, *, timeout_s: float | None = None) -> Model:
        """Stores a model that was exported from another server, under the same id and without building.

        Args:
          exported: What `Model.export` returned there.
          timeout_s: Longest time for the call, in seconds.

        Raises:
          InvalidRequestError: If it is no exported model, or was damaged.
          TablesMismatchError: If this server has the model with other tables.
        """
        reply = self._call(self._models, model_pb2.ImportModelRequest(object=exported), None, timeout_s)
        return Model(self, _calls.model_info(reply.model))

    def export_model(self, model: ModelInfo) -> bytes:
        """See Model.export."""
        reply = self._call(self._models, model_pb2.ExportModelRequest(model_id=model.id), model.id)
        return bytes(reply.object)

    def weights(self, model: ModelInfo) -> list[npt.NDArray[Any]]:
        """See Model.get_weights."""
        request = model_pb2.GetWeightsRequest(model_id=model.id)
        return _modeling_calls.weights(self._call(self._models, request, model.id))

    def set_weights(self, model: ModelInfo, weights: Sequence[Any]) -> Model:
        """See Model.set_weights."""
        request = _modeling_calls.set_weights_request(model, weights)
        reply = self._call(self._models, request, model.id)
        return Model(self, _calls.model_info(reply.model))

    def tables(self, model_id: str) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """The coding tables of a model: see Model.cdf and Model.cdf_offset."""
        request = model_pb2.GetTablesRequest(model_id=model_id)
        return _modeling_calls.tables(self._call(self._models, request, model_id))

    def _code(self, work: Work, timeout_s: float | None, progress: Callable[[int, int], None] | None) -> None:
        """Makes the calls of some work, up to WINDOW at a time, under one span."""
        method = getattr(self._coding, work.method)
        meter = Progress(progress, work.units)
        flying: deque[tuple[Any, int]] = deque()

        def land() -> None:
            call, units = flying.popleft()
            work.add(call.result())
            meter.add(units)

        with self._caller.call(work.method, work.model.id, timeout_s) as options:
            try:
                for request, units in work.requests():
                    self._check_size(request)
                    if units == work.units:  # one call needs no pipeline
                        work.add(method(request, **options()))
                        return meter.add(units)
                    if len(flying) == WINDOW:
                        land()
                    flying.append((method.future(request, **options()), units))
                while flying:
                    land()
            finally:
                for call, _ in flying:
                    call.cancel()

    def _check_size(self, request: Any) -> None:
        if request.ByteSize() > _calls.UNCHECKED_BYTES:
            _calls.check_size(request, self.server_info())

    def _call(
        self, stub: Any, request: Any, model_id: str | None = None, timeout_s: float | None = None
    ) -> Any:
        self._check_size(request)
        method = _calls.method_of(request)
        with self._caller.call(method, model_id, timeout_s) as options:
            return getattr(stub, method)(request, **options())
