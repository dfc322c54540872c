"""Laws of functions of the index, and of priors that have them: data, with the values of docs/priors.md."""

from __future__ import annotations

import copy
import json
import math
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropyd import priors
from entropyd.contract.errors import InvalidConfigError
from entropyd.contract.index_functions import FUNCTIONS, IndexFunction
from entropyd.contract.prior import Prior
from entropyd.contract.prior_forms import (
    prior_from_dict,
    prior_from_message,
    prior_to_dict,
    prior_to_message,
)
from entropyd.v1 import types_pb2
from tests.support.config_cases import INDEX_RANGES, any_prior, index_functions, indexed_priors

FUNCTION = priors.log_spaced(0.11, 256)


def fields(family: str, index_ranges: Any, **parameters: Any) -> list[str]:
    with pytest.raises(InvalidConfigError) as caught:
        Prior(family, parameters, index_ranges)
    return [violation.field for violation in caught.value.violations]


def value_at(function: IndexFunction, index: tuple[int, ...], component: int, count: int) -> float:
    """The value as docs/priors.md says it, by the standard library."""

    def of(name: str) -> float:
        array = function.arguments[name]
        return float(array[component] if array.ndim else array)

    i = index[function.axis]
    if function.name == "table":
        values = function.arguments["values"]
        return float(values[i] if values.ndim == 1 else values[i, component])
    if function.name == "log_spaced":
        low, high = of("low"), of("high")
        return low * math.pow(high / low, i / max(count - 1, 1))
    slope = function.arguments["slope"]
    product = slope[component] @ index if slope.ndim == 2 else of("slope") * i
    value = of("offset") + float(product)
    return math.exp(value) if function.name == "exp_affine" else value


@given(st.data(), INDEX_RANGES, st.none() | st.integers(1, 3), st.booleans())
def test_values_over_the_grid_are_those_of_the_page(
    data: st.DataObject,
    ranges: tuple[int, ...],
    components: int | None,
    positive: bool,
) -> None:
    function = data.draw(index_functions(ranges, components, positive=positive))
    values = function.on_grid(ranges, "float64", counted=components is not None)
    counted = () if components is None else (function.components or 1,)
    assert values.shape == (*ranges, *counted)
    for place in np.ndindex(values.shape):
        index, component = place[: len(ranges)], place[-1] if counted else 0
        expected = value_at(function, index, component, ranges[function.axis])
        assert values[place] == pytest.approx(expected, rel=1e-12, abs=1e-12)
    single = function.on_grid(ranges, "float32", counted=components is not None)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, values, rtol=1e-4, atol=1e-5)


@given(INDEX_RANGES, st.integers(1, 3), st.data())
def test_weights_of_a_softmax_are_positive_and_sum_to_one(
    ranges: tuple[int, ...], components: int, data: st.DataObject
) -> None:
    vectors = st.lists(st.floats(-50, 50), min_size=components, max_size=components)
    offset, slope = data.draw(vectors), data.draw(vectors)
    weights = priors.softmax_affine(offset, slope).on_grid(ranges, "float64", counted=True)
    assert weights.shape == (*ranges, components)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-12)
    logs = np.array(offset) + np.array(slope) * (ranges[0] - 1)
    last = weights[(ranges[0] - 1, *(0,) * (len(ranges) - 1))]
    np.testing.assert_allclose(last, np.exp(logs - logs.max()) / np.exp(logs - logs.max()).sum(), rtol=1e-12)


@given(st.data(), INDEX_RANGES)
def test_a_function_is_data(data: st.DataObject, ranges: tuple[int, ...]) -> None:
    function, other = (data.draw(index_functions(ranges, 2)) for _ in range(2))
    for same in (
        IndexFunction(function.name, dict(reversed(list(function.arguments.items()))), function.axis),
        pickle.loads(pickle.dumps(function)),  # noqa: S301 - our own
        copy.deepcopy(function),
    ):
        assert same == function
        assert hash(same) == hash(function)
    key = (function.name, function.axis, {n: (a.shape, a.tobytes()) for n, a in function.arguments.items()})
    its = (other.name, other.axis, {n: (a.shape, a.tobytes()) for n, a in other.arguments.items()})
    assert (function == other) == (key == its)
    for array in function.arguments.values():
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 1
    with pytest.raises(TypeError):
        function.arguments["offset"] = np.zeros(())  # type: ignore[index]


