"""Pages with one program, run as it is written, print what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.pages import check_printed

if TYPE_CHECKING:
    from pathlib import Path

    from entropyd_server.local import LocalServer

PAGES = [
    "index.md",
    "rounding.md",
    "tutorials/histogram.md",
    "tutorials/error-bound.md",
    "tutorials/own-codec.md",
]


@pytest.mark.parametrize("page", PAGES)
def test_a_program_prints_what_its_page_says(
    server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, page: str
) -> None:
    monkeypatch.chdir(tmp_path)
    check_printed(page, server)
