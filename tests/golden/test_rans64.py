"""Golden strings of the rANS code: they encode and decode today as they always will."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import reference_rans
from tests.support.coding_cases import tables_of
from tests.support.rans_cases import decode_rans, encode_rans

CASES = json.loads((Path(__file__).with_name("rans64") / "strings.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=[case["about"] for case in CASES])
def test_golden_strings_are_written_and_read(case: dict[str, Any]) -> None:
    rows = [(cumulative, offset) for cumulative, offset in case["rows"]]
    tables, row_index = tables_of(16, rows), case["row_index"]
    strings = [bytes.fromhex(string) for string in case["strings_hex"]]
    assert encode_rans(tables, row_index, case["units"])[0] == strings
    assert decode_rans(tables, row_index, strings)[0] == case["units"]
    coding_rows = [rows[row] for row in row_index]
    assert [reference_rans.encode(unit, coding_rows) for unit in case["units"]] == strings


def test_no_changed_bit_leaves_the_symbols_as_they_were() -> None:
    accepted = changes = 0
    for case in CASES:
        tables = tables_of(16, [(cumulative, offset) for cumulative, offset in case["rows"]])
        for unit, string in zip(case["units"], map(bytes.fromhex, case["strings_hex"]), strict=True):
            number, bits = int.from_bytes(string, "big"), 8 * len(string)
            changed = [(number ^ (1 << bit)).to_bytes(len(string), "big") for bit in range(bits)]
            decoded = [own for own in decode_rans(tables, case["row_index"], changed)[0] if own is not None]
            assert unit not in decoded
            accepted += len(decoded)
            changes += bits
    page = (Path(__file__).parents[2] / "docs" / "rans.md").read_text()
    assert f"{accepted:,} of {changes:,} are" in page


def test_they_reach_the_largest_escapes_of_the_extension() -> None:
    assert max(abs(integer) for case in CASES for unit in case["units"] for integer in unit) > 2**26
