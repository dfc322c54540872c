"""Laws of the choice of a transport: private parts of grpcio are used only in versions that were tested."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

from entropyd_server.transport.transports import AIO, CORE, choose, is_tested

if TYPE_CHECKING:
    from collections.abc import Sequence


@pytest.mark.parametrize(
    ("found", "tested"),
    [
        ("1.62.2", False),
        ("1.62.3", True),
        ("1.85.1", True),
        ("1.85.0rc2", True),
        ("1.86", False),
        ("1.86.0rc1", False),
        ("1.100.0", False),
        ("2.0", False),
    ],
)
def test_versions_between_the_oldest_and_the_newest_tested_are_tested(found: str, tested: bool) -> None:
    assert is_tested(found) == tested


@pytest.mark.parametrize(
    ("asked", "found", "chosen", "warnings"),
    [(CORE, "1.85.1", CORE, 0), (CORE, "1.86.0", AIO, 1), (AIO, "1.85.1", AIO, 0), (AIO, "1.86.0", AIO, 0)],
)
def test_core_gives_way_to_aio_with_one_warning(
    asked: str, found: str, chosen: str, warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert choose(asked, found).name == chosen
    said: Sequence[str] = [record.getMessage() for record in caplog.records]
    assert len(said) == warnings
    assert not said or (found in said[0] and "1.62.3" in said[0] and "1.86" in said[0])


def test_the_installed_grpcio_is_tested() -> None:
    assert is_tested(version("grpcio"))
