"""Warns of certificates that are not valid, or soon will not be."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any, NamedTuple

from entropyd_server.security.tls import readable

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
# Warns so long before the end, or in the last quarter of a shorter life.
_NOTICE_S = 14 * 24 * 3600.0


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
