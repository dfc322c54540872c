"""Settings of a server process.

Owns every flag, its environment variable, default and unit; nothing else reads flags or the environment.
Invariant: a `Settings` that exists is complete and in range.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from platformdirs import user_data_path

from entropyd_server.malloc import machine_bytes
from entropyd_server.modeling.devices import AUTO, Device, parse_devices, visible_gpus
from entropyd_server.observe.logs import FORMATS, LEVELS
from entropyd_server.transport.transports import AIO, CORE

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1024 * 1024
# At rest: the server's process, and each worker's.
_SERVER_BYTES = 256 * MIB
_WORKER_BYTES = 512 * MIB


@dataclass(frozen=True)
class Settings:
    """What `entropyd-server --help` describes, field by field."""

    listen: str
    transport: str
    metrics_listen: str
    health_listen: str
    store: str
    store_timeout_seconds: float
    roles: frozenset[str]
    devices: tuple[Device, ...]
    builders: int
    codec_threads: int
    max_batch_symbols: int
    max_batch_delay_ms: float
    max_queue_symbols: int
    max_message_bytes: int
    max_model_bytes: int
    max_cache_bytes: int
    max_build_seconds: float
    max_build_memory_bytes: int
    max_concurrent_calls: int
    receive_timeout_seconds: float
    max_models_per_caller: int
    max_connection_age_seconds: float
    drain_seconds: float
    log_format: str
    log_level: str
    tracing: bool
    tls_cert: Path | None
    tls_key: Path | None
    tls_client_ca: Path | None
    tokens_file: Path | None


def default_store() -> str:
    """URL of the store in the user's data folder.

    Raises:
      UsageError: If the user has none.
    """
    try:
        return (user_data_path("entropyd") / "store").as_uri()
    except (RuntimeError, ValueError) as error:  # by the version of platformdirs; or the path is not absolute
        raise click.UsageError(
            "this user has no home folder to keep models in: set --store, to memory:/// if they may be lost"
        ) from error


def _option(name: str, help_text: str, **attributes: Any) -> Callable[[Any], Any]:
    # Named one by one, since a prefix for all would make ENTROPYD_VERSION stand for --version.
    variable = f"ENTROPYD_{name.partition('/')[0].strip('-').replace('-', '_')}".upper()
    shown = {"envvar": variable, "show_envvar": True, "show_default": True}
    return click.option(name, help=help_text, **{**shown, **attributes})


class _Number(click.FloatRange):
    """A range that not-a-number is outside of; click lets it through every comparison."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See base class."""
        seconds = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value!r} is not a number", param, ctx)
        return seconds


class _Devices(click.ParamType[tuple[Device, ...]]):
    """Names of devices of this machine."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See base class."""
        try:
            return parse_devices(value, visible_gpus(os.environ))
        except ValueError as error:
            self.fail(str(error), param, ctx)


