"""Laws of the byte-bounded cache, against a list that remembers the order of use."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from entropyd_server.coding.cache import BytesLRU

MAX_BYTES = 10
KEYS = st.integers(0, 5)
STEPS = st.lists(
    st.tuples(st.just("put"), KEYS, st.integers(0, 15))
    | st.tuples(st.sampled_from(["get", "drop"]), KEYS, st.just(0)),
    max_size=60,
)


@given(STEPS, st.none() | st.integers(1, 3))
def test_the_cache_holds_what_was_used_last_within_its_bytes(
    steps: list[tuple[str, int, int]], max_entries: int | None
) -> None:
    cache: BytesLRU[int, int] = BytesLRU(MAX_BYTES, max_entries)
    model: list[tuple[int, int, int]] = []  # key, value, bytes; least recently used first
    for value, (step, key, value_bytes) in enumerate(steps):
        known = [entry for entry in model if entry[0] == key]
        if step == "get":
            assert cache.get(key) == (known[0][1] if known else None)
            model = [entry for entry in model if entry[0] != key] + known
        else:
            model = [entry for entry in model if entry[0] != key]
            cache.drop(key) if step == "drop" else cache.put(key, value, value_bytes)
            if step == "put":
                model.append((key, value, value_bytes))
                while len(model) > 1 and (
                    sum(entry[2] for entry in model) > MAX_BYTES or len(model) > (max_entries or 99)
                ):
                    del model[0]
        assert len(cache) == len(model)
        assert cache.nbytes == sum(entry[2] for entry in model)
        assert (key in cache) == (key in [entry[0] for entry in model])
        assert sum(entry[2] for entry in model) <= MAX_BYTES or len(model) == 1
    for key, value, _ in model:
        assert cache.get(key) == value


def test_a_value_larger_than_the_budget_is_kept_until_the_next() -> None:
    cache: BytesLRU[str, int] = BytesLRU(MAX_BYTES)
    cache.put("small", 1, 1)
    cache.put("large", 2, 99)
    assert (cache.get("small"), cache.get("large")) == (None, 2)
    cache.put("small", 1, 1)
    assert (cache.get("small"), cache.get("large")) == (1, None)
