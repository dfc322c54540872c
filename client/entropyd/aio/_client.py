"""The asynchronous client.

Owns the public class `entropyd.aio.Client`, the twin of `entropyd.Client`: the same names and arguments, with
awaitables. It must not know how arrays become messages (`_calls`, `_pieces`) or what a gRPC failure means
(`_caller`).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import grpc.aio

from entropyd import _calls, _channel, _modeling_calls, _prefixes
from entropyd._base_client import BaseClient, Opened, Settings
from entropyd._credentials import token_of
from entropyd._pieces import WINDOW, Compression, Decompression, Progress
from entropyd.aio._model import Model
from entropyd.contract.errors import InternalError, UnauthenticatedError
from entropyd.contract.kinds import config_to_message
from entropyd.v1 import info_pb2, model_pb2

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

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
    """A connection to an entropyd server, for one event loop; close it, or use it in `async with`.

    The event loop is that of the first call. The arguments and errors of `entropyd.Client`.
    """

    _grpc: ClassVar[Any] = grpc.aio
    _new_lock: ClassVar[Any] = asyncio.Lock

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

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; calls in flight end with CancelledError."""
        for channel in self._shut():
            await channel.close()

    async def server_info(self) -> ServerInfo:
        """See entropyd.Client.server_info."""
        if self._server_info is None:
            reply = await self._call("info", info_pb2.GetServerInfoRequest())
            self._server_info = _calls.server_info(reply)
        return self._server_info

    async def create_model(self, config: ModelConfig, *, timeout_s: float | None = 600.0) -> Model:
        """See entropyd.Client.create_model."""
        request = model_pb2.CreateModelRequest(config=config_to_message(config))
        reply = await self._call("models", request, config.model_id, timeout_s)
        return Model(self, _calls.model_info(reply.model))

    async def model(self, model_id: str) -> Model:
        """See entropyd.Client.model."""
        model_id = await self._whole_id(model_id)
        reply = await self._call("models", model_pb2.GetModelRequest(model_id=model_id), model_id)
        return Model(self, _calls.model_info(reply.model))

    async def models(self) -> AsyncIterator[Model]:
        """See entropyd.Client.models."""
        page_token = ""
        while True:
            reply = await self._call("models", model_pb2.ListModelsRequest(page_token=page_token))
            for message in reply.models:
                yield Model(self, _calls.model_info(message))
            page_token = reply.next_page_token
            if not page_token:
                return

    async def delete_model(self, model_id: str) -> None:
        """See entropyd.Client.delete_model."""
        model_id = await self._whole_id(model_id)
        await self._call("models", model_pb2.DeleteModelRequest(model_id=model_id), model_id)

    async def compress(
        self,
        model: ModelInfo,
        bottleneck: Any,
        timeout_s: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> MeasuredTensor:
        """See Model.compress."""
        return await self._again(lambda: self._coded(Compression(model, bottleneck), timeout_s, progress))

    async def decompress(
        self,
        model: ModelInfo,
        source: Any,
        broadcast_shape: Sequence[int] | None = None,
        timeout_s: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> npt.NDArray[Any]:
        """See Model.decompress."""
        return await self._again(
            lambda: self._coded(Decompression(model, source, broadcast_shape), timeout_s, progress)
        )

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
        reply = await self._call("models", request, model.id, timeout_s)
        return _modeling_calls.perturbed(reply)

    async def fit_model(
        self,
        config: ModelConfig,
        samples: Any,
        *,
        max_steps: int = 0,
        validation_share: float = 0.1,
        progress: Callable[[FitProgress], None] | None = None,
        timeout_s: float | None = 3600.0,
    ) -> Model:
        """See entropyd.Client.fit_model."""

        async def fit() -> Model:
            requests = _modeling_calls.fit_requests(config, samples, max_steps, validation_share)
            async with self._calling("FitModel", None, timeout_s) as (opened, options):
                call = opened.models.FitModel(requests, **options())
                try:
                    async for reply in call:
                        if reply.HasField("model"):
                            return Model(self, _calls.model_info(reply.model))
                        if progress is not None:
                            progress(_modeling_calls.fit_progress(reply.progress))
                finally:
                    call.cancel()
                raise InternalError("the server ended a fit without a model")

        return await self._again(fit)

    async def import_model(self, exported: bytes, *, timeout_s: float | None = None) -> Model:
        """See entropyd.Client.import_model."""
        reply = await self._call("models", model_pb2.ImportModelRequest(object=exported), None, timeout_s)
        return Model(self, _calls.model_info(reply.model))

    async def export_model(self, model: ModelInfo) -> bytes:
        """See Model.export."""
        reply = await self._call("models", model_pb2.ExportModelRequest(model_id=model.id), model.id)
        return bytes(reply.object)

    async def weights(self, model: ModelInfo) -> list[npt.NDArray[Any]]:
        """See Model.get_weights."""
        request = model_pb2.GetWeightsRequest(model_id=model.id)
        return _modeling_calls.weights(await self._call("models", request, model.id))

    async def set_weights(self, model: ModelInfo, weights: Sequence[Any]) -> Model:
        """See Model.set_weights."""
        request = _modeling_calls.set_weights_request(model, weights)
        reply = await self._call("models", request, model.id)
        return Model(self, _calls.model_info(reply.model))

    async def tables(self, model_id: str) -> RawTables:
        """The coding tables of a model."""
        request = model_pb2.GetTablesRequest(model_id=model_id)
        return _modeling_calls.tables(await self._call("models", request, model_id))

    async def _whole_id(self, model_id: str) -> str:
        if not _prefixes.is_prefix(model_id):
            return model_id
        search = _prefixes.Search(model_id)
        while (request := search.request()) is not None:
            search.add(await self._call("models", request))
        return search.model_id()

    async def _coded(
        self, work: Work[_Result], timeout_s: float | None, progress: Callable[[int, int], None] | None
    ) -> _Result:
        """The result of some work, whose calls are made up to WINDOW at a time, under one span."""
        meter = Progress(progress, work.units)
        flying: deque[tuple[Any, int]] = deque()

        async def land() -> None:
            call, units = flying.popleft()
            work.add(await call)
            meter.add(units)

        async with self._calling(work.method, work.model.id, timeout_s) as (opened, options):
            method = getattr(opened.coding, work.method)
            try:
                for request, units in work.requests():
                    await self._check_size(request)
                    if len(flying) == WINDOW:
                        await land()
                    flying.append((method(request, **options()), units))
                while flying:
                    await land()
            finally:
                for call, _ in flying:
                    call.cancel()
        return work.result()

    async def _check_size(self, request: Any) -> None:
        if request.ByteSize() > _calls.UNCHECKED_BYTES:
            _calls.check_size(request, await self.server_info())

    async def _call(
        self, service: str, request: Any, model_id: str | None = None, timeout_s: float | None = None
    ) -> Any:
        await self._check_size(request)
        method = _calls.method_of(request)

        async def call() -> Any:
            async with self._calling(method, model_id, timeout_s) as (opened, options):
                return await getattr(getattr(opened, service), method)(request, **options())

        return await self._again(call)

    async def _again(self, call: Callable[[], Awaitable[_Result]]) -> _Result:
        """What a call gives; it is made again, once, where a token was refused that may have changed."""
        try:
            return await call()
        except UnauthenticatedError:
            if not self._settings.token_may_change:
                raise
            return await call()

    @asynccontextmanager
    async def _calling(
        self, method: str, model_id: str | None, timeout_s: float | None
    ) -> AsyncIterator[tuple[Opened, Callable[[], dict[str, Any]]]]:
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
                await self._probe(opened, time.monotonic() - began)
                if opened.unreachable is not None:
                    raise opened.unreachable from None
                raise

    async def _probe(self, opened: Opened, waited_s: float) -> None:
        """Asks every address of a channel for an answer, after a call that waited for its own in vain."""
        async with opened.probing:
            if self._needs_probe(opened):
                limit_s = _channel.probe_timeout_s(waited_s)
                calls = [opened.probe(b"", timeout=limit_s) for _ in range(_channel.PROBES)]
                outcomes = await asyncio.gather(*calls, return_exceptions=True)
                self._judge(opened, [outcome for outcome in outcomes if isinstance(outcome, grpc.RpcError)])
