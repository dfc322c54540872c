"""Laws of docs/rans.md: its decoder decodes and refuses as the reference does, and its counts are true."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import reference_rans
from tests.support.reference_coder import CorruptError

PAGE = (Path(__file__).parent.parent.parent / "docs" / "rans.md").read_text()
PROGRAM, PRINTED = re.findall(r"```(?:python)?\n(.*?)```", PAGE, re.DOTALL)
ROWS = [([0, 30000, 60000, 65536], -1), ([0, 65536], 3), ([0, 1, 2, 60000, 65535, 65536], -2)]

WIDE = ([0, 3000, 9000, 20000, 46000, 57000, 62000, 65535, 65536], -3)


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """Names that the page's program defines, and what it prints."""
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(PROGRAM, names)  # noqa: S102 -- this is the test
    return names | {"printed": printed.getvalue()}


def test_the_program_prints_what_the_page_says(page: dict[str, Any]) -> None:
    assert page["printed"] == PRINTED


@settings(max_examples=50)
@given(integers=st.lists(st.integers(-9, 9) | st.integers(5 - 2**29, 2**29), max_size=9), tail=st.binary())
def test_the_program_decodes_and_refuses_as_the_reference(
    page: dict[str, Any], integers: list[int], tail: bytes
) -> None:
    rows = [ROWS[k % 3] for k in range(len(integers))]
    given_rows = [bounds for bounds, _ in rows], [offset for _, offset in rows]
    string = reference_rans.encode(integers, rows)
    assert page["decode"](string, *given_rows) == integers
    hostile = string[: len(string) - len(tail)] + tail
    try:
        expected = reference_rans.decode(hostile, rows)
    except CorruptError:
        with pytest.raises(ValueError, match="corrupt"):
            page["decode"](hostile, *given_rows)
    else:
        assert page["decode"](hostile, *given_rows) == expected


def flips(units: list[list[int]], rows: list[tuple[list[int], int]]) -> tuple[int, int]:
    """The single-bit changes of the strings of units, and how many of them are accepted."""
    changed = accepted = 0
    for integers in units:
        string = reference_rans.encode(integers, rows)
        for bit in range(8 * len(string)):
            number = int.from_bytes(string, "little") ^ 1 << bit
            changed += 1
            try:
                decoded = reference_rans.decode(number.to_bytes(len(string), "little"), rows)
            except CorruptError:
                continue
            assert decoded != integers
            accepted += 1
    return changed, accepted


def test_the_page_counts_the_changes_that_no_end_check_sees() -> None:
    text = " ".join(PAGE.split())
    draws = np.random.default_rng(0).normal(0, 3, (40, 24))
    changed, accepted = flips(np.rint(draws).astype(int).tolist(), [ROWS[k % 3] for k in range(24)])
    assert f"of {changed:,} single-bit changes, {accepted:,} are accepted: the digits" in text
    inside = np.clip(np.rint(np.random.default_rng(0).normal(0, 1.4, (60, 24))), -3, 3).astype(int)
    changed, accepted = flips(inside.tolist(), [WIDE] * 24)
    assert f"without escapes, of {changed:,} single-bit changes, {accepted:,} are accepted" in text
