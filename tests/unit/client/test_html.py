"""Tables for notebooks show any text as itself."""

from __future__ import annotations

from entropyd._html import described, table


def test_whatever_is_shown_is_escaped() -> None:
    hostile = "<script src='https://example.org'>&"
    for shown in (table([hostile], [[hostile]]), described(hostile, {hostile: hostile})):
        assert "<script" not in shown
        assert shown.count("&lt;script src=&#x27;https://example.org&#x27;&gt;&amp;") >= 2


def test_a_property_that_is_none_is_left_out() -> None:
    assert "<td>" not in described("Model", {"index_ranges": None})
