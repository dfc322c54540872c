"""Laws of Perturb's indexes: they fit their bottleneck and hold no NaN, or are refused by field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from entropyd import (
    ContinuousIndexedConfig,
    LocationScaleIndexedConfig,
    PowerLawConfig,
    UniversalBatchedConfig,
    UniversalIndexedConfig,
    priors,
)
from entropyd.contract.errors import InvalidRequestError, InvalidTensorError
from entropyd.contract.wire import array_from_message, tensor_to_message
from entropyd.v1 import model_pb2
from entropyd_server.limits import Limits
from entropyd_server.modeling.perturbation import Perturbed
from entropyd_server.rpc.requests.perturb import nothing_perturbed, parse_perturb, render_perturbed

if TYPE_CHECKING:
    from entropyd.contract.config import ModelConfig

LIMITS = Limits(max_message_bytes=1 << 16, max_model_bytes=4096, max_build_seconds=1, max_units=64)
SHAPE = (2, 3, 4)
SCALE = priors.indexed("NoisyNormal", (8,), loc=0.0, scale=priors.exp_affine(-1.0, 0.5))
TWO = priors.NoisyNormal(0.0, np.arange(1, 7, dtype=np.float32).reshape(2, 3))
FLOATS = ("float16", "bfloat16", "float32", "float64")


def config(axis: int | None = None, prior: Any = SCALE) -> ContinuousIndexedConfig:
    return ContinuousIndexedConfig(prior=prior, coding_rank=2, channel_axis=axis, compression=False)


def request(
    indexes: npt.NDArray[Any] | None, shape: tuple[int, ...] = SHAPE, **fields: Any
) -> model_pb2.PerturbRequest:
    bottleneck = tensor_to_message(np.zeros(shape, np.float32))
    made = model_pb2.PerturbRequest(bottleneck=bottleneck, **fields)
    if indexes is not None:
        made.indexes.CopyFrom(tensor_to_message(indexes))
    return made


@pytest.mark.parametrize("dtype", [*FLOATS, "uint8", "uint16", "int32"])
def test_indexes_of_any_number_type_are_passed_on_as_they_are(dtype: str) -> None:
    array = np.arange(-4, 20).reshape(SHAPE).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    call, _ = parse_perturb(request(array, first_unit=5), config(), LIMITS)
    assert call.indexes is not None
    assert (call.key.index_dtype, call.first_unit) == (dtype, 5)
    assert call.indexes.tobytes() == array.tobytes()
    assert call.indexes.shape == (2, 3, 4)


@given(st.integers(-3, 2), hnp.array_shapes(min_dims=2, max_dims=4, max_side=3), st.booleans())
def test_the_channel_axis_comes_last_and_its_gradient_goes_back(
    axis: int, shape: tuple[int, ...], gradient: bool
) -> None:
    rank = len(shape) + 1
    with_axis = (*shape[: axis % rank], 2, *shape[axis % rank :])
    indexes = np.random.default_rng(0).normal(size=with_axis).astype(np.float32)
    model = config(
        axis, priors.indexed("NoisyNormal", (2, 3), loc=0.0, scale=priors.exp_affine(0.0, 1.0, axis=1))
    )
    call, batch_shape = parse_perturb(request(indexes, shape, index_gradient=gradient), model, LIMITS)
    assert call.indexes is not None
    expected = np.moveaxis(indexes, axis, -1)
    assert np.array_equal(call.indexes.reshape(expected.shape), expected)
    assert call.indexes.shape == (*call.units.shape, 2)
    bits = np.zeros(len(call.units), np.float32)
    given_back = Perturbed(call.units, bits, None, call.indexes if gradient else None)
    response = render_perturbed(given_back, call, batch_shape)
    assert response.HasField("index_gradient") == gradient
    if gradient:
        np.testing.assert_array_equal(array_from_message(response.index_gradient, "")[1], indexes)


def test_the_axis_of_a_universal_model_is_the_last() -> None:
    universal = UniversalIndexedConfig(prior=TWO, coding_rank=1, compression=False)
    call, _ = parse_perturb(request(np.zeros((*SHAPE, 2), np.uint8)), universal, LIMITS)
    assert call.indexes is not None
    assert call.indexes.shape == (6, 4, 2)
    scales = LocationScaleIndexedConfig(prior=SCALE, coding_rank=1, compression=False)
    call, _ = parse_perturb(request(np.zeros(SHAPE, np.uint8)), scales, LIMITS)
    assert call.indexes is not None
    assert call.indexes.shape == (6, 4)


@pytest.mark.parametrize("dtype", FLOATS)
def test_nan_is_refused_by_element_and_infinity_is_left_to_be_clipped(dtype: str) -> None:
    array = np.zeros((2, *SHAPE), np.float32)
    array[1, 0, 2, 3] = np.inf
    indexes = array.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    model = config(0, TWO)
    parse_perturb(request(indexes), model, LIMITS)
    indexes[1, 1, 2, 0] = np.nan
    with pytest.raises(InvalidTensorError, match=r"^indexes\[1, 1, 2, 0\] is NaN"):
        parse_perturb(request(indexes), model, LIMITS)


FLAT = np.zeros(SHAPE, np.float32)
REFUSED: list[tuple[ModelConfig, npt.NDArray[Any] | None, dict[str, Any], str]] = [
    (config(), None, {}, "indexes"),
    (config(), FLAT[:1], {}, "indexes"),
    (config(), FLAT[..., None], {}, "indexes"),
    (config(-1), FLAT, {}, "indexes"),
    (config(-1, TWO), np.zeros((*SHAPE, 3), np.float32), {}, "indexes"),
    (config(), FLAT.astype(np.int32), {"index_gradient": True}, "indexes.dtype"),
    (config(-1, TWO), np.zeros((*SHAPE, 2), np.float32), {"index_gradient": True}, "index_gradient"),
    (UniversalBatchedConfig(prior=SCALE.on_grid(), coding_rank=1, compression=False), FLAT, {}, "indexes"),
    (PowerLawConfig(coding_rank=2), FLAT, {}, "indexes"),
    (PowerLawConfig(coding_rank=2), None, {"index_gradient": True}, "index_gradient"),
]


@pytest.mark.parametrize(("model", "indexes", "fields", "field"), REFUSED, ids=lambda value: str(value)[:30])
def test_indexes_that_do_not_fit_are_refused_by_field(
    model: ModelConfig, indexes: npt.NDArray[Any] | None, fields: dict[str, Any], field: str
) -> None:
    shape = (2, 8) if isinstance(model, UniversalBatchedConfig) else SHAPE
    with pytest.raises(InvalidTensorError) as caught:
        parse_perturb(request(indexes, shape, **fields), model, LIMITS)
    assert [violation.field for violation in caught.value.violations] == [field]


def test_a_gradient_by_index_needs_a_function_of_the_index_and_the_error_says_so() -> None:
    with pytest.raises(InvalidTensorError, match="expected a prior with a function of the index"):
        parse_perturb(request(FLAT, index_gradient=True), config(prior=SCALE.on_grid()), LIMITS)
    table = priors.indexed("NoisyNormal", (2,), loc=0.0, scale=priors.table([1.0, 2.0]))
    assert parse_perturb(request(FLAT, index_gradient=True), config(prior=table), LIMITS)[
        0
    ].key.index_gradient


def test_units_have_numbers_within_an_array_where_noise_depends_on_them() -> None:
    universal = UniversalIndexedConfig(prior=TWO, coding_rank=1, compression=False)
    indexes = np.zeros((*SHAPE, 2), np.float32)
    with pytest.raises(InvalidRequestError, match=r"^first_unit reaches"):
        parse_perturb(request(indexes, first_unit=2**59), universal, LIMITS)
    parse_perturb(request(FLAT, first_unit=2**64 - 1), config(), LIMITS)


@pytest.mark.parametrize("dtype", FLOATS)
def test_nothing_is_perturbed_to_nothing(dtype: str) -> None:
    call, batch_shape = parse_perturb(
        request(np.zeros((0, 3, 4), np.float16), (0, 3, 4), gradient=True, index_gradient=True),
        config(),
        LIMITS,
    )
    response = render_perturbed(nothing_perturbed(call), call, batch_shape)
    assert array_from_message(response.index_gradient, "")[0] == "float16"
    assert list(response.index_gradient.shape) == [0, 3, 4]
    power_law = PowerLawConfig(coding_rank=1, bottleneck_dtype=dtype)
    empty = np.zeros((0, 3), ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    message = model_pb2.PerturbRequest(bottleneck=tensor_to_message(empty))
    call, batch_shape = parse_perturb(message, power_law, LIMITS)
    bits = render_perturbed(nothing_perturbed(call), call, batch_shape).bits
    assert (array_from_message(bits, "")[0], list(bits.shape)) == (dtype, [0])
