"""Laws of the batch queue; time is an argument."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from entropyd_server.batching.queue import Batch, BatchQueue, Entry


class Nothing:
    """An operation that is never run."""

    name = "compress"

    def run(self) -> None:
        raise AssertionError


NOTHING = Nothing()


@dataclass(frozen=True)
class Model:
    name: str
    operation: Nothing = NOTHING
    kind: str = "nothing"


def entry(key: str = "a", units: int = 1, unit_cost: int = 10, deadline: float = math.inf) -> Entry[str]:
    return Entry(Model(key), key, units, unit_cost, deadline)


def drain(queue: BatchQueue[str], max_symbols: int, now: float = 0.0) -> list[Batch[str]]:
    batches = []
    while (found := queue.next_batch(now, max_symbols)[0]) is not None:
        batches.append(found)
    return batches


entries = st.lists(
    st.builds(
        entry,
        st.sampled_from("abc"),
        st.integers(1, 9),
        st.integers(1, 50),
        st.sampled_from([1.0, 3.0, math.inf]),
    ),
    max_size=20,
)


@given(entries, st.integers(1, 100))
def test_every_unit_is_in_one_batch_and_in_order(given_entries: list[Entry[str]], max_symbols: int) -> None:
    queue: BatchQueue[str] = BatchQueue(10**9)
    for item in given_entries:
        queue.append(item, 0.0)
    taken: dict[Entry[str], list[int]] = {item: [] for item in given_entries}
    for batch in drain(queue, max_symbols):
        for share in batch.shares:
            taken[share.entry] += range(share.start, share.stop)
    assert taken == {item: list(range(item.units)) for item in given_entries}
    assert queue.symbols == 0


@given(entries, st.integers(1, 100))
def test_a_batch_has_one_key_and_keeps_to_the_symbols_unless_it_is_one_unit(
    given_entries: list[Entry[str]], max_symbols: int
) -> None:
    queue: BatchQueue[str] = BatchQueue(10**9)
    for item in given_entries:
        queue.append(item, 0.0)
    for batch in drain(queue, max_symbols):
        assert {share.entry.key for share in batch.shares} == {batch.key}
        counts = [(share.stop - share.start, share.entry.unit_cost) for share in batch.shares]
        assert batch.units == sum(count for count, _ in counts)
        assert batch.symbols == sum(count * cost for count, cost in counts)
        assert batch.symbols <= max_symbols or batch.units == 1


@given(entries, st.data())
def test_a_removed_or_expired_entry_is_in_no_further_batch(
    given_entries: list[Entry[str]], data: st.DataObject
) -> None:
    queue: BatchQueue[str] = BatchQueue(10**9)
    unqueued, told, now = list(given_entries), [], 0.0
    while unqueued or queue.symbols:
        action = data.draw(st.sampled_from(["append", "remove", "take", "wait"]))
        if action == "append" and unqueued:
            queue.append(unqueued.pop(), now)
        elif action == "remove" and given_entries:
            queue.remove(data.draw(st.sampled_from(given_entries))) if not unqueued else None
        elif action == "wait":
            now += 1.0
        else:
            batch, expired = queue.next_batch(now, 30)
            told += expired
            for share in batch.shares if batch else ():
                assert not share.entry.removed
                assert share.entry.deadline > now
    assert len(told) == len(set(map(id, told)))
    assert all(item.removed for item in told)
    assert queue.symbols == 0
    assert queue.next_batch(now, 30)[0] is None


def test_keys_alternate() -> None:
    queue: BatchQueue[str] = BatchQueue(10**9)
    queue.append(entry("busy", units=100), 0.0)
    queue.append(entry("rare"), 0.0)
    queue.append(entry("other"), 0.0)
    order = [batch.key for batch in drain(queue, 100)]
    assert order[:4] == [Model("busy"), Model("rare"), Model("other"), Model("busy")]


def test_small_entries_are_joined_and_large_ones_split() -> None:
    queue: BatchQueue[str] = BatchQueue(10**9)
    for _ in range(5):
        queue.append(entry(units=1), 0.0)
    queue.append(entry(units=30), 0.0)
    assert [(batch.units, len(batch.shares)) for batch in drain(queue, 100)] == [
        (10, 6),
        (10, 1),
        (10, 1),
        (5, 1),
    ]


def test_an_expired_entry_is_returned_once_and_costs_nothing() -> None:
    queue: BatchQueue[str] = BatchQueue(10**9)
    late, good = entry(deadline=1.0), entry()
    queue.append(late, 0.0)
    queue.append(good, 0.0)
    batch, expired = queue.next_batch(2.0, 100)
    assert expired == [late]
    assert batch is not None
    assert [share.entry for share in batch.shares] == [good]
    assert queue.next_batch(3.0, 100) == (None, [])


def test_queued_units_fill_the_queue_and_removed_ones_empty_it() -> None:
    queue: BatchQueue[str] = BatchQueue(100)
    assert queue.filled == 0
    some, rest = entry(units=9), entry(units=3)
    queue.append(some, 0.0)
    assert queue.filled == 0.9
    queue.append(rest, 0.0)
    assert queue.filled == 1.2
    queue.remove(rest)
    assert queue.filled == 0.9
    queue.next_batch(0.0, 1000)
    assert queue.filled == 0
