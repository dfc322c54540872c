"""Checks PEM files. gRPC does not: it takes any bytes, and ends the process for some of them."""

from __future__ import annotations

import os
import ssl


def check_pair(certificate: str | os.PathLike[str], key: str | os.PathLike[str]) -> None:
    """Makes sure that two files in PEM have a certificate chain and its key.

    Raises:
      OSError: If a file cannot be read.
      ValueError: If a file is no PEM of its kind, is encrypted, or the key is another certificate's.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        if error.reason in {"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"}:
            raise ValueError("the key is not the certificate's") from error
        raise ValueError("expected a certificate and its key, both in PEM") from error


def check_roots(roots: bytes) -> None:
    """Raises ValueError unless `roots` are certificates in PEM."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=roots.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise ValueError("expected certificates in PEM") from error


def _no_password() -> str:
    raise ValueError("the key is encrypted; gRPC needs one that is not")
