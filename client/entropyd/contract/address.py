"""Where an address of gRPC leads: out of this machine, or not.

Owns that question, which decides whether a secret may go there in plain text. It must not resolve names.
Invariant: what it cannot tell counts as leading out.
"""

from __future__ import annotations

import ipaddress

_LOCAL_SCHEMES = ("unix:", "unix-abstract:")
# Schemes whose rest is addresses; of `dns:`, only the form that names no other resolver.
_ADDRESS_SCHEMES = ("dns:///", "dns:", "ipv4:", "ipv6:")


def stays_on_this_machine(address: str) -> bool:
    """Whether all that is sent to a gRPC target, or received on an address, stays on this machine.

    Args:
      address: As in `HOST:PORT`, `unix:PATH` or `ipv4:127.0.0.1:1,127.0.0.1:2`.
    """
    if address.startswith(_LOCAL_SCHEMES):
        return True
    for scheme in _ADDRESS_SCHEMES:
        if address.startswith(scheme):
            address = address[len(scheme) :]
            break
    return all(_is_loopback(part) for part in address.split(","))


def _is_loopback(part: str) -> bool:
    host = part.rpartition(":")[0] if not part.endswith("]") else part
    host = host or part
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
