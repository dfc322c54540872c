"""Laws of reporting.

It is counted once, under the code that its caller sees; a failure is told to the log and to the caller under
one request id.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from entropyd.contract.errors import EntropydError, ModelNotFoundError, OverloadedError, to_status
from entropyd.v1 import coding_pb2, coding_pb2_grpc
from entropyd_server.metrics import Metrics
from entropyd_server.observe.call_log import CallLog
from entropyd_server.rpc.interceptors import intercepted
from entropyd_server.rpc.interceptors.reporting import Reporting
from entropyd_server.rpc.servicers import methods_of
from entropyd_server.transport.call import Call
from entropyd_server.transport.status import render
from tests.support.transports import new_server, run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

each = pytest.mark.usefixtures("each_transport")

SERVICE = coding_pb2.DESCRIPTOR.services_by_name["CodingService"]
MODEL_ID = "0123456789ab" + "c" * 52


class Servicer(coding_pb2_grpc.CodingServiceServicer):
    """Does what the model id says."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()

    async def Compress(self, request: Any, context: Any) -> coding_pb2.CompressResponse:  # noqa: N802
        await self._act(request.model_id)
        return coding_pb2.CompressResponse()

    async def CompressStream(self, requests: AsyncIterator[Any], context: Any) -> None:  # noqa: N802
        async for message in requests:
            await self._act(message.request.model_id)
            await context.write(coding_pb2.CompressStreamResponse(request_id=message.request_id))

    async def _act(self, what: str) -> None:
        match what:
            case "wait":
                self.entered.set()
                await asyncio.Event().wait()
            case "refuse":
                raise ModelNotFoundError("no such model", metadata={"model_id": "x"})
            case "shed":
                raise OverloadedError("come again", retry_after_s=0.1)
            case "break":
                raise RuntimeError("secret of /a/path")


class Service:
    """A server in this process, and a client."""

    def __init__(self, servicer: Servicer, metrics: Metrics, calls: CallLog, stub: Any) -> None:
        self.servicer, self.metrics, self.calls, self.stub = servicer, metrics, calls, stub

    def codes(self, method: str) -> dict[str, int]:
        return {code: n for code, n in self.metrics.methods[method].calls_by_code.items() if n}


@asynccontextmanager
async def service(options: Sequence[tuple[str, str]] = ()) -> AsyncIterator[Service]:
    metrics, calls, servicer = Metrics("test"), CallLog(), Servicer()
    server = new_server()
    reporting = Reporting(metrics, calls)
    server.add(intercepted(method, [reporting]) for method in methods_of(servicer, SERVICE))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) as channel:
            yield Service(servicer, metrics, calls, coding_pb2_grpc.CodingServiceStub(channel))
    finally:
        await server.stop(asyncio.sleep(0))
        await server.close()


def compress(what: str) -> coding_pb2.CompressRequest:
    return coding_pb2.CompressRequest(model_id=what)


def message(what: str) -> coding_pb2.CompressStreamRequest:
    return coding_pb2.CompressStreamRequest(request=compress(what))


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


async def failure(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def details(error: grpc.aio.AioRpcError) -> tuple[dict[str, Any], error_details_pb2.ErrorInfo]:
    trailing: dict[str, Any] = dict(tuple(error.trailing_metadata() or ()))
    status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return trailing, info


@each
def test_a_call_is_counted_under_the_code_that_its_caller_sees() -> None:
    async def main() -> None:
        async with service() as running:
            await running.stub.Compress(compress("answer"))
            assert (await failure(running.stub.Compress(compress("refuse")))).code().name == "NOT_FOUND"
            assert (await failure(running.stub.Compress(compress("break")))).code().name == "INTERNAL"
            await until(lambda: not running.metrics.inflight_requests)
            assert running.codes("Compress") == {"OK": 1, "NOT_FOUND": 1, "INTERNAL": 1}
            assert sum(running.metrics.methods["Compress"].duration_seconds.counts) == 3
            assert running.metrics.methods["Decompress"].calls_by_code["OK"] == 0

    run(main())


@given(
    st.sampled_from([OverloadedError, ModelNotFoundError]),
    st.text(),
    st.none() | st.floats(0, 1e5),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=1),
    st.text("0123456789abcdef?", min_size=14, max_size=18),
)
def test_whatever_is_kept_of_a_refusal_each_call_is_told_its_own(
    kind: type[EntropydError], message: str, retry_s: float | None, metadata: dict[str, str], request_id: str
) -> None:
    for error in (kind(message, metadata=metadata, retry_after_s=retry_s), kind(message)):
        for name in (request_id, "0123456789abcdef"):
            assert status_pb2.Status.FromString(render(error, name)) == to_status(error, name)


@each
def test_who_comes_again_and_again_is_told_to_wait_longer() -> None:
    policy = {
        "maxAttempts": 3,
        "initialBackoff": "0.01s",
        "maxBackoff": "0.01s",
        "backoffMultiplier": 1,
        "retryableStatusCodes": ["RESOURCE_EXHAUSTED"],
    }
    config = {"methodConfig": [{"name": [{}], "retryPolicy": policy}]}

    async def main() -> None:
        async with service([("grpc.service_config", json.dumps(config))]) as running:
            error = await failure(running.stub.Compress(compress("shed")))
            trailing, _ = details(error)
            assert running.codes("Compress") == {"RESOURCE_EXHAUSTED": 3}
            assert trailing["grpc-retry-pushback-ms"] == "400"  # after 100 and 200
            retry = error_details_pb2.RetryInfo()
            status = status_pb2.Status.FromString(trailing["grpc-status-details-bin"])
            assert any(packed.Unpack(retry) for packed in status.details)
            assert retry.retry_delay.ToMilliseconds() == 400

    run(main())