_TRACING_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_BYTES = click.IntRange(min=1024)
_FILE = click.Path(path_type=Path)
_OPTIONS = [
    _option("--listen", "Address for gRPC: HOST:PORT, or unix:PATH.", default="127.0.0.1:7070"),
    _option(
        "--transport",
        "How gRPC is served: core (fast; on a version of grpcio that it was not tested with, aio takes its "
        "place), or aio (by grpc.aio's public interface; costs more per call).",
        type=click.Choice([CORE, AIO]),
        default=CORE,
    ),
    _option(
        "--metrics-listen",
        "Address for Prometheus metrics (/metrics) and a status page (/) over HTTP, HOST:PORT; empty for "
        "none. Whoever reaches it can read it.",
        default="127.0.0.1:9464",
    ),
    _option(
        "--health-listen",
        "Second address for gRPC health alone, HOST:PORT, never with TLS: for probes that have none, as "
        "Kubernetes's; empty for none.",
        default="",
    ),
    _option(
        "--store",
        "Where models live: a folder's path, memory:///, s3://bucket/prefix, gs://... or az://... In a URL, "
        "file:///folder too, %23 and %3F stand for # and ?.",
        default=default_store,
        show_default="a folder in the user's data folder",
    ),
    _option(
        "--store-timeout-seconds",
        "Longest time for one operation on the store, in seconds; then the call fails as UNAVAILABLE.",
        type=_Number(min=0, min_open=True),
        default=20.0,
    ),
    _option(
        "--role",
        "Planes to serve: coding (Compress, Decompress; no TensorFlow), modeling (models; needs "
        "TensorFlow), or all.",
        type=click.Choice(["all", "coding", "modeling"]),
        default="all",
    ),
    _option(
        "--devices",
        "What the modeling role computes on, one worker process each: auto (all GPUs, or the CPU), or names "
        "with commas between: cpu, cpu:1, gpu:0, ...",
        type=_Devices(),
        default=AUTO,
    ),
    _option(
        "--builders",
        "Most worker processes that build tables; all but the first are started when builds wait. Of "
        "several, one is left to models of at most 4096 rows.",
        type=click.IntRange(1, 64),
        default=None,
        show_default="2 where memory has room for two builds, as large as may be, beside the devices' work",
    ),
    _option(
        "--codec-threads",
        "Threads that encode and decode.",
        type=click.IntRange(1, 1024),
        default=lambda: os.cpu_count() or 1,
        show_default="one per core",
    ),
    _option(
        "--max-batch-symbols",
        "Most symbols that one thread codes at a time; larger calls are split over their coding units.",
        type=click.IntRange(min=1),
        default=2 * MIB,
    ),
    _option(
        "--max-batch-delay-ms",
        "How long a call waits for others to be coded with, in milliseconds; with 0, whatever has gathered "
        "while the threads were busy is coded together.",
        type=_Number(0, 3_600_000),
        default=0.0,
    ),
    _option(
        "--max-queue-symbols",
        "Symbols that may wait; from three quarters on, calls are refused and told when to come again.",
        type=click.IntRange(min=1),
        default=64 * MIB,
    ),
    _option(
        "--max-message-bytes",
        "Largest gRPC message, and largest array that decoding may make, in bytes.",
        type=_BYTES,
        default=64 * MIB,
    ),
    _option(
        "--max-model-bytes", "Largest coding tables of one model, in bytes.", type=_BYTES, default=64 * MIB
    ),
    _option(
        "--max-cache-bytes",
        "Most memory of the models that are kept in it, in bytes: configurations, coding tables and plans.",
        type=_BYTES,
        default=1024 * MIB,
    ),
    _option(
        "--max-build-seconds",
        "Longest time for building the tables of one model, or for one batch of bit costs, in seconds.",
        type=_Number(min=0, min_open=True),
        default=300.0,
    ),
    _option(
        "--max-build-memory-bytes",
        "Most memory that building the tables of one model, or one batch of bit costs, may add to its "
        "worker, in bytes.",
        type=_BYTES,
        default=4096 * MIB,
    ),
    _option(
        "--max-concurrent-calls",
        "Most calls in flight at a time, streams among them, seven eighths of them over one connection, "
        "whose others wait. Past them, calls are refused at once and told when to come again.",
        type=click.IntRange(min=1),
        default=1024,
    ),
    _option(
        "--receive-timeout-seconds",
        "Longest time for a call's first message to come, or for its answer to be taken, in seconds; then "
        "the call is ended. Streams may rest between messages, but not while all places are taken.",
        type=_Number(min=0, min_open=True),
        default=30.0,
    ),
    _option(
        "--max-models-per-caller",
        "Most models that one token may make, or all callers together where there are no tokens; 0 for any "
        "number.",
        type=click.IntRange(min=0),
        default=0,
    ),
    _option(
        "--max-connection-age-seconds",
        "Time after which a client is asked to connect anew, in seconds, so that it finds new replicas and "
        "shows its certificate again; 0 for never. Calls in hand are finished.",
        type=_Number(min=0),
        default=0.0,
    ),
    _option(
        "--drain-seconds",
        "Time between the signal to stop and the end of service, in seconds; health says NOT_SERVING.",
        type=_Number(min=0),
        default=5.0,
    ),
    _option(
        "--log-format",
        "How log lines look, on standard error: text for people, json for log collectors.",
        type=click.Choice(FORMATS),
        default="text",
    ),
    _option(
        "--log-level",
        "The least that is logged. Calls that fail are info or above; with debug, every call is a line.",
        type=click.Choice(LEVELS),
        default="info",
    ),
    _option(
        "--tracing/--no-tracing",
        "Whether calls are traced to an OpenTelemetry collector, over OTLP/HTTP as the OTEL_ variables say. "
        "Needs entropyd[tracing].",
        default=lambda: any(os.environ.get(name) for name in _TRACING_VARIABLES),
        show_default="on where OTEL_EXPORTER_OTLP_ENDPOINT is set",
    ),
    _option(
        "--tls-cert",
        "Certificate chain of this server in PEM, its own first; turns TLS on. It is read again when it "
        "changes, as are the files below.",
        type=_FILE,
    ),
    _option("--tls-key", "Key of --tls-cert in PEM, not encrypted.", type=_FILE),
    _option(
        "--tls-client-ca",
        "Root certificates in PEM; only clients with a certificate of one of them may connect.",
        type=_FILE,
    ),
    _option(
        "--tokens-file",
        "Who may call: a line NAME SCOPES SHA256 for each token, as `entropyd token new` prints it. Without "
        "it, everybody who may connect.",
        type=_FILE,
    ),
]


def _builders(devices: int, max_build_memory_bytes: int) -> int:
    """How many builders there may be by default."""
    workers = devices + 2
    needed = _SERVER_BYTES + workers * (_WORKER_BYTES + max_build_memory_bytes)
    return 2 if machine_bytes() >= needed else 1


def command(serve: Callable[[Settings], None]) -> click.Command:
    """The `entropyd-server` command around a function that serves until it is told to stop."""

    def invoke(role: str, **flags: Any) -> None:
        if flags["max_model_bytes"] > flags["max_message_bytes"]:
            # GetTables answers a model's tables in one message.
            raise click.UsageError("--max-model-bytes must be at most --max-message-bytes")
        if (flags["tls_cert"] is None) != (flags["tls_key"] is None):
            raise click.UsageError("--tls-cert and --tls-key need one another")
        if flags["tls_client_ca"] is not None and flags["tls_cert"] is None:
            raise click.UsageError("--tls-client-ca needs --tls-cert and --tls-key")
        if flags["builders"] is None:
            flags["builders"] = _builders(len(flags["devices"]), flags["max_build_memory_bytes"])
        roles = frozenset(("coding", "modeling") if role == "all" else (role,))
        serve(Settings(roles=roles, **flags))

    invoke.__doc__ = """Serve entropy models over gRPC.

    Every option can be set in the environment too, under the name beside it.
    """
    for option in reversed(_OPTIONS):
        invoke = option(invoke)
    decorate = click.command(
        context_settings={
            "max_content_width": 100,
            "help_option_names": ["-h", "--help"],
        }
    )
    versioned = click.version_option(package_name="entropyd", prog_name="entropyd-server")
    return decorate(versioned(invoke))