def test_a_function_keeps_no_hold_on_the_arrays_that_made_it() -> None:
    values = np.array([1.0, 2.0])
    function = priors.table(values)
    values[0] = 9
    assert function.arguments["values"].tolist() == [1, 2]
    assert values.flags.writeable


def test_the_usual_scales_reach_from_the_least_to_the_greatest() -> None:
    prior = priors.indexed("NoisyNormal", (64,), loc=0.0, scale=FUNCTION)
    scale = prior.on_grid().parameters["scale"]
    np.testing.assert_allclose(scale, np.geomspace(0.11, 256, 64), rtol=1e-6)


@given(indexed_priors())
def test_every_form_restores_an_indexed_prior(prior: Prior) -> None:
    problems: list[Any] = []
    message = types_pb2.Prior.FromString(prior_to_message(prior).SerializeToString())
    for restored in (
        prior_from_dict(json.loads(json.dumps(prior_to_dict(prior)))),
        prior_from_message(message, "prior", problems),
        pickle.loads(pickle.dumps(prior)),  # noqa: S301 - our own
        copy.deepcopy(prior),
        Prior(prior.family, dict(reversed(list(prior.parameters.items()))), prior.index_ranges),
    ):
        assert restored == prior
        assert hash(restored) == hash(prior)
        assert restored is not None
        assert restored.on_grid() == prior.on_grid()
    assert problems == []


@given(indexed_priors())
def test_on_the_grid_a_prior_is_ordinary_with_the_same_shape_and_dtype(prior: Prior) -> None:
    grid = prior.on_grid()
    assert grid.index_ranges is None
    assert grid.batch_shape == prior.batch_shape == prior.index_ranges
    assert grid.dtype == prior.dtype
    assert Prior(grid.family, grid.parameters) == grid
    assert grid.on_grid() is grid
    assert grid != prior
    assert not any(isinstance(value, IndexFunction) for value in grid.parameters.values())


@given(any_prior())
def test_an_ordinary_prior_is_written_as_before_there_were_indexes(prior: Prior) -> None:
    assert prior_to_dict(prior).keys() == {"family", "parameters"}
    assert not prior_to_message(prior).HasField("index_ranges")
    assert prior.on_grid() is prior


@given(any_prior().filter(lambda prior: len(prior.batch_shape) > 0))
def test_an_ordinary_prior_over_the_grid_is_its_own_grid(prior: Prior) -> None:
    indexed = priors.indexed(prior.family, prior.batch_shape, **prior.parameters)
    assert indexed.on_grid() == prior
    assert indexed != prior


def test_the_dtype_is_that_of_the_parameters_that_are_no_functions() -> None:
    for loc, dtype in ((0.0, "float32"), (np.float32(0), "float32"), (np.float64(0), "float64")):
        prior = priors.indexed("NoisyNormal", (3,), loc=loc, scale=FUNCTION)
        assert prior.dtype == dtype
        assert prior.on_grid().parameters["scale"].dtype == dtype
    functions = priors.indexed("NoisyNormal", (3,), loc=priors.affine(0, 1), scale=FUNCTION)
    assert functions.dtype == "float32"


def test_numbers_alone_are_a_prior_over_the_grid() -> None:
    grid = priors.indexed("NoisyNormal", (4, 5), loc=0.0, scale=1.0).on_grid()
    assert grid.batch_shape == (4, 5)
    mixture = priors.indexed("NoisyNormalMixture", (4,), loc=[0, 1], scale=1.0, weight=[0.5, 0.5]).on_grid()
    assert mixture.batch_shape == (4,)


def test_components_may_follow_an_index_each() -> None:
    prior = priors.indexed(
        "NoisyLogisticMixture",
        (10, 10, 5),
        loc=priors.affine([0, -1.5], [[1, 0, 0], [0, 1, 0]]),
        scale=1.0,
        weight=priors.softmax_affine([2, -2], [-1, 1], axis=2),
    )
    grid = prior.on_grid().parameters
    i = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in (10, 10, 5)), indexing="ij"), axis=-1)
    assert np.array_equal(grid["loc"], i[..., :2] - np.array([0, 1.5], np.float32))
    powers = np.exp((i[..., 2:] - 2) * np.array([-1, 1], np.float32))
    np.testing.assert_allclose(grid["weight"], powers / powers.sum(axis=-1, keepdims=True), rtol=1e-6)


