"""Whatever hangs or kills TFC gets a clear error here, and the server goes on serving.

Each of these was seen to hang, abort or crash a process that uses TFC 2.14.1 directly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

import entropyd
from entropyd import priors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from entropyd_server.local import LocalServer


@pytest.fixture(autouse=True)
def still_serving(server: LocalServer, client: entropyd.Client, model: entropyd.Model) -> Iterator[None]:
    """After each test the same processes still code, and still build."""
    before = {process.pid for process in psutil.Process(server.process.pid).children()}
    yield
    x = np.array([[0.25, 1.5, -3.0]], np.float32)
    assert np.abs(model.decompress(model.compress(x)) - x).max() <= 0.5
    prior = priors.NoisyNormal(loc=float(np.random.default_rng().random()), scale=1.0)
    client.create_model(entropyd.UniversalBatchedConfig(prior=prior, coding_rank=0, num_noise_levels=1))
    assert {process.pid for process in psutil.Process(server.process.pid).children()} == before


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 2.0**30 + 2**16, -(2.0**31), 3e38])
def test_compressing_what_has_no_symbol_names_the_element(model: entropyd.Model, value: float) -> None:
    x = np.zeros((3, 2, 3), np.float32)
    x[1, 1, 2] = value
    with pytest.raises(entropyd.InvalidTensorError, match=r"coding unit 1, element \(1, 2\)"):
        model.compress(x)


def escape_then_zeros(model: entropyd.Model) -> bytes:
    """Four bytes at the start of the first row's escape interval: then every bit of the magnitude is 0."""
    precision = model.range_coder_precision
    first_row_ends = int(np.flatnonzero(model.cdf == 2**precision)[0])
    return (int(model.cdf[first_row_ends - 1]) << (32 - precision)).to_bytes(4, "big")


def first_level_is_zero(client: entropyd.Client) -> entropyd.Model:
    """A model of one row, so that the first symbol is coded with it."""
    prior = priors.NoisyNormal(loc=0.0, scale=1.0)
    return client.create_model(
        entropyd.UniversalBatchedConfig(prior=prior, coding_rank=1, num_noise_levels=1)
    )


def test_a_crafted_string_is_corrupt(client: entropyd.Client) -> None:
    model = first_level_is_zero(client)
    with pytest.raises(entropyd.CorruptStringError, match="escape_too_long at element 0"):
        model.decompress([escape_then_zeros(model)], (4,))


def test_one_bad_string_among_many_is_named_and_costs_no_other(client: entropyd.Client) -> None:
    model = first_level_is_zero(client)
    x = np.random.default_rng(0).normal(0, 1, (50, 4)).astype(np.float32)
    strings = model.compress(x).strings.copy()
    strings[17] = escape_then_zeros(model)
    with pytest.raises(entropyd.CorruptStringError) as caught:
        model.decompress(strings, (4,))
    assert caught.value.units == (17,)
    good = np.arange(50) != 17
    assert np.abs(caught.value.partial[good] - x[good]).max() <= 0.5


def test_an_empty_batch_is_nothing_special(model: entropyd.Model) -> None:
    assert model.compress(np.zeros((0, 5, 3), np.float32)).strings.shape == (0,)


@pytest.mark.parametrize("precision", [1, 2])
def test_a_precision_too_small_for_the_rows_is_named(client: entropyd.Client, precision: int) -> None:
    config = entropyd.UniversalBatchedConfig(
        prior=priors.NoisyNormal(0.0, 1.0), coding_rank=1, range_coder_precision=precision
    )
    with pytest.raises(entropyd.InvalidConfigError, match="range_coder_precision"):
        client.create_model(config)


def test_a_prior_too_wide_for_the_precision_says_what_to_change(client: entropyd.Client) -> None:
    config = entropyd.UniversalBatchedConfig(prior=priors.NoisyNormal(0.0, 3000.0), coding_rank=1)
    with pytest.raises(entropyd.InvalidConfigError, match=r"range_coder_precision.*at least 15"):
        client.create_model(config)


def test_a_prior_too_wide_for_any_precision_says_so(client: entropyd.Client) -> None:
    config = entropyd.UniversalBatchedConfig(prior=priors.NoisyNormal(0.0, 1e6), coding_rank=1)
    with pytest.raises(entropyd.InvalidConfigError, match="prior"):
        client.create_model(config)


@pytest.mark.parametrize("scale", [np.nan, -1.0, 0.0, np.inf])
def test_a_scale_that_is_none_is_refused_before_it_is_sent(scale: float) -> None:
    with pytest.raises(entropyd.InvalidConfigError, match=r"prior.scale\[1\] is"):
        priors.NoisyNormal(loc=0.0, scale=[1.0, scale])


def test_a_search_for_tails_without_end_is_replaced(client: entropyd.Client) -> None:
    prior = priors.NoisyNormalMixture(loc=[30.0, 40.0], scale=[0.5, 0.5], weight=[0.5, 0.5])
    found = client.create_model(entropyd.UniversalBatchedConfig(prior=prior, coding_rank=1))
    x = np.array([29.5, 30.25, 41.0], np.float32)
    assert np.abs(found.decompress(found.compress(x)) - x).max() <= 0.5
    assert 27 <= found.cdf_offset.min() <= found.cdf_offset.max() <= 29
