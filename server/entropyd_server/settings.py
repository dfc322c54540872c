"""The settings of a server process, and the command that reads them.

Invariant: a `Settings` is complete and in range.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from entropyd_server.flags import MIB, OPTIONS
from entropyd_server.installation import CODING, MODELING, REGISTRY
from entropyd_server.limits import Limits
from entropyd_server.machine import cores, machine_bytes
from entropyd_server.modeling.devices import Device
from entropyd_server.ports import is_unix

# Memory of an idle server process and of an idle worker.
_SERVER_BYTES = 256 * MIB
_WORKER_BYTES = 512 * MIB


@dataclass(frozen=True)
class Settings:
    """The value of every flag; see `entropyd-server --help`."""

    listen: str
    processes: int
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
    end_with_input: bool
    log_format: str
    log_level: str
    tracing: bool
    tls_cert: Path | None
    tls_key: Path | None
    tls_client_ca: Path | None
    tokens_file: Path | None

    @property
    def limits(self) -> Limits:
        return Limits(
            max_message_bytes=self.max_message_bytes,
            max_model_bytes=self.max_model_bytes,
            max_build_seconds=self.max_build_seconds,
            max_concurrent_calls=self.max_concurrent_calls,
            max_models_per_caller=self.max_models_per_caller,
        )


def _builders(devices: int, max_build_memory_bytes: int) -> int:
    """Returns 2 if memory has room for two builders and the workers of so many devices, else 1."""
    needed = _SERVER_BYTES + (devices + 2) * (_WORKER_BYTES + max_build_memory_bytes)
    return 2 if machine_bytes() >= needed else 1


def _check_processes(roles: frozenset[str], listen: str, store: str) -> None:
    """Raises UsageError unless several processes can serve this."""
    if MODELING in roles:
        raise click.UsageError(
            f"--processes needs --role {CODING},{REGISTRY} or one of them, as TensorFlow's workers belong to "
            "one process; run the modeling role as another server, on the same store"
        )
    if is_unix(listen):
        raise click.UsageError(f"--processes needs a port, as in --listen 127.0.0.1:7070; got {listen}")
    if store.startswith("memory:"):
        raise click.UsageError("--processes needs a store that processes can share; got memory:///")


def settings_without_variables(*flags: str) -> Settings:
    """The settings of a command line, whatever the environment says."""
    made: list[Settings] = []
    server = command(made.append)
    for option in server.params:
        option.envvar = None
    server.main(flags, standalone_mode=False)
    return made[0]


def command(serve: Callable[[Settings], None]) -> click.Command:
    """Makes the `entropyd-server` command around a function that serves."""

    def invoke(role: frozenset[str], **flags: Any) -> None:
        if flags["max_model_bytes"] > flags["max_message_bytes"]:
            # GetTables returns the tables of a model in one message.
            raise click.UsageError("--max-model-bytes must be at most --max-message-bytes")
        if (flags["tls_cert"] is None) != (flags["tls_key"] is None):
            raise click.UsageError("--tls-cert and --tls-key need each other")
        if flags["tls_client_ca"] is not None and flags["tls_cert"] is None:
            raise click.UsageError("--tls-client-ca needs --tls-cert and --tls-key")
        if flags["end_with_input"] and sys.stdin is None:
            raise click.UsageError("--end-with-input needs a standard input, and it is closed")
        if flags["processes"] > 1:
            _check_processes(role, flags["listen"], flags["store"])
        if flags["codec_threads"] is None:
            flags["codec_threads"] = max(1, len(cores()) // flags["processes"])
        if flags["builders"] is None:
            flags["builders"] = _builders(len(flags["devices"]), flags["max_build_memory_bytes"])
        serve(Settings(roles=role, **flags))

    invoke.__doc__ = """Serve entropy models over gRPC.

    Every option can also be set by the environment variable that is shown with it.
    """
    for option in reversed(OPTIONS):
        invoke = option(invoke)
    versioned = click.version_option(package_name="entropyd", prog_name="entropyd-server")
    context = {"max_content_width": 100, "help_option_names": ["-h", "--help"]}
    return click.command(context_settings=context)(versioned(invoke))
