"""Laws of reading JSON of strangers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropyd import InvalidConfigError, UniversalBatchedConfig
from entropyd.contract.json_text import MAX_DEPTH, parse_json

DOCUMENTS: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(DOCUMENTS)
def test_a_document_is_read_as_json_reads_it(document: Any) -> None:
    assert parse_json(json.dumps(document)) == document
    assert parse_json(json.dumps(document, ensure_ascii=False).encode()) == document


@pytest.mark.parametrize("opened", ["[", '{"a":'])
@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 900, 5000, 100_000])
def test_what_nests_too_deep_is_refused(opened: str, depth: int) -> None:
    closed = "]" if opened == "[" else "}"
    assert parse_json(opened * MAX_DEPTH + "0" + closed * MAX_DEPTH) is not None
    with pytest.raises(ValueError, match="nests more than 32 levels"):
        parse_json(opened * depth + "0" + closed * depth)


@pytest.mark.parametrize("text", ['"\\udc00"', '{"\\ud800": 1}', '[{"a": ["\\ud800x"]}]'])
def test_half_a_surrogate_pair_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="lone surrogate"):
        parse_json(text)
    assert parse_json('"\\ud83d\\ude00"') == "\U0001f600"


@pytest.mark.parametrize("text", ["NaN", "Infinity", "[1, -Infinity]", '{"a": [1e999]}', "-1e999"])
def test_numbers_that_are_not_finite_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="JSON has finite ones alone"):
        parse_json(text)


def test_a_deep_dictionary_is_no_configuration() -> None:
    deep: Any = 0
    for _ in range(50_000):
        deep = [deep]
    with pytest.raises(InvalidConfigError):
        UniversalBatchedConfig.from_dict({"kind": "universal_batched", "prior": deep, "coding_rank": deep})
