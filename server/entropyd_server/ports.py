"""Addresses that a server listens on, HOST:PORT."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from typing import Any


def check_free(address: str) -> None:
    """Checks that nobody listens on any of the addresses that HOST stands for.

    gRPC is content with one of them: where another server has 127.0.0.1:7070, it would listen for
    localhost:7070 on [::1] alone.

    Raises:
      OSError: If somebody does, or HOST is not known.
    """
    for family, place in _places(address):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as alone:
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                alone.bind(place)
        except OSError as error:  # a machine need not have every family and address
            if error.errno == errno.EADDRINUSE:
                raise


def reserve(address: str) -> socket.socket:
    """A socket that keeps a port for processes of this user that share it, and takes no connections itself.

    Raises:
      OSError: As `check_free`, or if the address is not one of this machine.
    """
    # Without SO_REUSEPORT first: with it, a second group of processes would silently share the port.
    check_free(address)
    family, place = next(_places(address))
    shared = socket.socket(family, socket.SOCK_STREAM)
    shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    shared.bind(place)
    return shared


def _places(address: str) -> Iterator[tuple[socket.AddressFamily, Any]]:
    """The family of each address, and what its sockets bind to."""
    host, _, port = address.rpartition(":")
    found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, _, _, _, place in found:
        yield family, place
