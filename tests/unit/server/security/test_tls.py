"""Laws of certificates' dates: what is not valid, or soon will not be, is told with its date."""

from __future__ import annotations

import asyncio
import datetime
import shutil
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from cryptography import x509
from prometheus_client import CollectorRegistry

from entropyd_server.metrics import Metrics
from entropyd_server.security.protection import Protection
from entropyd_server.security.tls import CERT, CLIENT_CA, KEY, Validity, chain_validity, roots_validity
from entropyd_server.settings import Settings, command
from tests.support.certificates import Authority

if TYPE_CHECKING:
    from pathlib import Path

DAY = 86400.0
NOW = datetime.datetime(2026, 1, 31, tzinfo=datetime.timezone.utc).timestamp()


@pytest.mark.parametrize(
    ("begins", "ends", "trouble"),
    [
        (-50, 40, None),
        (-76, 14.1, None),
        (-80, 13.9, "expires on 2026-02-13 21:36 UTC"),
        (-90, -1, "expired on 2026-01-30 00:00 UTC"),
        (1, 90, "is not valid before 2026-02-01 00:00 UTC"),
        # One of a day, renewed in time.
        (-0.5, 0.5, None),
        (-0.8, 0.2, "expires on 2026-01-31 04:48 UTC"),
    ],
)
def test_an_operator_is_told_in_time_and_not_all_the_time(
    begins: float, ends: float, trouble: str | None
) -> None:
    assert Validity(NOW + begins * DAY, NOW + ends * DAY).trouble(NOW) == trouble


def test_a_chain_ends_with_its_first_certificate_and_roots_with_the_last(tmp_path: Path) -> None:
    authority = Authority("root")
    paths = [authority.issue(tmp_path, f"of-{end}", days=(-end, end))[0] for end in (1, 2, 3)]
    certificates = [x509.load_pem_x509_certificate(path.read_bytes()) for path in paths]
    begins = [certificate.not_valid_before_utc.timestamp() for certificate in certificates]
    ends = [certificate.not_valid_after_utc.timestamp() for certificate in certificates]
    pem = b"text around it\n".join(path.read_bytes() for path in paths)
    assert chain_validity(pem) == (begins[0], ends[0])
    assert roots_validity(pem) == (begins[2], ends[2])
    assert chain_validity(b"") is roots_validity(b"") is None


def test_a_certificate_that_is_not_valid_is_told_at_the_start_and_when_it_is_renewed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = Authority("root")
    cert, key = authority.issue(tmp_path, "server", days=(-90, -1))
    flags = (CERT, str(cert), KEY, str(key), CLIENT_CA, str(authority.write(tmp_path / "ca.pem")))
    served: list[Settings] = []
    assert CliRunner().invoke(command(served.append), flags).exit_code == 0
    metrics, registry = Metrics("test"), CollectorRegistry()
    registry.register(metrics)

    def expires(file: str) -> datetime.datetime:
        labels = {"file": file}
        value = registry.get_sample_value("entropyd_certificate_expiry_timestamp_seconds", labels)
        assert value is not None
        return datetime.datetime.fromtimestamp(value, datetime.timezone.utc)

    def end_of(path: Path) -> datetime.datetime:
        return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc

    guarded = Protection(served[0], metrics)
    assert guarded._tls is not None
    assert [record.getMessage() for record in caplog.records] == [
        f"the certificate of --tls-cert expired on {end_of(cert):%Y-%m-%d %H:%M} UTC"
    ]
    assert expires("tls-cert") == end_of(cert)
    assert expires("tls-client-ca") == end_of(tmp_path / "ca.pem")
    guarded._warn_of_dates()  # nothing new
    for days, told in (((-9, 1), "expires on"), ((1, 90), "is not valid before"), ((-1, 90), None)):
        caplog.clear()
        for new, old in zip(authority.issue(tmp_path, "new", days=days), (cert, key), strict=True):
            shutil.copy(new, old)
        asyncio.run(guarded._tls.refresh())
        said = [record.getMessage() for record in caplog.records if "certificate of" in record.getMessage()]
        assert len(said) == (told is not None)
        assert told is None or told in said[0]
        assert expires("tls-cert") == end_of(cert)
