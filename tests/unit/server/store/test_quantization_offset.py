"""Laws of stored quantization offsets: each comes back to the bit, and none that its model cannot have."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from entropyd import ContinuousBatchedConfig, InvalidConfigError, ModelConfig, priors
from entropyd_server.coding.tables import CodingTables
from entropyd_server.store.model_object import ObjectError, parse, serialise
from tests.support.sealed_objects import TABLES, two_row_config

OFFSET = np.array([0.125, -0.5], np.float32)
BUILT = ContinuousBatchedConfig(priors.NoisyNormal(0.0, [1.0, 2.0]), 1, range_coder_precision=4)


def tables(offset: Any) -> CodingTables:
    return CodingTables.parse(TABLES.cdf, TABLES.cdf_offset, offset)


@pytest.mark.parametrize(
    "config", [BUILT, replace(BUILT, quantization_offset=OFFSET)], ids=["built", "given"]
)
def test_an_offset_comes_back_to_the_bit(config: ContinuousBatchedConfig) -> None:
    found = parse(serialise(config, tables(OFFSET), {}))
    assert found.config == config
    assert found.tables is not None
    assert found.tables.digest == tables(OFFSET).digest != TABLES.digest
    assert found.tables.quantization_offset.tobytes() == OFFSET.tobytes()  # type: ignore[union-attr]
    assert not found.tables.quantization_offset.flags.writeable  # type: ignore[union-attr]


FORGED: dict[str, tuple[ModelConfig, Any]] = {
    "a kind without": (two_row_config(), OFFSET),
    "another than given": (replace(BUILT, quantization_offset=[0.125, 0.5]), OFFSET),
    "none where one is given": (replace(BUILT, quantization_offset=[0.125, 0.5]), None),
    "one where none is computed": (replace(BUILT, offset_heuristic=False), OFFSET),
    "another dtype": (BUILT, OFFSET.astype(np.float64)),
    "a number that the dtype lacks": (
        replace(BUILT, bottleneck_dtype="float16"),
        np.array([0.1, 0], np.float32),
    ),
}


@pytest.mark.parametrize(("config", "offset"), FORGED.values(), ids=FORGED)
def test_an_object_with_an_offset_that_its_model_cannot_have_is_none(
    config: ModelConfig, offset: Any
) -> None:
    with pytest.raises(ObjectError, match="quantization_offset"):
        parse(serialise(config, tables(offset), {}))


@pytest.mark.parametrize(
    "offset", [OFFSET[:1], OFFSET.reshape(1, 2), OFFSET.astype(np.float16), np.array([np.nan, 0])]
)
def test_an_offset_that_is_no_finite_number_for_each_row_is_refused_by_name(offset: Any) -> None:
    with pytest.raises(InvalidConfigError, match="quantization_offset"):
        tables(offset)
