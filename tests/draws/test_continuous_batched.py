"""Laws of ContinuousBatchedEntropyModel: tables, offsets, strings and values are those of TFC."""

from __future__ import annotations

import pytest

pytest.importorskip("tensorflow_compression", reason="the modeling plane needs TensorFlow 2.14")

from tests.draws.configs import FAMILY_NAMES
from tests.draws.continuous_batched import compared


@pytest.mark.parametrize("number", range(0, len(FAMILY_NAMES), 2))
def test_a_random_model_is_that_of_tfc(number: int) -> None:
    assert compared(number) == "equal"
