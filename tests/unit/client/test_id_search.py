"""Laws of what stands for an id: its name, or its first digits if no other id begins with them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entropyd import InvalidRequestError, ModelNotFoundError, _id_search
from entropyd.contract.names import RULE
from entropyd.v1 import model_pb2

# Few different beginnings, so that many ids share theirs.
BEGINNINGS = st.sampled_from(["000000", "0000000f", "00000f", "ffffff", "fffffff0"])
IDS = st.builds(
    lambda first, rest: (first + rest)[:64],
    BEGINNINGS,
    st.text("0123456789abcdef", min_size=60, max_size=60),
)
STORES = st.lists(IDS, unique=True, max_size=30).map(sorted)


def resolved(prefix: str, ids: list[str], sizes: list[int], damaged: set[str]) -> str:
    """What a client finds in a store whose pages hold so many models, 0 where they were just deleted."""
    search = _id_search.IdSearch(prefix)
    following = iter(sizes)
    gone: set[str] = set()
    while (call := search.call()) is not None:
        request = call.request
        above = [model_id for model_id in ids if model_id > request.page_token]
        size = next(following, request.page_size)
        page = above[: min(size, request.page_size)]
        last = page[-1] if page else request.page_token
        if size == 0 and above:  # the first of them, which the page answers for without it
            gone.add(last := above[0])
        reply = model_pb2.ListModelsResponse(
            models=[model_pb2.Model(model_id=model_id) for model_id in page if model_id not in damaged],
            damaged_model_ids=damaged & set(page),
            next_page_token=last if above and above[-1] != last else "",
        )
        search.add(reply)
    ids[:] = [model_id for model_id in ids if model_id not in gone]
    return search.model_id()


PREFIXES = BEGINNINGS | IDS.map(lambda model_id: model_id[:63])


@settings(max_examples=500)
@given(STORES, PREFIXES, st.lists(st.integers(0, 11), max_size=40), st.booleans())
def test_a_prefix_stands_for_the_only_id_that_begins_with_it_however_long_pages_are(
    ids: list[str], prefix: str, sizes: list[int], damaged: bool
) -> None:
    hurt = set(ids[::2]) if damaged else set()
    found: str | Exception
    try:
        found = resolved(prefix, ids, sizes, hurt)
    except (ModelNotFoundError, InvalidRequestError) as error:
        found = error
    meant = [model_id for model_id in ids if model_id.startswith(prefix)]
    if len(meant) == 1:
        assert found == meant[0]
    elif not meant:
        assert isinstance(found, ModelNotFoundError)
        assert prefix in str(found)
    else:
        assert isinstance(found, InvalidRequestError)
        assert [model_id for model_id in ids if model_id in str(found)] == meant[:10]
        assert ("and others" in str(found)) == (len(meant) > 10)


def test_a_whole_id_is_not_searched_for() -> None:
    search = _id_search.IdSearch("0" * 64)
    assert search.call() is None
    assert search.model_id() == "0" * 64


@pytest.mark.parametrize("name", ["faces-v2", "nonsense", "abcdefg", "0" * 63 + "-"])
def test_a_name_is_resolved_by_the_server(name: str) -> None:
    search = _id_search.IdSearch(name)
    call = search.call()
    assert call is not None
    assert call.request == model_pb2.ResolveModelNameRequest(name=name)
    search.add(model_pb2.ResolveModelNameResponse(model_id="1" * 64))
    assert search.call() is None
    assert search.model_id() == "1" * 64


@pytest.mark.parametrize(
    "text", [None, 5, b"abcdef", "", "0", "abcde", "0" * 65, "A" * 10, "é" * 6, "../x", "62d751\n"]
)
def test_anything_else_is_refused_with_what_it_could_be(text: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        _id_search.IdSearch(text)
    expected = f"an id, at least its first 6 digits, or a name: {RULE}"
    assert str(caught.value) == f"model_id is {text!r}; expected {expected}"
