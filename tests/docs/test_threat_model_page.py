"""The threat model names a test for every threat, and every test that it names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "threat-model.md").read_text()
NAMED = re.findall(r"`(tests/[a-z_/]+\.py)::(test_[a-z0-9_]+)`", PAGE)
ROWS = [
    row
    for row in re.findall(r"^\| (.*) \|$", PAGE, re.MULTILINE)
    if not row.startswith(("threat ", "**")) and not set(row) <= set("-|")
]


def functions(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_threat_has_a_defence_and_a_test() -> None:
    assert len(ROWS) > 25
    for row in ROWS:
        threat, defence, tests = row.split(" | ")
        assert threat
        assert defence
        assert re.search(r"`tests/[a-z_/]+\.py::test_", tests), row


def test_every_test_that_is_named_exists() -> None:
    assert [f"{path}::{name}" for path, name in NAMED if name not in functions(path)] == []
