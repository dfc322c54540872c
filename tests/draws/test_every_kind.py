"""Laws of every kind of model: tables, strings, arrays, bit costs and gradients are those of TFC."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.importorskip("tensorflow_compression", reason="the modeling plane needs TensorFlow 2.14")

from tests.draws.cases import KINDS, case
from tests.draws.every_kind import compared

if TYPE_CHECKING:
    import entropyd


@pytest.mark.parametrize("number", range(6, 6 + len(KINDS)))
def test_a_random_model_is_that_of_tfc(
    client: entropyd.Client, float_client: entropyd.Client, number: int
) -> None:
    assert compared(client, float_client, case(number)) == "equal"
