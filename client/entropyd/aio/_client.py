"""The asynchronous client.

Owns the public class `entropyd.aio.Client`, the twin of `entropyd.Client`: the same names and arguments, with
awaitables. It must not know how arrays become messages (`_calls`, `_pieces`) or what a gRPC failure means
(`_channel`).
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

import grpc

from entropyd import _calls, _channel, _modeling_calls
from entropyd._credentials import check_token
from entropyd._pieces import WINDOW, Compression, Decompression, Progress
from entropyd._tracing import spans
from entropyd.aio._model import Model
from entropyd.contract.errors import InternalError
from entropyd.contract.wire import array_from_message, config_to_message
from entropyd.v1 import (
    coding_pb2_grpc,
    info_pb2,
    info_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from types import TracebackType

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Self

    from entropyd._calls import ModelInfo, ServerInfo
    from entropyd._modeling_calls import FitProgress, Perturbed
    from entropyd._pieces import Work
    from entropyd.archive import CompressedTensor
    from entropyd.contract.config import UniversalBatchedConfig


class Client:
    """A connection to an entropyd server, for one event loop; close it, or use it in `async with`.

    The arguments and errors of `entropyd.Client`.
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
            grpc.aio.insecure_channel(target, _channel.OPTIONS)
            if credentials is None
            else grpc.aio.secure_channel(target, credentials, _channel.OPTIONS)
        )
        self._token = token
        self._spans = spans(tracing=tracing)
        self._timeout_s = timeout_s
        self._coding: Any = coding_pb2_grpc.CodingServiceStub(self._channel)
        self._models: Any = model_pb2_grpc.ModelServiceStub(self._channel)
        self._info: Any = info_pb2_grpc.InfoServiceStub(self._channel)
        self._server_info: ServerInfo | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; calls in flight end with CancelledError."""
        await self._channel.close()

    async def server_info(self) -> ServerInfo:
        """See entropyd.Client.server_info."""
        if self._server_info is None:
            reply = await self._call(self._info.GetServerInfo, info_pb2.GetServerInfoRequest())
            self._server_info = _calls.server_info(reply)
        return self._server_info

    async def create_model(self, config: UniversalBatchedConfig, *, timeout_s: float = 600.0) -> Model:
        """See entropyd.Client.create_model."""
        request = model_pb2.CreateModelRequest(config=config_to_message(config))
        reply = await self._call(self._models.CreateModel, request, config.model_id, timeout_s)
        return Model(self, _calls.model_info(reply.model))

    async def model(self, model_id: str) -> Model:
        """See entropyd.Client.model."""
        request = model_pb2.GetModelRequest(model_id=model_id)
        reply = await self._call(self._models.GetModel, request, model_id)
        return Model(self, _calls.model_info(reply.model))

    async def models(self) -> AsyncIterator[Model]:
        """See entropyd.Client.models."""
        page_token = ""
        while True:
            request = model_pb2.ListModelsRequest(page_token=page_token)
            reply = await self._call(self._models.ListModels, request)
            for message in reply.models:
                yield Model(self, _calls.model_info(message))
            page_token = reply.next_page_token
            if not page_token:
                return

    async def delete_model(self, model_id: str) -> None:
        """See entropyd.Client.delete_model."""
        request = model_pb2.DeleteModelRequest(model_id=model_id)
        await self._call(self._models.DeleteModel, request, model_id)

    async def compress(
        self,
        model: ModelInfo,
        bottleneck: Any,
        timeout_s: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> CompressedTensor:
        """See Model.compress."""
        work = Compression(model, bottleneck)
        await self._code(self._coding.Compress, work, model.id, timeout_s, progress)
        return work.result()

    async def decompress(
        self,
        model: ModelInfo,
        source: Any,
        broadcast_shape: Sequence[int] | None = None,
        timeout_s: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> npt.NDArray[Any]:
        """See Model.decompress."""
        work = Decompression(model, source, broadcast_shape)
        await self._code(self._coding.Decompress, work, model.id, timeout_s, progress)
        return work.result()

    async def perturb(
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
        reply = await self._call(self._models.Perturb, request, model.id, timeout_s)
        return _modeling_calls.perturbed(reply)

    async def fit_model(
        self,
        config: UniversalBatchedConfig,
        samples: Any,
        *,
        max_steps: int = 0,
        validation_share: float = 0.1,
        progress: Callable[[FitProgress], None] | None = None,
        timeout_s: float = 3600.0,
    ) -> Model:
        """See entropyd.Client.fit_model."""
        requests = _modeling_calls.fit_requests(config, samples, max_steps, validation_share)
        with self._spans.around("FitModel", _channel.metadata(self._token)) as metadata:
            call = self._models.FitModel(requests, timeout=timeout_s, metadata=metadata)
            try:
                async for reply in call:
                    if reply.HasField("model"):
                        return Model(self, _calls.model_info(reply.model))
                    if progress is not None:
                        progress(_modeling_calls.fit_progress(reply.progress))
            except grpc.RpcError as failure:
                raise _channel.to_error(failure) from None
            finally:
                call.cancel()
            raise InternalError("the server ended a fit without a model")

    async def import_model(self, exported: bytes, *, timeout_s: float | None = None) -> Model:
        """See entropyd.Client.import_model."""
        request = model_pb2.ImportModelRequest(object=exported)
        reply = await self._call(self._models.ImportModel, request, None, timeout_s)
        return Model(self, _calls.model_info(reply.model))

    async def export_model(self, model: ModelInfo) -> bytes:
        """See Model.export."""
        request = model_pb2.ExportModelRequest(model_id=model.id)
        reply = await self._call(self._models.ExportModel, request, model.id)
        return bytes(reply.object)

    async def weights(self, model: ModelInfo) -> list[npt.NDArray[Any]]:
        """See Model.get_weights."""
        request = model_pb2.GetWeightsRequest(model_id=model.id)
        return _modeling_calls.weights(await self._call(self._models.GetWeights, request, model.id))

    async def set_weights(self, model: ModelInfo, weights: Sequence[Any]) -> Model:
        """See Model.set_weights."""
        request = _modeling_calls.set_weights_request(model, weights)
        reply = await self._call(self._models.SetWeights, request, model.id)
        return Model(self, _calls.model_info(reply.model))

    async def tables(self, model_id: str) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """The coding tables of a model: `cdf` and `cdf_offset` of entropyd.Model."""
        request = model_pb2.GetTablesRequest(model_id=model_id)
        reply = await self._call(self._models.GetTables, request, model_id)
        return (
            array_from_message(reply.tables.cdf, "tables.cdf")[1],
            array_from_message(reply.tables.cdf_offset, "tables.cdf_offset")[1],
        )

    async def _code(
        self,
        method: Any,
        work: Work,
        model_id: str,
        timeout_s: float | None,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        """Makes the calls of some work, up to WINDOW at a time, under one span."""
        with self._spans.around(work.method, _channel.metadata(self._token, model_id)) as metadata:
            await self._code_pieces(method, work, metadata, timeout_s, progress)

    async def _code_pieces(
        self,
        method: Any,
        work: Work,
        metadata: list[tuple[str, str]],
        timeout_s: float | None,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        until = time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        meter = Progress(progress, work.units)
        flying: deque[tuple[Any, int]] = deque()

        async def land() -> None:
            call, units = flying.popleft()
            work.add(await call)
            meter.add(units)

        try:
            for request, units in work.requests():
                await self._check_size(request)
                if len(flying) == WINDOW:
                    await land()
                call = method(request, timeout=until - time.monotonic(), metadata=metadata)
                flying.append((call, units))
            while flying:
                await land()
        except grpc.RpcError as failure:
            raise _channel.to_error(failure) from None
        finally:
            for call, _ in flying:
                call.cancel()

    async def _check_size(self, request: Any) -> None:
        if request.ByteSize() > _calls.UNCHECKED_BYTES:
            _calls.check_size(request, await self.server_info())

    async def _call(
        self, method: Any, request: Any, model_id: str | None = None, timeout_s: float | None = None
    ) -> Any:
        await self._check_size(request)
        entries = _channel.metadata(self._token, model_id)
        with self._spans.around(_channel.method_of(request), entries) as metadata:
            try:
                return await method(
                    request, timeout=self._timeout_s if timeout_s is None else timeout_s, metadata=metadata
                )
            except grpc.RpcError as failure:
                raise _channel.to_error(failure) from None
