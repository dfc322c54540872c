"""Targets of gRPC: which ones name a server, and which ones stay on this machine.

The second question decides whether a secret may be sent in plain text. No name is resolved. Invariant: a
target whose place is unknown counts as another machine.
"""

from __future__ import annotations

import ipaddress
import re

_LOCAL_SCHEMES = ("unix:", "unix-abstract:")
# Schemes whose rest is addresses; of `dns:`, only the form that names no other resolver.
_ADDRESS_SCHEMES = ("dns:///", "dns:", "ipv4:", "ipv6:")
# Schemes whose rest is a name that something else than DNS resolves.
_NAMING_SCHEMES = ("xds:", "google-c2p:", "vsock:")
_HOST_AND_PORT = re.compile(r"(?:\[[^\[\]\s]+\]|[^\s:/,\[\]]+):(\d{1,5})")


def check_target(target: str) -> None:
    """Refuses what is no target of gRPC, or names no port, for which gRPC would take 443.

    Args:
      target: As in `[::1]:PORT`, `unix:PATH`, `dns:///HOST:PORT` or `ipv4:127.0.0.1:1,127.0.0.1:2`.

    Raises:
      ValueError: Saying what was found and what is expected.
    """
    if not isinstance(target, str) or not _is_target(target):
        expected = "HOST:PORT, unix:PATH or another gRPC target, as dns:///HOST:PORT"
        raise ValueError(f"the target is {target!r}; expected {expected}")


def _is_target(target: str) -> bool:
    for scheme in (*_LOCAL_SCHEMES, *_NAMING_SCHEMES):
        if target.startswith(scheme):
            return len(target) > len(scheme)
    if target.startswith("dns://") and not target.startswith("dns:///"):
        addresses = target.removeprefix("dns://").partition("/")[2]  # between them stands the name server
    else:
        addresses = _without_scheme(target)
    found = [_HOST_AND_PORT.fullmatch(part) for part in addresses.split(",")]
    return all(match is not None and 0 < int(match[1]) < 1 << 16 for match in found)


def stays_on_this_machine(address: str) -> bool:
    """Whether all that is sent to a gRPC target, or received on an address, stays on this machine.

    Args:
      address: As in `HOST:PORT`, `unix:PATH` or `ipv4:127.0.0.1:1,127.0.0.1:2`.
    """
    if address.startswith(_LOCAL_SCHEMES):
        return True
    return all(_is_loopback(part) for part in _without_scheme(address).split(","))


def _without_scheme(address: str) -> str:
    for scheme in _ADDRESS_SCHEMES:
        if address.startswith(scheme):
            return address[len(scheme) :]
    return address


def _is_loopback(part: str) -> bool:
    host = part.rpartition(":")[0] if not part.endswith("]") else part
    host = host or part
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
