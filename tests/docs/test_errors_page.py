"""The table of docs/errors.md is the catalog of errors."""

from __future__ import annotations

import re
from pathlib import Path

import entropyd
from entropyd.contract.errors import CATALOG

PAGE = (Path(__file__).parents[2] / "docs" / "errors.md").read_text()
ROW = re.compile(r"^\| (`[A-Z_`, ]+`) \| `(\w+)` \| ([A-Z_]+) \| \S", re.MULTILINE)


def test_every_reason_stands_in_the_table_with_its_class_and_code() -> None:
    shown = {
        (reason, name, code)
        for reasons, name, code in ROW.findall(PAGE)
        for reason in re.findall(r"\w+", reasons)
    }
    assert shown == {(reason, error.__name__, error.code) for error in CATALOG for reason in error.reasons}
    assert all(hasattr(entropyd, name) for _, name, _ in shown)
