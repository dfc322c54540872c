"""Laws of names: none is an id or the beginning of one, and what is none is refused with the rule."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropyd import InvalidRequestError
from entropyd.contract.names import RULE, checked_name, is_name

HOSTILE = [
    "",
    ".",
    "..",
    "../models/x",
    "a/b",
    "a\\b",
    "/etc/passwd",
    ".lock",
    "-rf",
    "Faces",
    "FACES",
    "größe",
    "\uff46aces",
    "faces v2",
    "faces\n",
    "\nfaces",
    "faces\0",
    "%2e%2e",
    "faces?",
    "faces#1",
    "a" * 64,
    "0" * 64,
    "face",
    "62d751",
    "123",
    "x" * 65,
    "\ud800",
    None,
    7,
    b"faces",
]


@pytest.mark.parametrize(
    "name", ["x", "faces-v2", "prod", "0.9", "2024-05-01", "x" * 64, "g_", "a..b", "v1."]
)
def test_a_name_is_what_the_rule_says(name: str) -> None:
    assert checked_name(name) == name


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_what_is_no_name_is_refused_with_the_rule(name: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        checked_name(name)
    assert str(caught.value) == f"name is {name!r:.80}; expected {RULE}"


@given(st.text("0123456789abcdef", max_size=70))
def test_no_name_is_an_id_or_the_beginning_of_one(text: str) -> None:
    assert not is_name(text)


@given(st.text(st.sampled_from("09afgz.-_AZ/ \n\0é"), max_size=8))
def test_a_name_is_short_plain_and_one_step_of_a_path(text: str) -> None:
    expected = re.fullmatch(r"[a-z0-9][a-z0-9._-]*", text) and re.search("[^0-9a-f]", text)
    assert is_name(text) == bool(expected)