BAD_ARGUMENTS: dict[str, tuple[str, dict[str, Any], Any, list[str]]] = {
    "an unknown function": ("sin", {}, 0, ["function"]),
    "no name": (None, {}, 0, ["function"]),  # type: ignore[dict-item]
    "an argument too few and one too many": ("affine", {"offset": 0, "low": 1}, 0, ["slope", "low"]),
    "NaN": ("affine", {"offset": np.nan, "slope": [0, np.inf]}, 0, ["offset", "slope[1]"]),
    "no numbers": ("affine", {"offset": "0", "slope": 1j}, 0, ["offset", "slope"]),
    "a flag": ("affine", {"offset": True, "slope": 0}, 0, ["offset"]),
    "nothing": ("affine", {"offset": [], "slope": 0}, 0, ["offset"]),
    "too many axes": ("affine", {"offset": [[0]], "slope": [[[0]]]}, 0, ["offset", "slope"]),
    "two axes of scales": ("log_spaced", {"low": [[1]], "high": 2}, 0, ["low"]),
    "not above 0": ("log_spaced", {"low": 0, "high": [1, -2]}, 0, ["high[1]", "low"]),
    "two numbers of components": ("affine", {"offset": [0, 1], "slope": [0, 1, 2]}, 0, ["function"]),
    "no components to sum over": ("softmax_affine", {"offset": 0, "slope": 1}, 0, ["function"]),
    "a table of a number": ("table", {"values": 1}, 0, ["values"]),
    "a table of three axes": ("table", {"values": [[[1]]]}, 0, ["values"]),
    "a negative axis": ("affine", {"offset": 0, "slope": 1}, -1, ["axis"]),
    "an axis that is no integer": ("affine", {"offset": 0, "slope": 1}, 0.5, ["axis"]),
}


