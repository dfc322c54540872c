"""Traces from the client over the server to the kernel, as a real collector receives them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import subprocess
import sys
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.json.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import inject
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

import entropyd
import entropyd.aio
from entropyd import priors
from entropyd._compression import Compression
from entropyd.v1 import coding_pb2, coding_pb2_grpc
from entropyd_server.local import LocalServer
from tests.support.collector import Collector, Span
from tests.support.operations import status_page_of, until
from tests.support.pages import blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

SERVER, CLIENT = 2, 3
COMPRESS = "entropyd.v1.CodingService/Compress"
MODELS = "entropyd.v1.ModelService"
TOKEN = "entropyd_" + "0123456789" * 4
# A connection of its own, whose first failure is seen.
ALONE = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """A collector, which gets this process's own spans too."""
    with Collector() as running:
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{running.url}/v1/traces")))
        trace.set_tracer_provider(provider)
        yield running
        provider.shutdown()


@pytest.fixture(scope="module")
def environment(collector: Collector) -> Iterator[None]:
    """What switches a server's tracing on, as observability.md has it."""
    (line,) = (block for block in blocks("observability.md", "sh") if block.endswith(" entropyd-server\n"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(line.partition("=")[0], collector.url)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        patch.setenv("OTEL_SERVICE_NAME", "coder")
        yield


@pytest.fixture(scope="module")
def traced(environment: None, store_url: str) -> Iterator[LocalServer]:
    """A server that traces."""
    with LocalServer("--role", "coding", store=store_url) as running:
        yield running


@pytest.fixture(scope="module")
def patient(environment: None, store_url: str) -> Iterator[LocalServer]:
    """A server that traces, on which every call waits for company that does not come."""
    flags = ["--role", "coding", "--max-batch-delay-ms", "600000", "--metrics-listen", "127.0.0.1:0"]
    with LocalServer(*flags, store=store_url) as running:
        yield running


@pytest.fixture(scope="module")
def modeling(environment: None, store_url: str) -> Iterator[LocalServer]:
    """A server that traces what its workers do."""
    with LocalServer("--role", "modeling", "--devices", "cpu", store=store_url) as running:
        yield running


@pytest.fixture(scope="module")
def guarded(environment: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """A server that traces, asks for a token and has room for one call."""
    tokens = tmp_path_factory.mktemp("guarded") / "tokens"
    tokens.write_text(f"tests code {hashlib.sha256(TOKEN.encode()).hexdigest()}\n")
    flags = ["--role", "coding", "--tokens-file", str(tokens), "--max-concurrent-calls", "1"]
    with LocalServer(*flags) as running:
        yield running


def traced_call(collector: Collector, call: Callable[[], object], spans: int) -> dict[str, list[Span]]:
    """Makes a call under a span of ours, and waits for as many others of its trace; gives them by name."""
    with trace.get_tracer("tests").start_as_current_span("test") as root:
        call()
    trace_id = f"{root.get_span_context().trace_id:032x}"

    def received() -> list[Span]:
        return [span for span in collector.spans if span.trace_id == trace_id and span.name != "test"]

    until(lambda: len(received()) >= spans, f"{spans} spans of {trace_id}: {collector.spans}")
    by_name: dict[str, list[Span]] = {}
    for span in sorted(received(), key=lambda span: span.begin_ns):
        by_name.setdefault(span.name, []).append(span)
    assert sum(map(len, by_name.values())) == spans, by_name
    return by_name


def test_a_trace_leads_from_the_client_to_the_kernel(
    collector: Collector, traced: LocalServer, model: entropyd.Model
) -> None:
    with entropyd.Client(traced.target, tracing=True) as client:
        client.server_info()  # whether it takes symbols
        x = np.zeros((1, 20_000, 3), np.float32)  # too large to be coded where it arrives
        spans = traced_call(collector, lambda: entropyd.Model(client._session, model.info).compress(x), 4)
    (call,), (served,) = spans["entropyd.Compress"], spans[COMPRESS]
    (queue,), (kernel,) = spans["queue"], spans["kernel"]
    assert (call.kind, served.kind, call.failed, served.failed) == (CLIENT, SERVER, False, False)
    assert served.service == "coder"
    assert (served.parent_id, queue.parent_id) == (call.span_id, served.span_id)
    assert kernel.parent_id == served.span_id
    assert served.begin_ns <= queue.begin_ns <= queue.end_ns == kernel.begin_ns <= kernel.end_ns
    assert kernel.end_ns <= served.end_ns
    assert served.attributes["rpc.method"] == "Compress"
    assert served.attributes["rpc.grpc.status_code"] == 0
    assert served.attributes["entropyd.model_id"] == model.id
    of_model = {"entropyd.operation": "compress", "entropyd.kind": "universal_batched"}
    assert queue.attributes == of_model
    assert kernel.attributes == {**of_model, "entropyd.units": 1, "entropyd.callers": 1}


def test_an_array_in_chunks_is_one_span_of_the_client(
    collector: Collector, traced: LocalServer, model: entropyd.Model
) -> None:
    x = np.zeros((3, 100_000, 3), np.float32)
    with entropyd.Client(traced.target, tracing=True) as client:
        client.server_info()
        spans = traced_call(
            collector, lambda: entropyd.Model(client._session, model.info).compress(x), 1 + 3 * 3
        )
    (call,) = spans["entropyd.Compress"]
    assert {served.parent_id for served in spans[COMPRESS]} == {call.span_id}
    assert len(spans[COMPRESS]) == len(spans["queue"]) == len(spans["kernel"]) == 3


def test_a_refusal_is_told_by_both_ends_and_blamed_on_the_caller(
    collector: Collector, traced: LocalServer, model: entropyd.Model
) -> None:
    refused: list[entropyd.EntropydError] = []

    def call() -> None:
        with pytest.raises(entropyd.InvalidTensorError) as caught:
            entropyd.Model(client._session, model.info).compress(np.full((4, 3), np.nan, np.float32))
        refused.append(caught.value)

    with entropyd.Client(traced.target, tracing=True) as client:
        client.server_info()
        spans = traced_call(collector, call, 4)
    (called,), (served,) = spans["entropyd.Compress"], spans[COMPRESS]
    assert (called.failed, served.failed) == (True, False)
    assert called.attributes["entropyd.reason"] == "INVALID_TENSOR"
    assert called.attributes["rpc.grpc.status_code"] == served.attributes["rpc.grpc.status_code"] == 3
    assert served.attributes["entropyd.request_id"] == refused[0].metadata["request_id"]


@pytest.mark.parametrize(
    ("code", "token", "crowd"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, "entropyd_wrong", 0),
        (grpc.StatusCode.INVALID_ARGUMENT, TOKEN, 0),  # the bytes are no message
        (grpc.StatusCode.RESOURCE_EXHAUSTED, TOKEN, 1),
    ],
)
def test_a_call_that_is_refused_before_it_is_read_has_its_span(
    collector: Collector, guarded: LocalServer, code: grpc.StatusCode, token: str, crowd: int
) -> None:
    refused: list[Any] = []

    def call() -> None:
        headers = {"authorization": f"Bearer {token}"}
        inject(headers)
        with grpc.insecure_channel(guarded.target, ALONE) as channel:
            compress: Any = channel.unary_unary(f"/{COMPRESS}")
            with pytest.raises(grpc.RpcError) as caught:
                compress(b"\xff", metadata=tuple(headers.items()), timeout=60)
        refused.append(caught.value)

    with contextlib.ExitStack() as held:
        for _ in range(crowd):
            held.enter_context(call_in_hand(guarded))
        spans = traced_call(collector, call, 1)
    (served,) = spans[COMPRESS]
    assert (served.kind, served.failed) == (SERVER, False)
    assert refused[0].code() is code
    told = dict(refused[0].trailing_metadata())
    assert served.attributes == {
        "rpc.system": "grpc",
        "rpc.service": "entropyd.v1.CodingService",
        "rpc.method": "Compress",
        "rpc.grpc.status_code": code.value[0],
        "entropyd.request_id": told["entropyd-request-id"],
    }


@contextlib.contextmanager
def call_in_hand(server: LocalServer) -> Iterator[None]:
    """A stream that the server has in hand for sure: it has answered a message of it."""
    done = threading.Event()

    def messages() -> Iterator[coding_pb2.CompressStreamRequest]:
        yield coding_pb2.CompressStreamRequest(request_id="held")
        done.wait()

    with grpc.insecure_channel(server.target, ALONE) as channel:
        stub: Any = coding_pb2_grpc.CodingServiceStub(channel)
        stream = stub.CompressStream(messages(), metadata=[("authorization", f"Bearer {TOKEN}")])
        assert next(stream).request_id == "held"
        yield
        done.set()
        assert list(stream) == []


def test_the_trace_of_a_new_model_tells_how_long_its_tables_took(
    collector: Collector, modeling: LocalServer
) -> None:
    prior = priors.NoisyNormal(loc=0.0, scale=[1.0, 2.5])
    config = entropyd.UniversalBatchedConfig(prior=prior, coding_rank=1)
    with entropyd.Client(modeling.target, tracing=True) as client:
        spans = traced_call(collector, lambda: client.create_model(config), 4)
    (served,), (queue,), (build,) = (spans[name] for name in (f"{MODELS}/CreateModel", "queue", "build"))
    assert queue.parent_id == build.parent_id == served.span_id
    assert served.begin_ns <= queue.begin_ns <= queue.end_ns == build.begin_ns < build.end_ns <= served.end_ns
    assert queue.attributes == build.attributes == {"entropyd.device": "builder"}


def test_each_of_many_calls_to_perturb_has_spans_of_its_own(
    collector: Collector, modeling: LocalServer, model: entropyd.Model
) -> None:
    def perturb(units: int) -> dict[str, list[Span]]:
        x = np.zeros((units, 5, 3), np.float32)
        return traced_call(collector, lambda: known.perturb(x), 4)

    with entropyd.Client(modeling.target, tracing=True) as client, ThreadPoolExecutor(8) as pool:
        known = client.model(model.id)
        known.perturb(np.zeros((1, 5, 3), np.float32))
        for units, spans in zip(range(1, 9), pool.map(perturb, range(1, 9)), strict=True):
            (served,), (queue,), (kernel,) = spans[f"{MODELS}/Perturb"], spans["queue"], spans["kernel"]
            assert queue.parent_id == kernel.parent_id == served.span_id
            assert served.begin_ns <= queue.begin_ns <= queue.end_ns == kernel.begin_ns < kernel.end_ns
            assert kernel.end_ns <= served.end_ns
            assert kernel.attributes["entropyd.operation"] == "perturb"
            assert kernel.attributes["entropyd.kind"] == "universal_batched"
            assert kernel.attributes["entropyd.units"] == units


def test_the_trace_of_a_fit_has_each_of_its_turns(collector: Collector, modeling: LocalServer) -> None:
    config = entropyd.UniversalBatchedConfig(prior=priors.NoisyNormal(loc=0.0, scale=1.0), coding_rank=1)
    samples = np.random.default_rng(0).normal(0, 3, 4096).astype(np.float32)
    fit = f"{MODELS}/FitModel"

    def served() -> list[Span]:
        return [span for span in collector.spans if span.name == fit]

    with entropyd.Client(modeling.target) as client:
        client.fit_model(config, samples, max_steps=100)
    until(lambda: bool(served()), "the span of a fit")
    (parent,) = served()
    children = sorted(
        (span for span in collector.spans if span.parent_id == parent.span_id), key=lambda span: span.begin_ns
    )
    names = [span.name for span in children]
    assert names == ["queue", "fit"] * (names.count("fit")) + ["queue", "build"]
    assert names.count("fit") >= 3  # its beginning, what it computed, its end
    assert [span.attributes["entropyd.device"] for span in children[1:-2:2]] == ["cpu"] * names.count("fit")
    for queue, work in zip(children[::2], children[1::2], strict=True):
        assert queue.end_ns == work.begin_ns


def test_a_call_that_is_cancelled_while_it_waits_ends_its_spans(
    collector: Collector, patient: LocalServer, model: entropyd.Model
) -> None:
    async def main() -> None:
        async with entropyd.aio.Client(patient.target, tracing=True, wire="float") as client:
            call = asyncio.ensure_future(
                entropyd.aio.Model(client._session, model.info).compress(np.zeros((4, 3), np.float32))
            )
            await asyncio.to_thread(until, lambda: symbols_wait(patient, 12), "symbols wait")
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

    spans = traced_call(collector, lambda: asyncio.run(main()), 3)
    (called,), (served,), (queue,) = spans["entropyd.Compress"], spans[COMPRESS], spans["queue"]
    assert called.attributes["rpc.grpc.status_code"] == served.attributes["rpc.grpc.status_code"] == 1
    assert (served.parent_id, queue.parent_id) == (called.span_id, served.span_id)
    assert (called.failed, served.failed) == (True, False)


def test_a_stream_is_one_span_and_begins_a_trace_of_its_own(
    collector: Collector, traced: LocalServer, model: entropyd.Model
) -> None:
    async def main() -> None:
        async with grpc.aio.insecure_channel(traced.target) as channel:
            stream: Any = coding_pb2_grpc.CodingServiceStub(channel).CompressStream()
            for _ in range(3):
                await stream.write(stream_message(model))
                await stream.read()
            await stream.done_writing()
            assert await stream.read() is grpc.aio.EOF

    stream = span_of_stream(collector, main)
    assert (stream.parent_id, stream.attributes["rpc.grpc.status_code"]) == ("", 0)

    def kernels() -> int:
        return sum(span.name == "kernel" and span.parent_id == stream.span_id for span in collector.spans)

    until(lambda: kernels() == 3, "the kernels of a stream")


def test_a_stream_that_is_cancelled_while_messages_wait_ends_its_span(
    collector: Collector, patient: LocalServer, model: entropyd.Model
) -> None:
    async def main() -> None:
        async with grpc.aio.insecure_channel(patient.target) as channel:
            stream: Any = coding_pb2_grpc.CodingServiceStub(channel).CompressStream()
            for _ in range(3):
                await stream.write(stream_message(model))
            await asyncio.to_thread(until, lambda: symbols_wait(patient, 36), "symbols wait")
            stream.cancel()

    stream = span_of_stream(collector, main)
    assert (stream.parent_id, stream.attributes["rpc.grpc.status_code"]) == ("", 1)


def stream_message(model: entropyd.Model) -> coding_pb2.CompressStreamRequest:
    """A message of 12 symbols."""
    request, _ = next(Compression(model.info, np.zeros((4, 3), np.float32)).requests())
    return coding_pb2.CompressStreamRequest(request=coding_pb2.CompressRequest.FromString(request))


def span_of_stream(collector: Collector, main: Callable[[], Coroutine[Any, Any, None]]) -> Span:
    """The span of the one stream that `main` opens."""

    def streams() -> list[Span]:
        return [span for span in collector.spans if span.name.endswith("/CompressStream")]

    before = len(streams())
    asyncio.run(main())
    until(lambda: len(streams()) > before, "the span of a stream")
    (stream,) = streams()[before:]
    return stream


def symbols_wait(server: LocalServer, symbols: int) -> bool:
    """Whether so many symbols wait in a server's queue."""
    with urllib.request.urlopen(f"{status_page_of(server)}metrics") as page:  # noqa: S310 - our own server
        return f"\nentropyd_queue_symbols {symbols}.0".encode() in page.read()


def test_a_collector_that_is_away_costs_no_call(
    store_url: str, model: entropyd.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    with LocalServer("--role", "coding", store=store_url) as running:
        with entropyd.Client(running.target) as client:
            entropyd.Model(client._session, model.info).compress(np.zeros((4, 3), np.float32))
        assert running.stop() == 0


def test_who_does_not_trace_imports_nothing_of_it() -> None:
    code = "import sys, entropyd, entropyd_server.app, entropyd_server.settings; print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not any(name.startswith("opentelemetry") for name in output.split())
