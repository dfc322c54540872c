"""Consistent hashing with bounded load."""

from __future__ import annotations

from collections import Counter
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropyd_server.modeling.placement import Ring

DEVICES = ["gpu:0", "gpu:1", "gpu:2", "gpu:3"]
IDLE = dict.fromkeys(DEVICES, 0)
MODELS = [sha256(str(number).encode()).hexdigest() for number in range(400)]


def up(device: str) -> bool:
    return True


def test_a_model_keeps_its_device_while_nothing_else_runs() -> None:
    ring = Ring(DEVICES)
    for model in MODELS:
        assert ring.choose(model, IDLE, up) == ring.choose(model, IDLE, up) == ring.order(model)[0]


def test_models_spread_over_the_devices() -> None:
    ring = Ring(DEVICES)
    counts = Counter(ring.order(model)[0] for model in MODELS)
    assert min(counts.values()) > len(MODELS) / len(DEVICES) / 2


def test_a_lost_device_moves_no_model_between_the_others() -> None:
    whole, less = Ring(DEVICES), Ring(DEVICES[:3])
    for model in MODELS:
        owner = whole.order(model)[0]
        if owner in DEVICES[:3]:
            assert less.order(model)[0] == owner


@given(loads=st.lists(st.integers(0, 50), min_size=4, max_size=4), model=st.sampled_from(MODELS))
def test_no_device_is_chosen_above_its_share_of_the_load(loads: list[int], model: str) -> None:
    busy = dict(zip(DEVICES, loads, strict=True))
    chosen = Ring(DEVICES).choose(model, busy, up)
    assert busy[chosen] + 1 <= 1.25 * (sum(loads) + 1) / len(DEVICES) + 1


def test_a_device_that_restarts_is_passed_over() -> None:
    ring = Ring(DEVICES)
    first, second, *_ = ring.order(MODELS[0])
    assert ring.choose(MODELS[0], IDLE, lambda device: device != first) == second


def test_where_no_device_is_up_calls_wait_for_the_models_own() -> None:
    ring = Ring(DEVICES)
    assert ring.choose(MODELS[0], IDLE, lambda device: False) == ring.order(MODELS[0])[0]


@pytest.mark.parametrize("model", MODELS[:3])
def test_one_device_serves_everything(model: str) -> None:
    assert Ring(["cpu"]).choose(model, {"cpu": 99}, up) == "cpu"
