"""Laws of the search for tails: it ends on every prior, and gives TFC's own result where that has one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entropyd import InvalidConfigError, UniversalBatchedConfig, priors
from entropyd_server.modeling.worker.table_shape import BuildLimits
from tests.draws.configs import FAMILY_NAMES, hard_config, ordinary_config

pytest.importorskip("tensorflow_compression", reason="the modeling plane needs TensorFlow 2.14")

import tensorflow as tf
from tensorflow_compression.python.distributions import helpers

from entropyd_server.modeling.worker import tail_search
from entropyd_server.modeling.worker.entropy_model import build_tables
from entropyd_server.modeling.worker.priors import distribution
from entropyd_server.modeling.worker.tails import locate_tails
from tests.draws.run import compared

if TYPE_CHECKING:
    from entropyd.contract.prior import Prior

LIMITS = BuildLimits(2**26, 2**32)
FAR = 2.0**29
# Some of those whose tails are searched for, as TFC takes up to ten seconds for one; `make draws` compares
# tables of all.
SEARCHED = ["NoisyNormalMixture", "DeepFactorized", "NoisyDeepFactorized"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@settings(max_examples=50)
@given(data=st.data())
def test_bisection_finds_the_place_of_any_step(dtype: Any, data: st.DataObject) -> None:
    rising = data.draw(st.booleans())
    # TensorFlow takes subnormal numbers for 0.
    place = st.floats(-FAR, FAR, width=32 if dtype is np.float32 else 64, allow_subnormal=False)
    places: Any = np.array(data.draw(st.lists(place, min_size=1, max_size=4)), dtype)

    def step(x: Any) -> Any:
        return tf.cast((x >= places) == rising, dtype)

    found = tail_search.bisect(step, 0.5, places.shape, dtype).numpy()
    assert (step(found).numpy() == 1).all()
    near = 8 * np.finfo(dtype).eps * np.maximum(np.abs(places), 1)
    assert (np.abs(found - places) <= near).all()


@pytest.mark.parametrize(
    "function",
    [tf.zeros_like, lambda x: x * np.nan, lambda x: tf.where(x < 5, x, np.nan)],
    ids=["flat", "not a number", "not a number beyond 5"],
)
def test_what_has_no_solution_is_refused_by_name(function: Any) -> None:
    with pytest.raises(InvalidConfigError, match=r"no tail in element \[0\] within 2\^30") as caught:
        tail_search.bisect(function, 7.0, (2,), tf.float32)
    assert [violation.field for violation in caught.value.violations] == ["prior"]


def searches(prior: Prior, search: Any) -> list[Any]:
    """The tails that TFC finds with a search."""
    made = distribution(prior)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(helpers, "estimate_tails", search)
        return [tail(made, 2.0**-8).numpy() for tail in (helpers.lower_tail, helpers.upper_tail)]


@pytest.mark.parametrize("family", SEARCHED)
def test_a_search_that_ends_gives_the_tails_of_tfc(family: str) -> None:
    prior = ordinary_config(FAMILY_NAMES.index(family)).prior
    theirs = searches(prior, helpers.estimate_tails)
    np.testing.assert_array_equal(searches(prior, tail_search.descend), theirs)
    np.testing.assert_allclose(searches(prior, tail_search.bisect), theirs, atol=0.02)


def test_tables_of_ordinary_priors_are_those_of_tfc() -> None:
    assert {compared(ordinary_config(number)) for number in (29, 50)} == {"equal"}


@pytest.mark.parametrize("number", range(len(FAMILY_NAMES)))
def test_hard_priors_are_built_or_refused_by_name(number: int) -> None:
    config = hard_config(number)
    fields: set[str] = set()
    try:
        rows = len(build_tables(config, LIMITS).tables.cdf_offset)
    except InvalidConfigError as error:
        rows, fields = config.table_rows, {violation.field for violation in error.violations}
    assert rows == config.table_rows
    assert fields <= {"prior", "range_coder_precision"}


@pytest.mark.parametrize(
    ("loc", "scale", "weight"),
    [
        ([0, 1000], [0.01, 0.01], [0.5, 0.5]),
        ([0, 3000], [1, 1], [0.5, 0.5]),
        ([12, 12], [1, 1], [0.5, 0.5]),
        ([0, 1], [1e-30, 1e-30], [0.5, 0.5]),
        ([-352.9, 27], [3e-4, 4800], [1, 1e-12]),
    ],
    ids=["a gap", "a wide gap", "far from 0", "points", "a search that ends elsewhere"],
)
def test_tails_that_tfc_does_not_find_are_the_quantiles(loc: Any, scale: Any, weight: Any) -> None:
    prior = priors.NoisyNormalMixture(*(np.float32(value) for value in (loc, scale, weight)))
    config = UniversalBatchedConfig(prior=prior, coding_rank=0)
    made = distribution(prior)
    lower, upper = locate_tails(made, config.tail_mass, lambda lower, upper: bool((lower <= upper).all()))
    build_tables(config, LIMITS)
    assert made.base.cdf(lower).numpy() >= config.tail_mass / 2
    assert made.base.cdf(np.nextafter(lower, np.float32(-np.inf)) - 1e-6).numpy() <= config.tail_mass / 2
    assert made.base.survival_function(upper).numpy() >= config.tail_mass / 2
    assert made.base.survival_function(upper + np.float32(0.001)).numpy() <= config.tail_mass / 2
