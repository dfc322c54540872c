"""Makes awaitable calls; `entropyd._session` has the same methods and describes them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, ClassVar, TypeVar

import grpc.aio

from entropyd import _channel, _messages
from entropyd._caller import without_calls
from entropyd._chunking import WINDOW, Progress, Work
from entropyd._info import ModelInfo, ServerInfo
from entropyd._messages import Call, FitProgress
from entropyd._session_base import NO_SYMBOLS, Opened, SessionBase
from entropyd._symbols import Symbols, needs_tables
from entropyd.contract.errors import EntropydError, InternalError, InvalidTensorError, UnauthenticatedError

_Result = TypeVar("_Result")


class Session(SessionBase):
    """A connection to a server, opened by the first call, for the event loop of that call."""

    _grpc: ClassVar[Any] = grpc.aio
    _new_lock: ClassVar[Any] = asyncio.Lock

    async def close(self) -> None:
        for channel in self._shut():
            await channel.close()

    async def server_info(self, timeout_s: float | None = None) -> ServerInfo:
        if self._server_info is None:
            self._server_info = await self.call(_messages.get_server_info(), timeout_s)
        return self._server_info

    async def symbols(self, model: ModelInfo, timeout_s: float | None) -> Symbols | None:
        wire = self.settings.wire
        began = time.monotonic()
        try:
            if wire == "float" or (wire == "auto" and not (await self.server_info(timeout_s)).symbols):
                return None
            tables = None
            if needs_tables(model.config):
                tables = await self.call(_messages.get_tables(model), self._rest_s(timeout_s, began))
        except NO_SYMBOLS:
            return None
        return Symbols(model.config, tables)

    async def call(self, call: Call[_Result], timeout_s: float | None = None) -> _Result:
        request = call.request.SerializeToString()
        began = time.monotonic()
        await self._check_size(len(request), timeout_s)
        rest_s = self._rest_s(timeout_s, began)

        async def response() -> Any:
            async with self._calling(call.method, call.model_id, rest_s) as (opened, options):
                return await _response(call.method, opened.methods[call.method], request, options)

        return call.read(await self._again(response))

    async def run(
        self,
        new_work: Callable[[], Work[_Result]],
        symbols: Callable[[float | None], Awaitable[Symbols | None]],
        timeout_s: float | None,
        progress: Callable[[int, int], None] | None,
    ) -> _Result:
        async def run() -> _Result:
            began = time.monotonic()
            work = new_work()
            work.symbols = await symbols(timeout_s)
            try:
                return await self._run(work, self._rest_s(timeout_s, began), progress)
            except InvalidTensorError:
                if not work.sent_symbols:
                    raise
            return await self._run(new_work(), self._rest_s(timeout_s, began), progress)

        return await self._again(run)

    async def fit(
        self,
        new_requests: Callable[[], Iterable[Any]],
        timeout_s: float | None,
        progress: Callable[[FitProgress], None] | None,
    ) -> ModelInfo:
        async def fit() -> ModelInfo:
            requests = new_requests()
            async with self._calling("FitModel", None, timeout_s) as (opened, options):
                responses = opened.methods["FitModel"](requests, **options())
                try:
                    async for response in responses:
                        if (model := _messages.fitted(response, progress)) is not None:
                            return model
                finally:
                    responses.cancel()
                raise InternalError("the server ended a fit without a model")

        return await self._again(fit)

    async def _run(
        self, work: Work[_Result], timeout_s: float | None, progress: Callable[[int, int], None] | None
    ) -> _Result:
        meter = Progress(progress, work.units)
        in_flight: deque[tuple[bytes, Any, int]] = deque()
        began = time.monotonic()

        async def finish_first() -> None:
            request, call, units = in_flight.popleft()
            work.add(await _response(work.method, method, request, options, call))
            meter.add(units)

        async with self._calling(work.method, work.model.id, timeout_s) as (opened, options):
            method = opened.methods[work.method]
            try:
                for request, units in work.requests():
                    await self._check_size(len(request), self._rest_s(timeout_s, began))
                    if len(in_flight) == WINDOW:
                        await finish_first()
                    in_flight.append((request, method(request, **options()), units))
                while in_flight:
                    await finish_first()
            finally:
                for _, call, _ in in_flight:
                    call.cancel()
        return work.result()

    async def _check_size(self, request_bytes: int, timeout_s: float | None) -> None:
        if request_bytes > _messages.UNCHECKED_BYTES:
            _messages.check_bytes(request_bytes, await self.server_info(timeout_s))

    async def _again(self, call: Callable[[], Awaitable[_Result]]) -> _Result:
        try:
            try:
                return await call()
            except UnauthenticatedError:
                if not self.settings.token_may_change:
                    raise
            return await call()
        except EntropydError as error:
            without_calls(error)
            raise

    @asynccontextmanager
    async def _calling(
        self, method: str, model_id: str | None, timeout_s: float | None
    ) -> AsyncIterator[tuple[Opened, Callable[[], dict[str, Any]]]]:
        opened = self._opened()
        began = time.monotonic()
        with opened.caller.call(method, model_id, timeout_s) as options:
            try:
                yield opened, options
            except grpc.RpcError as failure:
                if not _channel.unanswered(failure):
                    raise
                await self._probe(opened, time.monotonic() - began)
                raise opened.unreachable or failure from None

    async def _probe(self, opened: Opened, waited_s: float) -> None:
        async with opened.probing:
            if self._needs_probe(opened):
                limit_s = _channel.probe_timeout_s(waited_s)
                calls = [opened.probe(b"", timeout=limit_s) for _ in range(_channel.PROBES)]
                outcomes = await asyncio.gather(*calls, return_exceptions=True)
                self._judge(opened, [outcome for outcome in outcomes if isinstance(outcome, grpc.RpcError)])


async def _response(
    name: str, method: Any, request: bytes, options: Callable[[], dict[str, Any]], begun: Any = None
) -> Any:
    try:
        return await (method(request, **options()) if begun is None else begun)
    except grpc.RpcError as failure:
        if not _channel.repeats(name, failure):
            raise
        return await method(request, **options())
