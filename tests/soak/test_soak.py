"""The short form of the soak, and whether its verdict can fail."""

from __future__ import annotations

import pytest

from tests.soak.flatness import Quantity, Watch
from tests.soak.models import configs
from tests.soak.routes import WIRES
from tests.soak.run import Times, soak


def test_a_server_under_everything_ends_every_operation_as_it_must_and_holds_no_more() -> None:
    # Too short for a slow leak; what leaks with every call shows.
    outcome = soak(Times(6, kill_s=5, vanish_s=4, restart_s=3600), seed=0, allowed_mib=64)
    assert not outcome.failures
    assert [growth for growth in outcome.growths if not growth.flat] == []
    assert outcome.kills.keys() >= {"caller killed", "replica restarted", "worker builder killed"}
    assert {kind for kind, _ in outcome.coded} == {config.kind for config in configs()}
    assert {route for _, route in outcome.coded} == {
        f"{way}, {wire}" for way in ("aio", "sync") for wire in WIRES
    }
    kinds = {
        "compress",
        "agreed",
        "stream",
        "archive",
        "poisoned",
        "corrupt",
        "cancelled",
        "unknown",
        "damaged",
        "churned",
    }
    assert kinds <= set(outcome.ends)


@pytest.mark.parametrize(("slope", "flat"), [(0.0, True), (0.01, True), (1.0, False)])
def test_only_what_grows_is_said_to_grow(slope: float, flat: bool) -> None:
    seconds = 0.0

    def held() -> float:
        # A warm-up, a peak now and then, and a slope.
        return min(seconds, 20) * 10 + (500 if seconds % 7 == 0 else 0) + slope * seconds

    watch = Watch([Quantity("held", held, allowed=5)])
    while seconds < 90:
        watch.sample(seconds)
        seconds += 1
    assert [growth.flat for growth in watch.growths(since_s=30)] == [flat]
