"""Tables built without TFC's loop over rows: TFC's own where it builds some, and else its refusal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow_compression as tfc

import entropyd
from entropyd import priors
from entropyd_server.modeling.worker.entropy_model import build_tables
from entropyd_server.modeling.worker.table_shape import BuildLimits

LIMITS = BuildLimits(2**26, 2**32)


@pytest.mark.parametrize(("dtype", "precision"), [("float32", 12), ("float64", 16)])
def test_rows_of_every_length_are_those_of_tfc(dtype: str, precision: int) -> None:
    # Sums of few and of thousands of densities, as TensorFlow adds them in different orders.
    loc, scale = np.linspace(-3, 3, 120).astype(dtype), np.geomspace(0.01, 200, 120).astype(dtype)
    prior = priors.NoisyLogistic(loc=loc, scale=scale)
    config = entropyd.ContinuousBatchedConfig(
        prior=prior, coding_rank=1, tail_mass=1e-3, range_coder_precision=precision
    )
    built = build_tables(config, LIMITS).tables
    theirs: Any = tfc.ContinuousBatchedEntropyModel(
        tfc.NoisyLogistic(loc=loc, scale=scale),
        1,
        compression=True,
        tail_mass=1e-3,
        range_coder_precision=precision,
    )
    np.testing.assert_array_equal(built.cdf, theirs.cdf.numpy())
    np.testing.assert_array_equal(built.cdf_offset, theirs.cdf_offset.numpy())


@pytest.mark.parametrize(("scale", "density"), [(1e-42, "inf"), (1e-320, "-?nan")])
def test_a_density_that_float32_cannot_hold_is_refused_by_its_name(scale: float, density: str) -> None:
    prior = priors.tfp("Normal", loc=np.float64(0), scale=np.float64(scale))
    with pytest.raises(entropyd.InvalidConfigError, match=f"has the density {density} at an integer"):
        build_tables(entropyd.ContinuousBatchedConfig(prior=prior, coding_rank=1), LIMITS)
