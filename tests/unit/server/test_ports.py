"""Addresses that another program has are refused, whichever of a name's addresses it is."""

from __future__ import annotations

import errno
import socket

import pytest

from entropyd_server.ports import cannot_listen, check_free, reserve


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])  # noqa: S104 - binds for a moment
def test_an_address_on_which_somebody_listens_is_not_free(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            check_free(f"{host}:{port}")
    check_free(f"{host}:{port}")


def test_a_reserved_port_is_shared_by_those_who_ask_for_it_alone() -> None:
    with reserve("127.0.0.1:0") as reserved:
        place = reserved.getsockname()
        with pytest.raises(OSError, match="in use"):
            socket.create_server(place)
        with socket.create_server(place, reuse_port=True) as listening, socket.create_connection(place):
            listening.accept()[0].close()


def test_a_name_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(socket.gaierror):
        check_free("no-such.invalid:1")


def test_an_address_of_another_machine_is_no_address_in_use() -> None:
    with pytest.raises(OSError, match="assign") as caught:
        check_free("192.0.2.1:7070")
    assert cannot_listen("192.0.2.1:7070", caught.value) == (
        "cannot listen on 192.0.2.1:7070: Cannot assign requested address"
    )


def test_an_address_in_use_and_what_grpc_says_of_one_ask_for_the_other_server() -> None:
    in_use = OSError(errno.EADDRINUSE, "Address already in use")
    for error in (in_use, RuntimeError("Failed to bind to address")):
        assert cannot_listen("[::1]:7070", error) == ("cannot listen on [::1]:7070: is another server there?")
