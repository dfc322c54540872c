"""The flags of `entropyd-server`: names, help texts, defaults, units and environment variables."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from platformdirs import user_data_path

from entropyd_server.installation import INSTALLED, parse_roles
from entropyd_server.machine import cores
from entropyd_server.modeling.devices import AUTO, Device, parse_devices, visible_gpus
from entropyd_server.observe.logs import FORMATS, LEVELS
from entropyd_server.ports import is_host_port, is_unix
from entropyd_server.transport.transports import AIO, CORE

MIB = 1024 * 1024


def default_store() -> str:
    """Returns the URL of the store in the user's data folder.

    Raises:
      UsageError: If the user has no home folder.
    """
    try:
        return (user_data_path("entropyd") / "store").as_uri()
    except (RuntimeError, ValueError) as error:  # which one depends on the version of platformdirs
        raise click.UsageError(
            "this user has no home folder for models: set --store or ENTROPYD_STORE, to memory:/// if models "
            "may be lost"
        ) from error


def _option(name: str, help_text: str, **attributes: Any) -> Callable[[Any], Any]:
    # Not click's prefix for all options, with which ENTROPYD_VERSION would set --version.
    variable = f"ENTROPYD_{name.partition('/')[0].strip('-').replace('-', '_')}".upper()
    shown = {"envvar": variable, "show_envvar": True, "show_default": True}
    return click.option(name, help=help_text, **{**shown, **attributes})


class _Number(click.FloatRange):
    """A range of numbers without NaN, which passes every comparison of click's."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number", param, ctx)
        return number


class _Address(click.ParamType[str]):
    """HOST:PORT; empty for none, or unix:PATH, where that is allowed."""

    name = "address"

    def __init__(self, *, empty: bool = False, unix: bool = False) -> None:
        self._empty, self._unix = empty, unix

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not (is_host_port(value) or (self._empty and not value) or (self._unix and is_unix(value))):
            expected = "HOST:PORT or unix:PATH" if self._unix else "HOST:PORT"
            self.fail(f"{value!r}; expected {expected}, as in 127.0.0.1:7070", param, ctx)
        return value


