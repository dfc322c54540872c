"""TLS of the gRPC port, with certificates that can be renewed while the server runs.

Invariant: a certificate that a handshake offers belongs to its key.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping

import grpc

from entropyd.contract.pem import check_pair, check_roots
from entropyd_server.security.reloading import Reloaded

CERT, KEY, CLIENT_CA = "--tls-cert", "--tls-key", "--tls-client-ca"


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
