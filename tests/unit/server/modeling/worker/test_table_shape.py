"""The arithmetic that guards table building, without TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from entropyd import UniversalBatchedConfig, priors
from entropyd.contract import table_checks
from entropyd.contract.errors import InvalidConfigError, LimitExceededError
from entropyd_server.modeling.worker import table_shape
from entropyd_server.modeling.worker.table_shape import BuildLimits, check_extents, check_rows

# Of one noise level.
_OFFSETS = np.zeros((1, 1), np.float32)
_AMPLE = BuildLimits(max_model_bytes=2**30, max_build_memory_bytes=2**30)


def _config(**arguments: Any) -> UniversalBatchedConfig:
    prior = priors.NoisyNormal(loc=np.zeros(2, np.float32), scale=np.ones(2, np.float32))
    return UniversalBatchedConfig(**{"prior": prior, "coding_rank": 1, "num_noise_levels": 1, **arguments})


def _tails(lower: float, upper: float) -> tuple[Any, Any]:
    return np.array([0, lower], np.float32), np.array([0, upper], np.float32)


def test_the_coding_plane_takes_every_offset_that_passes() -> None:
    assert table_shape.MAX_CDF_OFFSET == table_checks.MAX_CDF_OFFSET
    assert table_shape.MAX_PRECISION == table_checks.MAX_PRECISION


@pytest.mark.parametrize("precision", range(1, 17))
def test_a_row_may_have_one_integer_less_than_its_total(precision: int) -> None:
    config = _config(range_coder_precision=precision)
    most = 2**precision - 1
    check_extents(config, _OFFSETS, *_tails(1, most), _AMPLE)
    with pytest.raises(InvalidConfigError, match=rf"{most + 1} integers in element \[1\]"):
        check_extents(config, _OFFSETS, *_tails(1, most + 1), _AMPLE)


def test_the_precision_that_a_refusal_asks_for_is_enough() -> None:
    with pytest.raises(InvalidConfigError, match="at least 15"):
        check_extents(_config(), _OFFSETS, *_tails(-8000, 8383), _AMPLE)
    check_extents(_config(range_coder_precision=15), _OFFSETS, *_tails(-8000, 8383), _AMPLE)


def test_tails_that_cross_are_refused() -> None:
    with pytest.raises(InvalidConfigError, match=r"tail_mass is 0.00390625, at which .* \[1\] cross by 3"):
        check_extents(_config(), _OFFSETS, *_tails(2, -1), _AMPLE)


def test_the_bytes_that_are_checked_are_those_of_the_tables() -> None:
    # Rows of 1 and 4 integers: each with precision, 0, escape and cdf_offset besides.
    table_bytes = 4 * ((1 + 4) + (4 + 4))
    check_extents(_config(), _OFFSETS, *_tails(1, 4), BuildLimits(table_bytes, 2**30))
    with pytest.raises(LimitExceededError, match=f"have {table_bytes} bytes; the server's max_model_bytes"):
        check_extents(_config(), _OFFSETS, *_tails(1, 4), BuildLimits(table_bytes - 1, 2**30))


def test_densities_are_limited_by_the_longest_row() -> None:
    with pytest.raises(LimitExceededError) as caught:
        check_extents(_config(), _OFFSETS, *_tails(1, 1000), BuildLimits(2**30, 4 * 2 * 1000 * 15 - 1))
    assert caught.value.metadata["limit"] == "max_build_memory_bytes"


def test_rows_alone_can_be_too_many() -> None:
    check_rows(_config(num_noise_levels=10), BuildLimits(20 * 20, 0))
    with pytest.raises(LimitExceededError, match=r"20 rows .* at least 400 bytes"):
        check_rows(_config(num_noise_levels=10), BuildLimits(20 * 20 - 1, 0))