@pytest.mark.parametrize(("name", "arguments", "axis", "found"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS)
def test_a_bad_function_is_refused_by_name(
    name: str, arguments: dict[str, Any], axis: Any, found: list[str]
) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        IndexFunction(name, arguments, axis)
    assert sorted(violation.field for violation in caught.value.violations) == sorted(found)


ONE = {"loc": 0.0, "scale": FUNCTION}
BAD_PRIORS: dict[str, tuple[str, Any, dict[str, Any], list[str]]] = {
    "no ranges": ("NoisyNormal", (), ONE, ["prior.index_ranges"]),
    "an empty range": ("NoisyNormal", (0,), ONE, ["prior.index_ranges"]),
    "ranges that are none": ("NoisyNormal", "64", ONE, ["prior.index_ranges"]),
    "too many ranges": ("NoisyNormal", (1,) * 9, ONE, ["prior.index_ranges"]),
    "too large a grid": ("NoisyNormal", (2**11, 2**10), ONE, ["prior.index_ranges"]),
    "an unknown family": ("Normal", (4,), ONE, ["prior.family"]),
    "a parameter too few and one too many": (
        "NoisyNormal",
        (4,),
        {"scale": 1, "skew": FUNCTION},
        ["prior.loc", "prior.skew"],
    ),
    "an axis off the grid": (
        "NoisyNormal",
        (4,),
        {"loc": 0, "scale": priors.log_spaced(1, 2, axis=1)},
        ["prior.scale.axis"],
    ),
    "a table of another length": (
        "NoisyNormal",
        (4,),
        {"loc": 0, "scale": priors.table([1, 2])},
        ["prior.scale.values"],
    ),
    "a slope by other indexes": (
        "NoisyNormalMixture",
        (4,),
        {"loc": priors.affine(0, [[1, 0], [0, 1]]), "scale": 1, "weight": [0.5, 0.5]},
        ["prior.loc.slope"],
    ),
    "an axis beside a slope by all": (
        "NoisyNormalMixture",
        (4, 4),
        {"loc": priors.affine(0, [[1, 0], [0, 1]], axis=1), "scale": 1, "weight": [0.5, 0.5]},
        ["prior.loc.axis"],
    ),
    "a scale that falls below 0": (
        "NoisyNormal",
        (5,),
        {"loc": 0, "scale": priors.affine(2, -1)},
        ["prior.scale[2]"],
    ),
    "the same at two indexes": (
        "NoisyNormal",
        (2, 5),
        {"loc": 0, "scale": priors.affine(2, -1, axis=1)},
        ["prior.scale[0, 2]"],
    ),
    "a location that is infinite": (
        "NoisyNormal",
        (500,),
        {"loc": priors.exp_affine(0, 1), "scale": 1},
        ["prior.loc[89]"],
    ),
    "weights that do not sum to 1": (
        "NoisyNormalMixture",
        (4,),
        {"loc": [0, 1], "scale": 1, "weight": priors.affine([0, 0.5], 0.25)},
        ["prior.weight"],
    ),
    "components in two numbers": (
        "NoisyNormalMixture",
        (4,),
        {"loc": priors.affine([0, 1, 2], 1), "scale": 1, "weight": [0.5, 0.5]},
        ["prior"],
    ),
    "a function for one number": (
        "NoisySoftRoundedNormal",
        (4,),
        {"loc": 0, "scale": 1, "alpha": priors.affine(1, 1)},
        ["prior.alpha"],
    ),
    "an array of another shape": ("NoisyNormal", (4,), {"loc": np.zeros(3), "scale": 1}, ["prior"]),
    "two dtypes": ("NoisyNormal", (4,), {"loc": np.float32(0), "scale": np.float64(1)}, ["prior"]),
    "a nested prior of other ranges": (
        "UniformNoiseAdapter",
        (4,),
        {"base": priors.indexed("tfp.Normal", (5,), loc=0.0, scale=FUNCTION)},
        ["prior.base"],
    ),
    "a nested prior without the grid": (
        "UniformNoiseAdapter",
        (4,),
        {"base": priors.tfp("Normal", loc=0.0, scale=1.0)},
        ["prior"],
    ),
    "an indexed prior in an ordinary one": (
        "UniformNoiseAdapter",
        None,
        {"base": priors.indexed("tfp.Normal", (5,), loc=0.0, scale=FUNCTION)},
        ["prior.base"],
    ),
    "a function in an ordinary prior": ("NoisyNormal", None, ONE, ["prior.scale"]),
    "a function for a prior": ("UniformNoiseAdapter", (4,), {"base": FUNCTION}, ["prior.base"]),
    "too many components over the grid": (
        "NoisyNormalMixture",
        (2**20,),
        {"loc": np.zeros(8), "scale": 1, "weight": np.full(8, 0.125)},
        ["prior.weight"],
    ),
    "a function of too many values": (
        "NoisyNormalMixture",
        (2**20,),
        {"loc": priors.affine(np.zeros(8), 1), "scale": 1, "weight": np.full(8, 0.125)},
        ["prior.loc"],
    ),
}


@pytest.mark.parametrize(("family", "ranges", "parameters", "found"), BAD_PRIORS.values(), ids=BAD_PRIORS)
def test_a_bad_indexed_prior_is_refused_by_name(
    family: str, ranges: Any, parameters: dict[str, Any], found: list[str]
) -> None:
    assert fields(family, ranges, **parameters) == found


def test_every_bad_function_of_a_document_or_message_is_named() -> None:
    prior = priors.indexed("NoisyNormal", (4,), loc=priors.affine(0, 1), scale=priors.log_spaced(1, 2))
    document = prior_to_dict(prior)
    document["parameters"]["scale"]["function"] = "sin"
    with pytest.raises(InvalidConfigError, match=r"prior\.scale\.function 'sin' is none of: affine"):
        prior_from_dict(document)
    message = prior_to_message(prior)
    message.parameters["scale"].function.arguments["low"].data = bytes(8)
    message.parameters["loc"].function.arguments["slope"].dtype = types_pb2.D_TYPE_UINT8
    message.parameters["loc"].function.arguments["slope"].data = bytes(1)
    problems: list[Any] = []
    assert prior_from_message(message, "prior", problems) is None
    assert [problem.field for problem in problems] == ["prior.loc.slope.dtype", "prior.scale.low"]


def test_every_function_has_a_constructor_of_its_name() -> None:
    assert set(FUNCTIONS) <= set(priors.__all__)
