"""Makes blocking calls."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

import grpc

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
    """A connection to a server, opened by the first call. Thread-safe."""

    _grpc: ClassVar[Any] = grpc
    _new_lock: ClassVar[Any] = threading.Lock

    def close(self) -> None:
        for channel in self._shut():
            channel.close()

    def server_info(self, timeout_s: float | None = None) -> ServerInfo:
        if self._server_info is None:
            self._server_info = self.call(_messages.get_server_info(), timeout_s)
        return self._server_info

    def symbols(self, model: ModelInfo, timeout_s: float | None) -> Symbols | None:
        """What makes symbols of a model's values; None where floats travel."""
        wire = self.settings.wire
        began = time.monotonic()
        try:
            if wire == "float" or (wire == "auto" and not self.server_info(timeout_s).symbols):
                return None
            tables = None
            if needs_tables(model.config):
                tables = self.call(_messages.get_tables(model), self._rest_s(timeout_s, began))
        except NO_SYMBOLS:
            return None
        return Symbols(model.config, tables)

    def call(self, call: Call[_Result], timeout_s: float | None = None) -> _Result:
        request = call.request.SerializeToString()
        began = time.monotonic()
        self._check_size(len(request), timeout_s)
        rest_s = self._rest_s(timeout_s, began)

        def response() -> Any:
            with self._calling(call.method, call.model_id, rest_s) as (opened, options):
                return _response(call.method, opened.methods[call.method], request, options)

        return call.read(self._again(response))

    def run(
        self,
        new_work: Callable[[], Work[_Result]],
        symbols: Callable[[float | None], Symbols | None],
        timeout_s: float | None,
        progress: Callable[[int, int], None] | None,
    ) -> _Result:
        """Makes the calls of some work, up to WINDOW at a time and under one span, and returns its result.

        Args:
          new_work: Makes the work, and refuses arguments before a call is made.
          symbols: Gives, in the time of a call, what `Session.symbols` returned for the model. An array that
            is refused as symbols is sent again as values, so that errors name values.
          timeout_s: Longest time for the calls.
          progress: See Progress.
        """

        def run() -> _Result:
            began = time.monotonic()
            work = new_work()
            work.symbols = symbols(timeout_s)
            try:
                return self._run(work, self._rest_s(timeout_s, began), progress)
            except InvalidTensorError:
                if not work.sent_symbols:
                    raise
            return self._run(new_work(), self._rest_s(timeout_s, began), progress)

        return self._again(run)

    def fit(
        self,
        new_requests: Callable[[], Iterable[Any]],
        timeout_s: float | None,
        progress: Callable[[FitProgress], None] | None,
    ) -> ModelInfo:
        def fit() -> ModelInfo:
            requests = new_requests()
            with self._calling("FitModel", None, timeout_s) as (opened, options):
                responses = opened.methods["FitModel"](requests, **options())
                try:
                    for response in responses:
                        if (model := _messages.fitted(response, progress)) is not None:
                            return model
                finally:
                    responses.cancel()
                raise InternalError("the server ended a fit without a model")

        return self._again(fit)

    def _run(
        self, work: Work[_Result], timeout_s: float | None, progress: Callable[[int, int], None] | None
    ) -> _Result:
        meter = Progress(progress, work.units)
        in_flight: deque[tuple[bytes, Any, int]] = deque()
        began = time.monotonic()

        def finish_first() -> None:
            request, call, units = in_flight.popleft()
            work.add(_response(work.method, method, request, options, call))
            meter.add(units)

        with self._calling(work.method, work.model.id, timeout_s) as (opened, options):
            method = opened.methods[work.method]
            try:
                for request, units in work.requests():
                    self._check_size(len(request), self._rest_s(timeout_s, began))
                    if units == work.units:  # one call needs no pipeline
                        work.add(_response(work.method, method, request, options))
                        meter.add(units)
                        return work.result()
                    if len(in_flight) == WINDOW:
                        finish_first()
                    in_flight.append((request, method.future(request, **options()), units))
                while in_flight:
                    finish_first()
            finally:
                for _, call, _ in in_flight:
                    call.cancel()
        return work.result()

    def _check_size(self, request_bytes: int, timeout_s: float | None) -> None:
        """Refuses a message above the server's limit, for which it may ask in the time of the call."""
        if request_bytes > _messages.UNCHECKED_BYTES:
            _messages.check_bytes(request_bytes, self.server_info(timeout_s))

    def _again(self, call: Callable[[], _Result]) -> _Result:
        """Makes a call, and once more if its token was refused and may have changed."""
        try:
            try:
                return call()
            except UnauthenticatedError:
                if not self.settings.token_may_change:
                    raise
            return call()
        except EntropydError as error:
            without_calls(error)
            raise

    @contextmanager
    def _calling(
        self, method: str, model_id: str | None, timeout_s: float | None
    ) -> Iterator[tuple[Opened, Callable[[], dict[str, Any]]]]:
        """The channel of one call and its options, see Caller.call; probes after a call without an answer."""
        opened = self._opened()
        began = time.monotonic()
        with opened.caller.call(method, model_id, timeout_s) as options:
            try:
                yield opened, options
            except grpc.RpcError as failure:
                if not _channel.unanswered(failure):
                    raise
                self._probe(opened, time.monotonic() - began)
                raise opened.unreachable or failure from None

    def _probe(self, opened: Opened, waited_s: float) -> None:
        """Asks every address of a channel for an answer, after a call that had none for `waited_s`."""
        with opened.probing:
            if self._needs_probe(opened):
                limit_s = _channel.probe_timeout_s(waited_s)
                calls = [opened.probe.future(b"", timeout=limit_s) for _ in range(_channel.PROBES)]
                self._judge(opened, [call for call in calls if call.code() is not grpc.StatusCode.OK])


def _response(
    name: str, method: Any, request: bytes, options: Callable[[], dict[str, Any]], begun: Any = None
) -> Any:
    """The response of a call, made once more if that may help; `begun` is the first, if it has begun."""
    try:
        return method(request, **options()) if begun is None else begun.result()
    except grpc.RpcError as failure:
        if not _channel.repeats(name, failure):
            raise
        return method(request, **options())
