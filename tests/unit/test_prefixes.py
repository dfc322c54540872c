"""Laws of ids by their first digits: the only id that begins with them, or an error that says what is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropyd import InvalidRequestError, ModelNotFoundError, _prefixes
from entropyd.v1 import model_pb2

# Few different beginnings, so that many ids share theirs.
IDS = st.builds(
    lambda first, rest: (first + rest)[:64],
    st.text("0f", min_size=4, max_size=9),
    st.text("0123456789abcdef", min_size=60, max_size=60),
)
STORES = st.lists(IDS, unique=True, max_size=30).map(sorted)


def resolved(prefix: str, ids: list[str], damaged: set[str], fitting: int) -> str:
    """What a client finds in a store of whose models no more than `fitting` fit into a page."""
    search = _prefixes.Search(prefix)
    while (request := search.request) is not None:
        left = [model_id for model_id in ids if model_id > request.page_token]
        page = left[: min(request.page_size, fitting)]
        search.add(
            model_pb2.ListModelsResponse(
                models=[model_pb2.Model(model_id=model_id) for model_id in page if model_id not in damaged],
                damaged_model_ids=damaged & set(page),
                next_page_token=page[-1] if len(page) < len(left) else "",
            )
        )
    return search.result()


@given(
    STORES,
    st.text("0f", min_size=6, max_size=9) | IDS.map(lambda model_id: model_id[:63]),
    st.booleans(),
    st.integers(1, 20),
)
def test_a_prefix_stands_for_the_only_id_that_begins_with_it(
    ids: list[str], prefix: str, damaged: bool, fitting: int
) -> None:
    assert _prefixes.is_prefix(prefix)
    meant = [model_id for model_id in ids if model_id.startswith(prefix)]
    hurt = set(ids[::2]) if damaged else set()
    if len(meant) == 1:
        assert resolved(prefix, ids, hurt, fitting) == meant[0]
    elif not meant:
        with pytest.raises(ModelNotFoundError, match=prefix):
            resolved(prefix, ids, hurt, fitting)
    else:
        with pytest.raises(InvalidRequestError, match="expected more digits of one of") as caught:
            resolved(prefix, ids, hurt, fitting)
        named = [model_id for model_id in ids if model_id in str(caught.value)]
        assert named == meant[:10]
        assert ("and others" in str(caught.value)) == (len(meant) > 10)


@pytest.mark.parametrize(
    "model_id", ["0" * 64, "f" * 64, "A" * 10, "nonsense", "", "0" * 65, "abcdefg", "é" * 6]
)
def test_whole_ids_and_what_is_none_are_left_to_the_server(model_id: str) -> None:
    assert not _prefixes.is_prefix(model_id)


@pytest.mark.parametrize("model_id", ["0", "abcde"])
def test_too_few_digits_are_refused_with_how_many_it_takes(model_id: str) -> None:
    with pytest.raises(InvalidRequestError, match="at least its first 6 digits"):
        _prefixes.is_prefix(model_id)
