"""The blocking client.

Owns the public class `Client`, which makes every call. It must not know how arrays become messages (`_calls`,
`_pieces`) or what a gRPC failure means (`_caller`).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import grpc

from entropyd import _calls, _channel, _modeling_calls, _prefixes
from entropyd._base_client import BaseClient, Opened, Settings
from entropyd._credentials import token_of
from entropyd._model import Model
from entropyd._pieces import WINDOW, Compression, Decompression, Progress
from entropyd.contract.errors import InternalError, UnauthenticatedError
from entropyd.contract.kinds import config_to_message
from entropyd.v1 import info_pb2, model_pb2

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt
    from typing_extensions import Self

    from entropyd._calls import ModelInfo, ServerInfo
    from entropyd._modeling_calls import FitProgress, Perturbed
    from entropyd._pieces import Work
    from entropyd.archive import MeasuredTensor
    from entropyd.contract.config import ModelConfig
    from entropyd.contract.tables import RawTables

_Result = TypeVar("_Result")


class Client(BaseClient):
    """A connection to an entropyd server. Thread-safe; close it, or use it in a `with` statement.

    It connects when it is first used. It can be pickled and copied: the copy connects anew.

    Args:
      target: `HOST:PORT`, `unix:PATH`, or another gRPC target.
      credentials: Channel credentials for TLS, as `entropyd.tls_credentials` makes them; None for plain text.
      token: Bearer token to send with every call, or a function that returns it, which is asked before every
        call; without credentials, only to a server on this machine.
      token_file: File that holds nothing but the token, in place of `token`; read before every call.
      timeout_s: Longest time for a call, in seconds, where the call names none; None for no limit.
      tracing: Whether each call is a span of the application's OpenTelemetry traces, which the server's own
        spans continue; needs `entropyd[tracing]`.

    Every call raises the errors of `entropyd.EntropydError`'s tree, UnavailableError where no server answers,
    and DeadlineExceededError past its time.

    A token given as text, a function that cannot be pickled, and credentials that gRPC made are not pickled:
    TypeError.

    Raises:
      OSError: If a file cannot be read.
      ValueError: If the target names no server, `timeout_s` is no time, or the token cannot be sent or would
        cross a network in plain text.
    """

    _grpc: ClassVar[Any] = grpc
    _new_lock: ClassVar[Any] = threading.Lock

    def __init__(
        self,
        target: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        token: str | Callable[[], str] | None = None,
        token_file: str | os.PathLike[str] | None = None,
        timeout_s: float | None = 60.0,
        tracing: bool = False,
    ) -> None:
        settings = Settings(target, credentials, token_of(token, token_file), timeout_s, tracing)
        settings.check()
        super().__init__(settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; calls in flight end with CancelledError."""
        for channel in self._shut():
            channel.close()

    def server_info(self) -> ServerInfo:
        """Version, roles, devices and limits of the server; asked for once."""
        with self._server_info_lock:
            if self._server_info is None:
                reply = self._call("info", info_pb2.GetServerInfoRequest())
                self._server_info = _calls.server_info(reply)
            return self._server_info

    def create_model(self, config: ModelConfig, *, timeout_s: float | None = 600.0) -> Model:
        """Makes the model of a configuration, or finds it.

        Building tables takes seconds, minutes for thousands of channels. A build is cancelled when all who
        wait for it have left: after DeadlineExceededError, call again with more time.

        Raises:
          InvalidConfigError: If no tables can be built from it; names the field.
          LimitExceededError: If its tables exceed a limit of the server.
          OverloadedError: If too many models of this caller, or of all, are being made.
        """
        request = model_pb2.CreateModelRequest(config=config_to_message(config))
        reply = self._call("models", request, config.model_id, timeout_s)
        return Model(self, _calls.model_info(reply.model))

    def model(self, model_id: str) -> Model:
        """The model of an id.

        Args:
          model_id: The id, or its first digits: at least 6, which no other id of the server begins with. They
            take one call more.

        Raises:
          ModelNotFoundError: If the server has none.
          InvalidRequestError: If several ids begin with these digits; names them.
          DataLossError: If the stored model is damaged.
        """
        model_id = self._whole_id(model_id)
        reply = self._call("models", model_pb2.GetModelRequest(model_id=model_id), model_id)
        return Model(self, _calls.model_info(reply.model))

    def models(self) -> Iterator[Model]:
        """All models in order of their ids, read page by page; damaged ones are left out."""
        page_token = ""
        while True:
            reply = self._call("models", model_pb2.ListModelsRequest(page_token=page_token))
            for message in reply.models:
                yield Model(self, _calls.model_info(message))
            page_token = reply.next_page_token
            if not page_token:
                return

    def delete_model(self, model_id: str) -> None:
        """Removes a model. What was compressed with it can then no longer be decoded by this server.

        Args:
          model_id: As for `model`.

        Raises:
          ModelNotFoundError: If the server has none.
          InvalidRequestError: If several ids begin with these digits; names them.
        """
        model_id = self._whole_id(model_id)
        self._call("models", model_pb2.DeleteModelRequest(model_id=model_id), model_id)

    def compress(
        self,
        model: ModelInfo,
        bottleneck: Any,
        timeout_s: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> MeasuredTensor:
        """See Model.compress."""
        return self._again(lambda: self._coded(Compression(model, bottleneck), timeout_s, progress))

    def decompress(
        self,
        model: ModelInfo,
        source: Any,
        broadcast_shape: Sequence[int] | None = None,
        timeout_s: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> npt.NDArray[Any]:
        """See Model.decompress."""
        return self._again(
            lambda: self._coded(Decompression(model, source, broadcast_shape), timeout_s, progress)
        )

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
        reply = self._call("models", request, model.id, timeout_s)
        return _modeling_calls.perturbed(reply)

    def fit_model(
        self,
        config: ModelConfig,
        samples: Any,
        *,
        max_steps: int = 0,
        validation_share: float = 0.1,
        progress: Callable[[FitProgress], None] | None = None,
        timeout_s: float | None = 3600.0,
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

        def fit() -> Model:
            requests = _modeling_calls.fit_requests(config, samples, max_steps, validation_share)
            with self._calling("FitModel", None, timeout_s) as (opened, options):
                call = opened.models.FitModel(requests, **options())
                try:
                    for reply in call:
                        if reply.HasField("model"):
                            return Model(self, _calls.model_info(reply.model))
                        if progress is not None:
                            progress(_modeling_calls.fit_progress(reply.progress))
                finally:
                    call.cancel()
                raise InternalError("the server ended a fit without a model")

        return self._again(fit)

    def import_model(self, exported: bytes, *, timeout_s: float | None = None) -> Model:
        """Stores a model that was exported from another server, under the same id and without building.

        Args:
          exported: What `Model.export` returned there.
          timeout_s: Longest time for the call, in seconds.

        Raises:
          InvalidRequestError: If it is no exported model, or was damaged.
          TablesMismatchError: If this server has the model with other tables.
        """
        reply = self._call("models", model_pb2.ImportModelRequest(object=exported), None, timeout_s)
        return Model(self, _calls.model_info(reply.model))

    def export_model(self, model: ModelInfo) -> bytes:
        """See Model.export."""
        reply = self._call("models", model_pb2.ExportModelRequest(model_id=model.id), model.id)
        return bytes(reply.object)

    def weights(self, model: ModelInfo) -> list[npt.NDArray[Any]]:
        """See Model.get_weights."""
        request = model_pb2.GetWeightsRequest(model_id=model.id)
        return _modeling_calls.weights(self._call("models", request, model.id))

    def set_weights(self, model: ModelInfo, weights: Sequence[Any]) -> Model:
        """See Model.set_weights."""
        request = _modeling_calls.set_weights_request(model, weights)
        reply = self._call("models", request, model.id)
        return Model(self, _calls.model_info(reply.model))

    def tables(self, model_id: str) -> RawTables:
        """The coding tables of a model."""
        request = model_pb2.GetTablesRequest(model_id=model_id)
        return _modeling_calls.tables(self._call("models", request, model_id))

    def _whole_id(self, model_id: str) -> str:
        if not _prefixes.is_prefix(model_id):
            return model_id
        search = _prefixes.Search(model_id)
        while (request := search.request()) is not None:
            search.add(self._call("models", request))
        return search.model_id()

    def _coded(
        self, work: Work[_Result], timeout_s: float | None, progress: Callable[[int, int], None] | None
    ) -> _Result:
        """The result of some work, whose calls are made up to WINDOW at a time, under one span."""
        meter = Progress(progress, work.units)
        flying: deque[tuple[Any, int]] = deque()

        def land() -> None:
            call, units = flying.popleft()
            work.add(call.result())
            meter.add(units)

        with self._calling(work.method, work.model.id, timeout_s) as (opened, options):
            method = getattr(opened.coding, work.method)
            try:
                for request, units in work.requests():
                    self._check_size(request)
                    if units == work.units:  # one call needs no pipeline
                        work.add(method(request, **options()))
                        meter.add(units)
                        return work.result()
                    if len(flying) == WINDOW:
                        land()
                    flying.append((method.future(request, **options()), units))
                while flying:
                    land()
            finally:
                for call, _ in flying:
                    call.cancel()
        return work.result()

    def _check_size(self, request: Any) -> None:
        if request.ByteSize() > _calls.UNCHECKED_BYTES:
            _calls.check_size(request, self.server_info())

    def _call(
        self, service: str, request: Any, model_id: str | None = None, timeout_s: float | None = None
    ) -> Any:
        self._check_size(request)
        method = _calls.method_of(request)

        def call() -> Any:
            with self._calling(method, model_id, timeout_s) as (opened, options):
                return getattr(getattr(opened, service), method)(request, **options())

        return self._again(call)

    def _again(self, call: Callable[[], _Result]) -> _Result:
        """What a call gives; it is made again, once, where a token was refused that may have changed."""
        try:
            return call()
        except UnauthenticatedError:
            if not self._settings.token_may_change:
                raise
            return call()

    @contextmanager
    def _calling(
        self, method: str, model_id: str | None, timeout_s: float | None
    ) -> Iterator[tuple[Opened, Callable[[], dict[str, Any]]]]:
        """The channel of one call and its options, see Caller.call.

        A call that had no answer is followed by probes: where there is no connection it says so.
        """
        opened = self._opened()
        began = time.monotonic()
        with opened.caller.call(method, model_id, timeout_s) as options:
            try:
                yield opened, options
            except grpc.RpcError as failure:
                if not _channel.unanswered(failure):
                    raise
                self._probe(opened, time.monotonic() - began)
                if opened.unreachable is not None:
                    raise opened.unreachable from None
                raise

    def _probe(self, opened: Opened, waited_s: float) -> None:
        """Asks every address of a channel for an answer, after a call that waited for its own in vain."""
        with opened.probing:
            if self._needs_probe(opened):
                limit_s = _channel.probe_timeout_s(waited_s)
                calls = [opened.probe.future(b"", timeout=limit_s) for _ in range(_channel.PROBES)]
                self._judge(opened, [call for call in calls if call.code() is not grpc.StatusCode.OK])
