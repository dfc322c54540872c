"""Laws of the byte-bounded cache, against a list that remembers the order of use."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from entropyd_server.coding.cache import BytesLRU


@dataclass(frozen=True)
class Value:
    number: int
    nbytes: int


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
    cache: BytesLRU[int, Value] = BytesLRU(MAX_BYTES, max_entries or math.inf)
    model: list[tuple[int, Value]] = []  # least recently used first
    for number, (step, key, value_bytes) in enumerate(steps):
        known = [entry for entry in model if entry[0] == key]
        if step == "get":
            assert cache.get(key) == (known[0][1] if known else None)
            model = [entry for entry in model if entry[0] != key] + known
        else:
            model = [entry for entry in model if entry[0] != key]
            if step == "drop":
                cache.pop(key, None)
            else:
                cache[key] = value = Value(number, value_bytes)
                model.append((key, value))
                while len(model) > 1 and (
                    sum(value.nbytes for _, value in model) > MAX_BYTES or len(model) > (max_entries or 99)
                ):
                    del model[0]
        assert len(cache) == len(model)
        assert cache.currsize == sum(value.nbytes for _, value in model)
        assert (key in cache) == (key in [entry[0] for entry in model])
        assert sum(value.nbytes for _, value in model) <= MAX_BYTES or len(model) == 1
    for key, value in model:
        assert cache.get(key) == value


def test_a_value_larger_than_the_budget_is_kept_until_the_next() -> None:
    cache: BytesLRU[str, Value] = BytesLRU(MAX_BYTES)
    small, large = Value(1, 1), Value(2, 99)
    cache["small"] = small
    cache["large"] = large
    assert (cache.get("small"), cache.get("large")) == (None, large)
    cache["small"] = small
    assert (cache.get("small"), cache.get("large")) == (small, None)
