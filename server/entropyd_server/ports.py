"""Addresses that a server listens on: HOST:PORT, or unix:PATH where a socket of the file system will do."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Iterator
from typing import Any

# A name, an IPv4 address, or an IPv6 address in brackets; and a port.
_HOST_PORT = re.compile(r"(?:[^\s:\[\]/]+|\[[0-9a-fA-F:.%\w]+\]):(\d{1,5})")
_MOST_PORT = 65535


def is_unix(address: str) -> bool:
    """Whether an address is a socket of the file system, or an abstract one."""
    return address.startswith("unix")


def is_host_port(address: str) -> bool:
    """Whether an address is HOST:PORT."""
    matched = _HOST_PORT.fullmatch(address)
    return matched is not None and int(matched[1]) <= _MOST_PORT


def check_free(address: str) -> None:
    """Checks that a server could listen on HOST:PORT, and nobody does on any address that HOST stands for.

    gRPC is content with one of them: where another server has 127.0.0.1:7070, it would listen for
    localhost:7070 on [::1] alone. Sockets of the file system are not checked.

    Raises:
      OSError: If somebody does, HOST is not known, or this process may listen on none of them.
    """
    if is_unix(address):
        return
    places, errors = list(_places(address)), []
    for family, place in places:
        try:
            with socket.socket(family, socket.SOCK_STREAM) as alone:
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                alone.bind(place)
        except OSError as error:
            errors.append(error)
            # Of the others some may fail: a machine need not have every family and address.
            if error.errno == errno.EADDRINUSE or len(errors) == len(places):
                raise


def cannot_listen(address: str, error: Exception) -> str:
    """Says why nothing can listen on an address; gRPC's own errors do not."""
    why = ": is another server there?"
    if isinstance(error, OSError) and error.errno != errno.EADDRINUSE:
        why = f": {error.strerror or error}"
    return f"cannot listen on {address}{why}"


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
