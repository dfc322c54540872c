"""Checks PEM files. gRPC does not: it takes any bytes, and ends the process for some of them."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os


def check_pair(certificate: str | os.PathLike[str], key: str | os.PathLike[str]) -> None:
    """Makes sure that a certificate chain and its key belong together.

    Args:
      certificate: File with the chain in PEM.
      key: File with the key in PEM, not encrypted.

    Raises:
      OSError: If a file cannot be read.
      ValueError: If a file is no PEM of its kind, is encrypted, or the key is another certificate's.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        why = {
            "KEY_VALUES_MISMATCH": "the key is not the certificate's",
            "KEY_TYPE_MISMATCH": "the key is not the certificate's",
        }.get(error.reason or "", "expected a certificate and its key, both in PEM")
        raise ValueError(why) from error


def check_roots(roots: bytes) -> None:
    """Makes sure that there are certificates in PEM.

    Raises:
      ValueError: If there are none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=roots.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise ValueError("expected certificates in PEM") from error


def _no_password() -> str:
    raise ValueError("the key is encrypted; gRPC needs one that is not")
