"""Laws of targets: they name a server; only what surely stays on this machine counts as staying on it."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

import entropyd
import entropyd.aio
from entropyd.contract.address import check_target, stays_on_this_machine

LOCAL = [
    "localhost",
    "localhost:7070",
    "127.0.0.1:7070",
    "127.1.2.3:1",
    "[::1]:7070",
    "unix:/run/socket",
    "unix:///run/socket",
    "unix-abstract:name",
    "dns:///localhost:7070",
    "dns:localhost:7070",
    "ipv4:127.0.0.1:1,127.0.0.1:2",
    "ipv6:[::1]:1",
]
ELSEWHERE = [
    "",
    "0.0.0.0:7070",
    "[::]:7070",
    "10.0.0.1:7070",
    "localhost.example.org:7070",
    "example.org:7070",
    "example.org:127.0.0.1",
    "ipv4:127.0.0.1:1,10.0.0.1:2",
    "dns://8.8.8.8/localhost:7070",
    "xds:///localhost",
    "passthrough:///127.0.0.1:1",
    "[fe80::1]:7070",
]


@pytest.mark.parametrize("address", LOCAL)
def test_this_machine_is_known(address: str) -> None:
    assert stays_on_this_machine(address)


@pytest.mark.parametrize("address", ELSEWHERE)
def test_anything_else_leads_out(address: str) -> None:
    assert not stays_on_this_machine(address)


@pytest.mark.parametrize("kind", [entropyd.Client, entropyd.aio.Client])
def test_a_token_goes_out_of_this_machine_under_tls_only(kind: type[entropyd.Client]) -> None:
    with pytest.raises(ValueError, match="plain text; use TLS") as caught:
        kind("example.org:7070", token="entropyd_secret")  # noqa: S106
    assert "entropyd_secret" not in str(caught.value)


def test_a_token_may_go_to_this_machine_or_under_tls() -> None:
    entropyd.Client("localhost:1", token="t").close()  # noqa: S106
    credentials = grpc.ssl_channel_credentials()
    entropyd.Client("example.org:1", credentials=credentials, token="t").close()  # noqa: S106


@pytest.mark.parametrize("token", ["", "secret\n", "two words", "sécret"])
def test_a_token_that_cannot_be_sent_is_refused_without_repeating_it(token: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII") as caught:
        entropyd.Client("localhost:1", token=token)
    assert not token or token not in str(caught.value)


def test_a_certificate_needs_its_key() -> None:
    with pytest.raises(ValueError, match="need one another"):
        entropyd.tls_credentials(cert="client.crt")


TARGETS = [
    "localhost:7070",
    "example.org:1",
    "10.0.0.1:65535",
    "[::1]:7070",
    "unix:/run/socket",
    "unix:socket",
    "unix-abstract:name",
    "dns:example.org:7070",
    "dns:///example.org:7070",
    "dns://8.8.8.8/example.org:7070",
    "ipv4:127.0.0.1:1,127.0.0.1:2",
    "ipv6:[::1]:1",
    "xds:///service",
]
NO_TARGETS = [
    "",
    " ",
    "localhost",
    "127.0.0.1",
    ":7070",
    "::1",
    "::1:7070",
    "[::1]",
    "localhost:",
    "localhost:http",
    "localhost:0",
    "localhost:65536",
    "localhost:7070 ",
    "localhost:7070/",
    "http://localhost:7070",
    "https://localhost:7070",
    "grpc://localhost:7070",
    "dns:///localhost",
    "dns://8.8.8.8/localhost",
    "ipv4:127.0.0.1:1,127.0.0.1",
    "unix:",
    "xds:",
    None,
    7070,
]


@pytest.mark.parametrize("target", TARGETS)
def test_what_names_a_server_and_its_port_is_a_target(target: str) -> None:
    check_target(target)


@pytest.mark.parametrize("target", NO_TARGETS)
def test_every_client_refuses_what_is_no_target_and_repeats_it(target: Any) -> None:
    for refuse in (check_target, entropyd.Client, entropyd.aio.Client):
        with pytest.raises(ValueError, match=r"expected HOST:PORT, unix:PATH") as caught:
            refuse(target)
        assert repr(target) in str(caught.value)