# On the core alone: grpc.aio itself keeps a call until garbage is collected.
@pytest.mark.parametrize("what", ["answer", "refuse", "shed"])
def test_a_call_and_its_message_are_freed_with_its_end(what: str) -> None:
    async def main() -> None:
        async with service() as running:
            gc.disable()  # what needs it stays
            try:
                with suppress(grpc.aio.AioRpcError):
                    await running.stub.Compress(compress(what))
                await until(lambda: not any(issubclass(type(known), Call) for known in gc.get_objects()))
            finally:
                gc.enable()

    gc.collect()
    run(main())


@each
def test_a_call_whose_caller_leaves_is_counted_as_cancelled() -> None:
    async def main() -> None:
        async with service() as running:
            calling = running.stub.Compress(compress("wait"))
            await running.servicer.entered.wait()
            assert running.metrics.inflight_requests == 1
            calling.cancel()
            await until(lambda: not running.metrics.inflight_requests)
            running.servicer.entered.clear()
            late = await failure(running.stub.Compress(compress("wait"), timeout=0.05))
            assert late.code().name == "DEADLINE_EXCEEDED"
            await until(lambda: running.codes("Compress") == {"CANCELLED": 2})
            assert running.metrics.inflight_requests == 0
            assert not running.calls.last

    run(main())


@each
@pytest.mark.parametrize(
    ("what", "code"),
    [("answer", "OK"), ("refuse", "NOT_FOUND"), ("break", "INTERNAL"), ("wait", "CANCELLED")],
)
def test_a_stream_is_counted_once_when_it_ends(what: str, code: str) -> None:
    async def main() -> None:
        async with service() as running:
            stream = running.stub.CompressStream()
            await stream.write(message("answer"))
            await stream.read()
            assert (running.metrics.inflight_requests, running.codes("CompressStream")) == (1, {})
            await stream.write(message(what))
            if what == "wait":
                await running.servicer.entered.wait()
                stream.cancel()
            else:
                await stream.done_writing()
                with suppress(grpc.aio.AioRpcError):
                    while await stream.read() is not grpc.aio.EOF:
                        pass
                assert (await stream.code()).name == code
            await until(lambda: running.codes("CompressStream") == {code: 1})
            assert running.metrics.inflight_requests == 0

    run(main())


@each
def test_an_unforeseen_error_is_told_to_the_log_and_only_its_id_to_the_caller(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> grpc.aio.AioRpcError:
        async with service() as running:
            return await failure(running.stub.Compress(compress("break")))

    with caplog.at_level(logging.INFO):
        error = run(main())
    trailing, info = details(error)
    assert "secret" not in f"{error.details()} {trailing}"
    (record,) = [record for record in caplog.records if record.name == "entropyd_server.calls"]
    assert record.levelname == "ERROR"
    assert record.exc_info is not None
    assert "secret of /a/path" in str(record.exc_info[1])
    assert info.metadata["request_id"] == trailing["entropyd-request-id"] == vars(record)["request_id"]
    assert vars(record)["request_id"] in record.getMessage()


@each
def test_a_refusal_is_one_line_without_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> grpc.aio.AioRpcError:
        async with service() as running:
            metadata = (("entropyd-model", MODEL_ID), ("authorization", "Bearer hunter2"))
            return await failure(running.stub.Compress(compress("refuse"), metadata=metadata))

    with caplog.at_level(logging.INFO):
        error = run(main())
    (record,) = [record for record in caplog.records if record.name == "entropyd_server.calls"]
    fields = vars(record)
    assert (record.levelname, record.exc_info) == ("INFO", None)
    assert (fields["method"], fields["code"], fields["reason"]) == (
        "Compress",
        "NOT_FOUND",
        "MODEL_NOT_FOUND",
    )
    assert (fields["model"], fields["milliseconds"] >= 0) == (MODEL_ID[:12], True)
    assert "hunter2" not in json.dumps(fields, default=str)
    assert details(error)[1].metadata == {"model_id": "x", "request_id": fields["request_id"]}


@each
@pytest.mark.parametrize("key", ["entropyd-request-id", "x-request-id"])
def test_a_callers_request_id_is_kept(key: str) -> None:
    async def main() -> grpc.aio.AioRpcError:
        async with service() as running:
            return await failure(running.stub.Compress(compress("refuse"), metadata=((key, "mine:1"),)))

    trailing, info = details(run(main()))
    assert trailing["entropyd-request-id"] == info.metadata["request_id"] == "mine:1"


@each
@pytest.mark.parametrize("given", ["<script>", "a b", "x" * 65, ""])
def test_a_request_id_that_is_not_sane_is_replaced(given: str) -> None:
    async def main() -> tuple[grpc.aio.AioRpcError, str]:
        async with service() as running:
            metadata = (("x-request-id", given), ("entropyd-model", "not an id"))
            error = await failure(running.stub.Compress(compress("refuse"), metadata=metadata))
            assert running.calls.last[0].model == ""
            return error, running.calls.last[0].request_id

    error, remembered = run(main())
    assert details(error)[0]["entropyd-request-id"] == remembered != given
    assert len(remembered) == 16


@each
def test_a_refusal_that_says_when_to_come_again_says_it_to_grpc_too() -> None:
    async def main() -> grpc.aio.AioRpcError:
        async with service() as running:
            return await failure(running.stub.CompressStream(iter([message("shed")])).read())

    assert details(run(main()))[0]["grpc-retry-pushback-ms"] == "100"
