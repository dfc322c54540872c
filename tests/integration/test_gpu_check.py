"""The check of a GPU, here of one worker against itself: that nothing is found, and that faults would be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

import entropyd
from entropyd_server.local import LocalServer
from tools.gpu_check import CHECKS, FAILED, NOT_DONE, OK, Effort, Pair, Side, compared, refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("tensorflow_compression", reason="the modeling plane needs TensorFlow 2.14")


@pytest.fixture(scope="module")
def side() -> Iterator[Side]:
    """A server whose worker may be killed."""
    with LocalServer("--devices", "cpu") as server, entropyd.Client(server.target) as client:
        yield Side("cpu", server, client)


def test_a_worker_passes_every_check_against_itself(side: Side) -> None:
    effort = Effort(priors=1, width=8, seconds=0, steps=3, rounds=1)
    found = list(compared(Pair(side, side, effort), limit_s=240))
    assert [finding for finding in found if finding.result == FAILED] == []
    passed = {finding.check.partition(",")[0] for finding in found if finding.result == OK}
    assert passed >= {"tables", "bits", "Perturb", "fit of 3 steps", "memory of the worker", "killed worker"}


def test_checks_for_which_there_is_no_time_are_said_to_be_not_done(side: Side) -> None:
    found = list(compared(Pair(side, side, Effort(1, 8, 0, 3, 1)), limit_s=-1))
    assert [finding.result for finding in found] == [NOT_DONE] * len(CHECKS)


def test_strings_that_are_decoded_fail_the_check_of_the_digest(side: Side) -> None:
    config = entropyd.TabulatedConfig([[0, 1 << 15, 1 << 16]], [0], coding_rank=1, row_shape=())
    model = side.client.create_model(config)
    compressed = model.compress(np.zeros((1, 2), np.float32))
    assert refusal("strings of the same tables", model, compressed).result == FAILED
