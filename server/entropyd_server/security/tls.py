"""TLS of the gRPC port, with certificates that can be renewed while the server runs, and their dates.

Invariant: a certificate that a handshake offers belongs to its key.
"""

from __future__ import annotations

import contextlib
import os
import re
import ssl
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple

import grpc

from entropyd.contract.pem import check_pair, check_roots
from entropyd_server.security.reloading import Reloaded

CERT, KEY, CLIENT_CA = "--tls-cert", "--tls-key", "--tls-client-ca"
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
# Warns so long before the end, or in the last quarter of a shorter life.
_NOTICE_S = 14 * 24 * 3600.0


def parse_tls(pem: Mapping[str, bytes]) -> grpc.ServerCertificateConfiguration:
    """Makes a certificate configuration of PEM files.

    Args:
      pem: CERT has the server's certificate and those between it and the root, KEY its key. CLIENT_CA is
        optional and has the roots of clients' certificates.

    Raises:
      ValueError: If a file is no PEM of its kind, is encrypted, or the key is another certificate's.
    """
    with readable(pem[CERT]) as certificate, readable(pem[KEY]) as key:
        check_pair(certificate, key)
    roots = pem.get(CLIENT_CA)
    if roots is not None:
        try:
            check_roots(roots)
        except ValueError as error:
            raise ValueError(f"{CLIENT_CA}: {error}") from error
    return grpc.ssl_server_certificate_configuration([(pem[KEY], pem[CERT])], roots)


def server_credentials(
    tls: Reloaded[grpc.ServerCertificateConfiguration], *, clients_too: bool
) -> grpc.ServerCredentials:
    """Returns credentials of a port whose handshakes use the newest certificate.

    `clients_too` says whether a client must present a certificate of its own.
    """
    served = tls.value

    def newest() -> grpc.ServerCertificateConfiguration | None:
        # gRPC's threads call this before each handshake; None means no change. Two threads may both return a
        # change, and one that is missed is returned at the next handshake.
        nonlocal served
        current = tls.value
        if current is served:
            return None
        served = current
        return current

    return grpc.dynamic_ssl_server_credentials(
        served,
        newest,  # type: ignore[arg-type]  # gRPC takes None, its types do not
        require_client_authentication=clients_too,
    )


@contextlib.contextmanager
def readable(content: bytes) -> Iterator[str]:
    """Makes a path with this content, in memory only: a key must not be written to a disk."""
    descriptor = os.memfd_create("pem")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


class Validity(NamedTuple):
    """When a certificate is valid, in seconds since 1970."""

    not_before: float
    not_after: float

    def trouble(self, now: float) -> str | None:
        """Returns a warning that continues the certificate's name, if there is one at this time."""
        if now < self.not_before:
            return f"is not valid before {_date(self.not_before)}"
        if now > self.not_after:
            return f"expired on {_date(self.not_after)}"
        if self.not_after - now < min(_NOTICE_S, (self.not_after - self.not_before) / 4):
            return f"expires on {_date(self.not_after)}"
        return None


def chain_validity(pem: bytes) -> Validity | None:
    """Returns when all certificates of a chain are valid; None if no certificate is found."""
    found = list(_each(pem))
    if not found:
        return None
    return Validity(max(each.not_before for each in found), min(each.not_after for each in found))


def roots_validity(pem: bytes) -> Validity | None:
    """Returns when the root that expires last is valid; older ones may stay while clients change over."""
    return max(_each(pem), key=lambda each: each.not_after, default=None)


def _each(pem: bytes) -> Iterator[Validity]:
    for certificate in _CERTIFICATE.findall(pem):
        with readable(certificate) as path:
            # The standard library has no other decoder of a certificate that no peer has presented.
            decoded: dict[str, Any] = ssl._ssl._test_decode_cert(path)  # type: ignore[attr-defined]  # noqa: SLF001
        yield Validity(*(float(ssl.cert_time_to_seconds(decoded[end])) for end in ("notBefore", "notAfter")))


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
