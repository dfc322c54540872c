"""TLS of the gRPC port, with certificates that can be renewed while the server runs.

Owns how PEM files become gRPC's credentials. It must not know when files change. Invariant: a certificate
that is offered in a handshake belongs to its key.
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
      pem: CERT with the server's certificate and those between it and the root, KEY with its key, and
        perhaps CLIENT_CA with the roots of clients' certificates.

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
    """Credentials of a port whose handshakes use the newest certificate.

    Args:
      tls: The certificates.
      clients_too: Whether a client must show a certificate of its own.
    """
    served = tls.value

    def newest() -> grpc.ServerCertificateConfiguration | None:
        # Called by gRPC's threads before each handshake; None keeps what is there. Two at once may both hand
        # over the same change, and one that is overtaken hands over the next one at the next handshake.
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
    """A path that reads as `content`; in memory only, as a key must not touch the disk."""
    descriptor = os.memfd_create("pem")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
