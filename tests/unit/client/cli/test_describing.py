"""Laws of what `entropyd models show` says of a prior."""

from __future__ import annotations

import numpy as np

import entropyd
from entropyd import priors
from entropyd.cli.describing import of_prior, of_rows


def said(prior: entropyd.Prior) -> dict[str, str]:
    return dict(of_prior(prior))


def test_a_function_is_said_by_name_range_and_number_of_values() -> None:
    scale = priors.log_spaced(0.11, 256.0)
    assert said(priors.indexed("NoisyNormal", index_ranges=(64,), loc=0.0, scale=scale)) == {
        "loc": "0",
        "scale": "log_spaced 0.11 ... 256, 64 values",
    }


def test_of_several_indexes_the_one_that_a_function_takes_is_said() -> None:
    prior = priors.indexed(
        "NoisyLogisticMixture",
        index_ranges=(10, 6, 5),
        loc=priors.affine([-5, -5], [[1, 0, 0], [0, 1, 0]]),
        scale=1.0,
        weight=priors.softmax_affine([2, -2], [-1, 1], axis=2),
    )
    assert said(prior) == {
        "loc": "affine of all indexes -5 ... 4, 10 x 6 x 5 x 2 values",
        "scale": "1",
        "weight": "softmax_affine of index 2 0.0179862 ... 0.982014, 10 x 6 x 5 x 2 values",
    }


def test_arrays_are_said_by_range_and_shape() -> None:
    prior = priors.NoisyNormal(loc=np.zeros((2, 1)), scale=np.array([0.5, 2.0, 1.0]))
    assert said(prior) == {"loc": "0 ... 0, 2 x 1 values", "scale": "0.5 ... 2, 3 values"}


def test_a_nested_prior_stands_below_its_name_and_a_network_is_left_out() -> None:
    prior = priors.UniformNoiseAdapter(priors.SoftRoundAdapter(priors.tfp("Normal", loc=1.5, scale=2.0), 5.0))
    assert said(prior) == {
        "base": "SoftRoundAdapter",
        "  alpha": "5",
        "  base": "tfp.Normal",
        "    loc": "1.5",
        "    scale": "2",
    }
    assert said(priors.NoisyDeepFactorized(batch_shape=(3,))) == {}


def test_rows_are_said_by_integers_mode_entropy_and_escape_the_first_of_them() -> None:
    rows = [[0, 2, 10, 15, 16], [0, 16], *[[0, 8, 16]] * 20]
    config = entropyd.TabulatedConfig(rows, [-1, *range(21)], 1, precision=4)
    lines = dict(of_rows(config))
    assert lines["row 0"] == "-1 ... 1, mode 0 (0.5), 1.649 bits, escape 0.0625"
    assert lines["row 1"] == "0.000 bits, escape 1"
    assert lines["row 15"] == "14 ... 14, mode 14 (0.5), 1.000 bits, escape 0.5"
    assert lines["..."] == "6 more"
    assert len(lines) == 17