class _Devices(click.ParamType[tuple[Device, ...]]):
    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return parse_devices(value, visible_gpus(os.environ))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Processes(click.IntRange):
    name = "number|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == AUTO:
            return max(1, len(cores()) // _CORES_OF_A_PROCESS)
        return super().convert(value, param, ctx)


class _Roles(click.ParamType[frozenset[str]]):
    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return parse_roles(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


# docs/performance.md: with more, a process of small calls leaves them idle.
_CORES_OF_A_PROCESS = 2
_TRACING_VARIABLES = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_BYTES = click.IntRange(min=1024)
# gRPC counts a message, and what surrounds it, in 31 bits.
_MOST_MESSAGE_BYTES = 2000 * MIB
_FILE = click.Path(path_type=Path)
# In the order of the help.
OPTIONS = [
    _option(
        "--listen",
        "Address for gRPC: HOST:PORT or unix:PATH. With port 0 it is any free one, which the log names.",
        type=_Address(unix=True),
        default="127.0.0.1:7070",
    ),
    _option(
        "--processes",
        "How many processes serve the address, each on its part of the cores; the system gives every "
        "connection to one of them. auto: one for every two cores. Process i, counted from 0, adds i to the "
        "ports of --metrics-listen and --health-listen. Limits are those of each process. Not for the "
        "modeling role.",
        type=_Processes(1, 1024),
        default="1",
    ),
    _option(
        "--transport",
        "How gRPC is served: core is fast, and uses private parts of grpcio; on a version that it was not "
        "tested with, aio takes its place. aio uses grpc.aio, and costs more per call.",
        type=click.Choice([CORE, AIO]),
        default=CORE,
    ),
    _option(
        "--metrics-listen",
        "Address for Prometheus metrics (/metrics) and a status page (/) over HTTP, HOST:PORT; empty for "
        "none. It asks for no credentials.",
        type=_Address(empty=True),
        default="127.0.0.1:9464",
    ),
    _option(
        "--health-listen",
        "Second address, HOST:PORT or unix:PATH, for gRPC health checks only and without TLS: for probes "
        "without certificates, such as those of Kubernetes; empty for none.",
        type=_Address(empty=True, unix=True),
        default="",
    ),
    _option(
        "--store",
        "Where models are stored: a folder's path, memory:///, s3://bucket/prefix, gs://... or az://... In "
        "URLs, file:///folder included, write %23 for # and %3F for ?.",
        default=default_store,
        show_default="a folder in the user's data folder",
    ),
    _option(
        "--store-timeout-seconds",
        "Longest time for one operation on the store, in seconds; after it, the call fails with UNAVAILABLE.",
        type=_Number(min=0, min_open=True),
        default=20.0,
    ),
    _option(
        "--role",
        "Roles to serve, separated by commas: coding (Compress, Decompress), registry (models as objects; "
        "new ones whose tables are supplied), modeling (tables built from priors, bit costs, fits; includes "
        "registry, and needs TensorFlow). auto serves those that this installation can run, all serves all.",
        type=_Roles(),
        default=INSTALLED,
    ),
    _option(
        "--devices",
        "Devices of the modeling role, one worker process each: auto (all GPUs; without any, the CPU), or "
        "names separated by commas: cpu, cpu:1, gpu:0, ...",
        type=_Devices(),
        default=AUTO,
    ),
    _option(
        "--builders",
        "Most worker processes that build tables. All but the first start when builds are queued. If there "
        "are several, one builds only models of at most 4096 rows.",
        type=click.IntRange(1, 64),
        default=None,
        show_default="2 if memory has room for two builds of the largest size, else 1",
    ),
    _option(
        "--codec-threads",
        "Number of threads that encode and decode.",
        type=click.IntRange(1, 1024),
        default=None,
        show_default="one per core, divided among --processes",
    ),
    _option(
        "--max-batch-symbols",
        "Most symbols in one batch; larger calls are split between coding units.",
        type=click.IntRange(min=1),
        default=2 * MIB,
    ),
    _option(
        "--max-batch-delay-ms",
        "How long a call waits for others to share its batch, in milliseconds; with 0, calls that arrive "
        "while all threads are busy share one.",
        type=_Number(0, 3_600_000),
        default=0.0,
    ),
    _option(
        "--max-queue-symbols",
        "Most queued symbols. From three quarters of it on, calls are refused with a time to retry.",
        type=click.IntRange(min=1),
        default=64 * MIB,
    ),
    _option(
        "--max-message-bytes",
        "Largest gRPC message and largest decoded array, in bytes.",
        type=click.IntRange(1024, _MOST_MESSAGE_BYTES),
        default=64 * MIB,
    ),
    _option(
        "--max-model-bytes", "Largest coding tables of one model, in bytes.", type=_BYTES, default=64 * MIB
    ),
    _option(
        "--max-cache-bytes",
        "Most memory of cached models, in bytes: configurations, coding tables and plans.",
        type=_BYTES,
        default=1024 * MIB,
    ),
    _option(
        "--max-build-seconds",
        "Longest time to build the tables of one model or to estimate one batch of bit costs, in seconds.",
        type=_Number(min=0, min_open=True),
        default=300.0,
    ),
    _option(
        "--max-build-memory-bytes",
        "Most memory that a worker may take to build the tables of one model or to estimate one batch of bit "
        "costs, in bytes.",
        type=_BYTES,
        default=4096 * MIB,
    ),
    _option(
        "--max-concurrent-calls",
        "Most calls in flight, streams included; one connection may have seven eighths of them, and its "
        "further calls wait at the client. Further calls are refused at once with a time to retry.",
        type=click.IntRange(1, 1 << 20),
        default=1024,
    ),
    _option(
        "--receive-timeout-seconds",
        "Longest time for a call's first message to arrive, or for its response to be received, in seconds; "
        "after it, the call is ended. Streams may pause between messages, unless --max-concurrent-calls is "
        "reached.",
        type=_Number(min=0, min_open=True),
        default=30.0,
    ),
    _option(
        "--max-models-per-caller",
        "Most models that one token may create; without tokens, that all callers together may create; 0 for "
        "any number.",
        type=click.IntRange(min=0),
        default=0,
    ),
    _option(
        "--max-connection-age-seconds",
        "Time after which a client is asked to reconnect, in seconds, so that it finds new replicas and "
        "presents its certificate again; 0 for never. Calls in flight are finished.",
        type=_Number(min=0),
        default=0.0,
    ),
    _option(
        "--drain-seconds",
        "How long to go on serving after the signal to stop, in seconds; health checks say NOT_SERVING.",
        type=_Number(min=0),
        default=5.0,
    ),
    _option(
        "--end-with-input/--no-end-with-input",
        "Whether to end, as on SIGTERM, when standard input ends: for programs that start a server, which "
        "then ends with them, however they end.",
        default=False,
        show_default="off",
    ),
    _option(
        "--log-format",
        "Format of log lines, on standard error: text for people, json for log collectors.",
        type=click.Choice(FORMATS),
        default="text",
    ),
    _option(
        "--log-level",
        "Lowest level that is logged. Failed calls are info or above; with debug, every call is logged.",
        type=click.Choice(LEVELS),
        default="info",
    ),
    _option(
        "--tracing/--no-tracing",
        "Whether to send traces to an OpenTelemetry collector, over OTLP/HTTP, as the OTEL_ variables say. "
        "Needs entropyd[tracing].",
        default=lambda: any(os.environ.get(name) for name in _TRACING_VARIABLES),
        show_default="on if OTEL_EXPORTER_OTLP_ENDPOINT is set",
    ),
    _option(
        "--tls-cert",
        "Certificate chain of this server in PEM, its own certificate first; turns TLS on. This file and "
        "those below are reloaded when they change.",
        type=_FILE,
    ),
    _option("--tls-key", "Private key of --tls-cert in PEM, not encrypted.", type=_FILE),
    _option(
        "--tls-client-ca",
        "Root certificates in PEM; only clients with a certificate issued by one of them may connect.",
        type=_FILE,
    ),
    _option(
        "--tokens-file",
        "Who may call: a line NAME SCOPES SHA256 for each token, as `entropyd token new` prints it. Without "
        "this file, everybody who can connect may.",
        type=_FILE,
    ),
]
