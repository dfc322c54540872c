"""Laws of priors: the dtype of numbers beside arrays, broadcasting, and how a bad parameter is refused."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropyd import priors
from entropyd.contract.errors import InvalidConfigError
from entropyd.contract.families import FAMILIES
from entropyd.contract.parameters import MAX_LAYERS, MAX_RANK
from entropyd.contract.prior import MAX_DEPTH, Prior
from tests.support.config_cases import any_prior

WEIGHT = [0.25, 0.75]
ARRAYS: tuple[Any, ...] = (np.float32(1), np.array([1.0, 2.0], np.float32), np.array(1, ">f8"), np.float64(2))


def refused_fields(family: str, **parameters: Any) -> list[str]:
    with pytest.raises(InvalidConfigError) as caught:
        Prior(family, parameters)
    return [violation.field for violation in caught.value.violations]


@given(any_prior())
def test_a_prior_made_of_its_own_parameters_in_any_order_is_equal(prior: Prior) -> None:
    again = Prior(prior.family, dict(reversed(list(prior.parameters.items()))))
    assert again == prior
    assert hash(again) == hash(prior)
    assert list(again.parameters) == sorted(again.parameters)


@given(any_prior())
def test_all_arrays_of_a_prior_have_its_dtype(prior: Prior) -> None:
    dtypes = {str(value.dtype) for value in prior.parameters.values() if not isinstance(value, tuple)}
    assert dtypes == {prior.dtype}


@given(any_prior(), any_prior())
def test_priors_are_equal_exactly_when_they_print_the_same_bits(one: Prior, other: Prior) -> None:
    def bits(prior: Prior) -> list[Any]:
        return [
            (name, value.dtype.name, value.shape, value.tobytes())
            if isinstance(value, np.ndarray)
            else [name, value.family, bits(value)]
            if isinstance(value, Prior)
            else value
            for name, value in prior.parameters.items()
        ]

    assert (one == other) == (one.family == other.family and bits(one) == bits(other))


@pytest.mark.parametrize("scale", ARRAYS)
@pytest.mark.parametrize("loc", [0, 0.0, [0.0], np.int64(0), [0, 1]])
def test_a_number_takes_the_dtype_of_the_arrays_beside_it(loc: Any, scale: Any) -> None:
    assert priors.NoisyNormal(loc, scale).dtype == scale.dtype.name
    assert priors.NoisyNormal(scale, 1).dtype == scale.dtype.name


def test_numbers_and_lists_alone_are_float32() -> None:
    assert priors.NoisyNormal(0, 1).dtype == "float32"
    assert priors.NoisyNormal([0.1], [[1.0]]).dtype == "float32"
    assert priors.NoisyNormal(0.1, 1) == priors.NoisyNormal(np.float32(0.1), np.array(1, np.float32))
    assert priors.NoisyNormal(0.1, 1) != priors.NoisyNormal(np.float64(0.1), 1)


def test_arrays_of_two_dtypes_are_refused_with_both_named() -> None:
    with pytest.raises(InvalidConfigError, match="loc float32, scale float64"):
        priors.NoisyNormal(np.float32(0), np.float64(1))


def test_the_batch_shape_is_what_the_parameters_broadcast_to() -> None:
    assert priors.NoisyNormal(0, 1).batch_shape == ()
    assert priors.NoisyLaplace(np.zeros((2, 1)), np.ones(3)).batch_shape == (2, 3)
    assert priors.NoisyNormalMixture(np.zeros((4, 2)), np.ones(2), WEIGHT).batch_shape == (4,)
    assert priors.NoisyDeepFactorized((2, 3)).batch_shape == (2, 3)


def test_a_prior_keeps_no_hold_on_the_arrays_that_made_it() -> None:
    loc = np.zeros(3)
    prior = priors.NoisyNormal(loc, 1)
    loc[0] = 5
    assert prior.parameters["loc"].tolist() == [0, 0, 0]
    with pytest.raises(TypeError):
        prior.parameters["loc"] = loc  # type: ignore[index]


@pytest.mark.parametrize(
    ("family", "parameters", "fields"),
    [
        ("Normal", {}, ["prior.family"]),
        ("", {"loc": 0}, ["prior.family"]),
        ("NoisyNormal", {}, ["prior.loc", "prior.scale"]),
        ("NoisyNormal", {"loc": 0, "scale": 1, "skew": 1, "mode": 0}, ["prior.mode", "prior.skew"]),
        ("NoisyNormal", {"loc": np.nan, "scale": 0}, ["prior.loc", "prior.scale"]),
        ("NoisyNormal", {"loc": [0, np.inf], "scale": [1, -1]}, ["prior.loc[1]", "prior.scale[1]"]),
        ("NoisyNormal", {"loc": [[0, 1], [2, np.nan]], "scale": 1}, ["prior.loc[1, 1]"]),
        ("NoisyNormal", {"loc": 1e300, "scale": 1}, ["prior.loc"]),
        ("NoisyNormal", {"loc": "0", "scale": None}, ["prior.loc", "prior.scale"]),
        ("NoisyNormal", {"loc": True, "scale": 1j}, ["prior.loc", "prior.scale"]),
        ("NoisyNormal", {"loc": [[1], [1, 2]], "scale": 1}, ["prior.loc"]),
        ("NoisyNormal", {"loc": [], "scale": 1}, ["prior.loc"]),
        ("NoisyNormal", {"loc": [0, 0], "scale": [1, 1, 1]}, ["prior"]),
        ("NoisyNormal", {"loc": np.zeros((1,) * (MAX_RANK + 1)), "scale": 1}, ["prior.loc"]),
        ("NoisyNormal", {"loc": np.float16(0), "scale": 1}, ["prior.loc"]),
        ("NoisyNormal", {"loc": np.zeros(1, ml_dtypes.bfloat16), "scale": 1}, ["prior.loc"]),
        ("NoisyNormalMixture", {"loc": [0, 0], "scale": [1, 1], "weight": [0.5, 0.6]}, ["prior.weight"]),
        ("NoisyNormalMixture", {"loc": [0, 0], "scale": [1, 1], "weight": [2, -1]}, ["prior.weight[1]"]),
        ("NoisyNormalMixture", {"loc": [0, 0], "scale": [1, 1], "weight": 1}, ["prior.weight"]),
        ("NoisyDeepFactorized", {}, ["prior"]),
        ("NoisyDeepFactorized", {f"matrix_{i}": 0 for i in range(MAX_LAYERS + 1)}, ["prior"]),
        (
            "NoisyDeepFactorized",
            {"matrix_0": np.zeros((1, 1, 1)), "batch_shape": ()},
            ["prior.bias_0"],
        ),
        ("NoisyDeepFactorized", {"matrix_1": 0, "bias_0": np.zeros((1, 1, 1)), "batch_shape": ()}, ["prior"]),
        (
            "NoisyDeepFactorized",
            {**priors.NoisyDeepFactorized().parameters, "matrix_4": 0},
            ["prior.matrix_4"],
        ),
    ],
)
def test_every_bad_parameter_is_refused_by_name(
    family: str, parameters: dict[str, Any], fields: list[str]
) -> None:
    assert refused_fields(family, **parameters) == fields


@pytest.mark.parametrize(
    "batch_shape",
    [[0], [-1], [1] * (MAX_RANK + 1), [2**16, 2**16], [2.0], "12", [float("inf")], [float("nan")], None, 3],
)
def test_a_batch_shape_is_a_short_list_of_positive_integers(batch_shape: Any) -> None:
    variables = {"matrix_0": np.zeros((1, 1, 1)), "bias_0": np.zeros((1, 1, 1))}
    assert refused_fields("NoisyDeepFactorized", batch_shape=batch_shape, **variables) == [
        "prior.batch_shape"
    ]


@pytest.mark.parametrize("variable", ["matrix_0", "bias_0", "factor_0", "matrix_1", "bias_1"])
def test_a_variable_of_another_shape_is_refused_by_name(variable: str) -> None:
    good = priors.NoisyDeepFactorized((2,), (3,)).parameters
    assert good[variable].ndim == 3
    bad = {**good, variable: np.zeros((3, 3, 3), np.float32)}
    assert f"prior.{variable}" in refused_fields("NoisyDeepFactorized", **bad)


def test_the_last_layer_has_one_output() -> None:
    one_layer = {"matrix_0": np.zeros((1, 2, 1)), "bias_0": np.zeros((1, 2, 1)), "batch_shape": ()}
    assert refused_fields("NoisyDeepFactorized", **one_layer) == ["prior.matrix_0"]


@given(st.lists(st.integers(1, 3), max_size=2), st.lists(st.integers(1, 4), max_size=3))
def test_default_variables_have_the_shapes_of_their_layers(
    batch_shape: list[int], num_filters: list[int]
) -> None:
    parameters = priors.NoisyDeepFactorized(batch_shape, num_filters).parameters
    channels, filters = int(np.prod(batch_shape)), [1, *num_filters, 1]
    for layer in range(len(num_filters) + 1):
        inputs, outputs = filters[layer : layer + 2]
        assert parameters[f"matrix_{layer}"].shape == (channels, outputs, inputs)
        assert parameters[f"bias_{layer}"].shape == (channels, outputs, 1)
        assert (np.abs(parameters[f"bias_{layer}"]) <= 0.5).all()
        assert (f"factor_{layer}" in parameters) == (layer < len(num_filters))


def test_default_variables_are_the_same_every_time() -> None:
    assert priors.NoisyDeepFactorized((5,)) == priors.NoisyDeepFactorized([5], dtype="float32")


def test_trained_variables_replace_initial_ones() -> None:
    bias = np.full((2, 3, 1), 0.25, np.float32)
    prior = priors.NoisyDeepFactorized((2,), variables={"bias_0": bias})
    assert np.array_equal(prior.parameters["bias_0"], bias)
    assert prior != priors.NoisyDeepFactorized((2,))


@pytest.mark.parametrize(
    "arguments",
    [
        {"init_scale": 0},
        {"init_scale": -1},
        {"init_scale": float("nan")},
        {"init_scale": float("inf")},
        {"num_filters": (0,)},
        {"num_filters": (-1,)},
        {"num_filters": (2.5,)},
        {"num_filters": (1,) * MAX_LAYERS},
        {"batch_shape": (0,)},
        {"batch_shape": (-1,)},
        {"batch_shape": 3},
        {"batch_shape": (2**16, 2**16)},
        {"dtype": np.float16},
        {"dtype": np.int32},
        {"dtype": "no such type"},
        {"variables": {"matrix_7": 0}},
    ],
)
def test_arguments_of_no_density_are_refused_before_anything_is_allocated(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfigError):
        priors.NoisyDeepFactorized(**arguments)


@pytest.mark.parametrize("family", [None, 3, ["NoisyNormal"], {}])
def test_a_family_that_is_no_name_is_refused(family: Any) -> None:
    assert refused_fields(family, loc=0, scale=1) == ["prior.family"]


NORMAL = priors.tfp("Normal", loc=0.0, scale=1.0)


def test_a_nested_prior_gives_shape_and_dtype() -> None:
    base = priors.tfp("Laplace", loc=np.zeros((2, 3)), scale=np.float64(1))
    soft = priors.SoftRoundAdapter(base, alpha=5)
    prior = priors.UniformNoiseAdapter(soft)
    assert (prior.batch_shape, prior.dtype, prior.depth) == ((2, 3), "float64", 3)
    assert soft.parameters["alpha"].dtype == np.float64
    mixture = priors.NoisyMixtureSameFamily([0.25, 0.25, 0.5], base)
    assert mixture.batch_shape == (2,)
    assert mixture.parameters["weight"].dtype == np.float64


def test_what_no_adapter_can_stand_on_is_refused_with_what_can() -> None:
    with pytest.raises(
        InvalidConfigError, match="base is a NoisyNormal; UniformNoiseAdapter takes one of: Deep"
    ):
        priors.UniformNoiseAdapter(priors.NoisyNormal(0, 1))
    mixture = priors.tfp(
        "MixtureSameFamily", weight=WEIGHT, components=priors.tfp("Normal", loc=[0, 1], scale=1)
    )
    assert priors.UniformNoiseAdapter(mixture).batch_shape == ()
    assert refused_fields("RoundAdapter", base=mixture) == ["prior.base"]
    assert refused_fields("RoundAdapter", base=3) == ["prior.base"]
    assert refused_fields("RoundAdapter") == ["prior.base"]


def test_depth_is_bounded() -> None:
    prior = NORMAL
    for _ in range(MAX_DEPTH - 1):
        prior = priors.RoundAdapter(prior)
    assert refused_fields("RoundAdapter", base=prior) == ["prior.base"]


@pytest.mark.parametrize("name", ["Poisson", "", "Normal.__init__", "x" * 10000])
def test_a_distribution_off_the_list_is_refused(name: str) -> None:
    with pytest.raises(InvalidConfigError, match="expected one of: Normal") as caught:
        priors.tfp(name, loc=0.0)
    assert len(str(caught.value)) < 1000


def test_bounds_must_rise() -> None:
    bounds = {"loc": 0.0, "scale": 1.0, "low": [0.0, 3.0], "high": 2.0}
    assert refused_fields("tfp.TruncatedNormal", **bounds) == ["prior.high"]


def test_nested_parameters_must_fit_together() -> None:
    components = priors.tfp("Normal", loc=[0.0, 1.0, 2.0], scale=1.0)
    assert refused_fields("NoisyMixtureSameFamily", weight=WEIGHT, components=components) == ["prior"]
    assert refused_fields("NoisyMixtureSameFamily", weight=WEIGHT, components=NORMAL) == ["prior"]
    assert refused_fields("SoftRoundAdapter", base=NORMAL, alpha=np.float64(1)) == ["prior"]
    assert refused_fields("SoftRoundAdapter", base=NORMAL, alpha=[1, 2]) == ["prior.alpha"]
    assert refused_fields("NoisySoftRoundedNormal", loc=0, scale=1, alpha=-1) == ["prior.alpha"]


def test_variables_come_in_the_order_of_tfc() -> None:
    prior = priors.UniformNoiseAdapter(priors.RoundAdapter(priors.DeepFactorized((2,), (3, 3))))
    assert list(prior.variables) == [
        *("bias_0", "bias_1", "bias_2", "factor_0", "factor_1", "matrix_0", "matrix_1", "matrix_2")
    ]
    changed = prior.with_variables({"bias_1": prior.variables["bias_1"] + np.float32(1)})
    assert changed != prior
    assert changed.with_variables(prior.variables) == prior
    assert NORMAL.variables == {}


def test_every_family_may_stand_somewhere() -> None:
    assert all(family.density or family.cumulative != "none" for family in FAMILIES.values())
