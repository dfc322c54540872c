"""The short form of fuzzing a whole server: a fixed number of hostile calls of every method."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.fuzz.server import fuzz

if TYPE_CHECKING:
    import entropyd
    from entropyd_server.local import LocalServer

CALLS = 1500


def test_hostile_calls_are_answered_and_neighbours_do_not_notice(
    server: LocalServer, client: entropyd.Client, model: entropyd.Model
) -> None:
    said = len(server.log_path.read_text())
    exported = model.export()
    ends = asyncio.run(fuzz(server, model.info, seed=5, goes_on=lambda made: made < CALLS, exported=exported))
    assert sum(ends.values()) - ends["neighbour"] == CALLS
    # The calls are good enough to get somewhere, and bad enough to be refused in many ways.
    expected = {"OK", "INVALID_REQUEST", "INVALID_TENSOR", "INVALID_CONFIG", "MODEL_NOT_FOUND"}
    expected |= {"INDEXES_MISMATCH"}
    assert expected <= set(ends)
    assert "Traceback" not in server.log_path.read_text()[said:]
