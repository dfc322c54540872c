"""Laws of settings: every flag has a default, an environment variable and a range, and says so."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from entropyd_server.flags import MIB, default_store
from entropyd_server.installation import parse_roles
from entropyd_server.settings import Settings, command

if TYPE_CHECKING:
    from click.testing import Result

FLAGS = {field.name for field in fields(Settings)} - {"roles"} | {"role"}


def invoke(*arguments: str, env: dict[str, str] | None = None) -> tuple[Result, list[Settings]]:
    served: list[Settings] = []
    result = CliRunner().invoke(command(served.append), arguments, env=env)
    return result, served


def settings_of(*arguments: str, env: dict[str, str] | None = None) -> Settings:
    result, (settings,) = invoke(*arguments, env=env)
    assert result.exit_code == 0
    return settings


def test_no_flag_at_all_serves_what_the_installation_can_on_this_machine() -> None:
    settings = settings_of()
    assert settings.listen == "127.0.0.1:7070"
    assert settings.metrics_listen == "127.0.0.1:9464"
    assert settings.store == default_store()
    assert settings.store.startswith("file:///")
    assert settings.roles == parse_roles("auto")
    assert settings.codec_threads >= 1
    assert settings.max_message_bytes == settings.max_model_bytes == 64 * MIB


def test_threads_are_divided_among_processes() -> None:
    alone, many = settings_of(), settings_of("--processes", "1024", "--role", "coding")
    assert (alone.processes, many.processes) == (1, 1024)
    assert many.codec_threads == 1
    assert settings_of("--processes", "auto", "--role", "coding").processes >= 1


@pytest.mark.parametrize("version", ["4.3", "4.11"])
def test_a_user_without_a_home_is_told_to_say_where_models_live(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def data_path(_: str) -> Path:
        """What platformdirs does for a user whom the system does not know."""
        if version == "4.3":
            return Path("~/.local/share/entropyd")
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr("entropyd_server.flags.user_data_path", data_path)
    result, served = invoke()
    assert result.exit_code == 2
    assert "set --store" in result.output
    assert served == []
    assert settings_of("--store", "memory:///").store == "memory:///"
    assert invoke("--help")[0].exit_code == 0


def test_roles_are_named_by_flag_or_variable() -> None:
    assert settings_of("--role", "all").roles == {"coding", "modeling", "registry"}
    assert settings_of(env={"ENTROPYD_ROLE": "coding,registry"}).roles == {"coding", "registry"}


def test_a_flag_wins_over_the_environment_and_that_over_the_default() -> None:
    env = {"ENTROPYD_LISTEN": "[::1]:1", "ENTROPYD_MAX_CACHE_BYTES": "4096"}
    settings = settings_of("--listen", "0.0.0.0:2", env=env)
    assert settings.listen == "0.0.0.0:2"
    assert settings.max_cache_bytes == 4096


def test_a_server_traces_where_the_environment_names_a_collector_unless_it_is_told_otherwise() -> None:
    collector = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
    assert not settings_of().tracing
    assert settings_of(env=collector).tracing
    assert settings_of("--tracing").tracing
    assert not settings_of("--no-tracing", env=collector).tracing
    assert not settings_of(env={**collector, "ENTROPYD_TRACING": "false"}).tracing


def test_every_setting_has_a_flag_and_an_environment_variable_in_the_help() -> None:
    result, served = invoke("--help")
    assert served == []
    for name in FLAGS:
        assert f"--{name.replace('_', '-')} " in result.output
        assert f"ENTROPYD_{name.upper()}" in " ".join(result.output.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ("--role", "everything"),
        ("--codec-threads", "0"),
        ("--processes", "0"),
        ("--processes", "2", "--role", "all"),
        ("--processes", "2", "--role", "coding", "--listen", "unix:/tmp/socket"),
        ("--processes", "2", "--role", "coding", "--store", "memory:///"),
        ("--max-message-bytes", "1023"),
        ("--max-model-bytes", "many"),
        ("--max-cache-bytes", "-1"),
        ("--max-build-seconds", "0"),
        ("--max-build-seconds", "nan"),
        ("--max-build-memory-bytes", "0"),
        ("--drain-seconds", "-1"),
        ("--drain-seconds", "nan"),
        ("--max-concurrent-calls", "0"),
        ("--max-models-per-caller", "-1"),
        ("--max-connection-age-seconds", "nan"),
        ("--tls-cert", "server.crt"),
        ("--tls-key", "server.key"),
        ("--tls-client-ca", "ca.crt"),
        ("--listen", "7070"),
        ("--listen", ":7070"),
        ("--listen", "127.0.0.1:70700"),
        ("--listen", "::1:7070"),
        ("--listen", ""),
        ("--metrics-listen", "9464"),
        ("--metrics-listen", "localhost"),
        ("--metrics-listen", "unix:/tmp/socket"),
        ("--health-listen", "7071"),
        ("--max-message-bytes", str(1 << 31)),
        ("--max-concurrent-calls", str(1 << 27)),
        ("--log-format", "xml"),
        ("--log-level", "chatty"),
        ("--max-model-bytes", "8192", "--max-message-bytes", "4096"),
        ("--no-such-flag",),
    ],
)
def test_a_value_out_of_range_is_refused_by_flag_and_nothing_serves(arguments: tuple[str, ...]) -> None:
    result, served = invoke(*arguments)
    assert result.exit_code == 2
    assert arguments[0] in result.output
    assert served == []


@pytest.mark.parametrize(
    ("flag", "address"),
    [
        ("--listen", "unix:socket"),
        ("--listen", "unix-abstract:socket"),
        ("--listen", "0.0.0.0:0"),
        ("--listen", "[::1]:7070"),
        ("--listen", "some-host.example:65535"),
        ("--metrics-listen", "[::]:9464"),
        ("--metrics-listen", ""),
        ("--health-listen", "localhost:7071"),
    ],
)
def test_an_address_is_taken_as_it_is(flag: str, address: str) -> None:
    result, served = invoke(flag, address)
    assert result.exit_code == 0, result.output
    assert getattr(served[0], flag[2:].replace("-", "_")) == address


def test_a_bad_value_in_the_environment_is_refused_like_a_flag() -> None:
    result, served = invoke(env={"ENTROPYD_CODEC_THREADS": "none"})
    assert result.exit_code == 2
    assert served == []


def test_calls_do_not_gather_for_ever() -> None:
    result, served = invoke("--max-batch-delay-ms", "inf")
    assert (result.exit_code, served) == (2, [])
    assert "--max-batch-delay-ms" in result.output
