"""Laws of the rows that indexes stand for: those of TFC's classes, whatever dtype, shape and channel axis."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import entropyd
from entropyd import InvalidTensorError, priors
from entropyd._indexes import has_index_gradient, plane_shape, row_plane, sent_indexes

Array = npt.NDArray[Any]

masked_array: Any = np.ma.masked_array  # NumPy gives it no types

INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
FLOATS = ("float16", "bfloat16", "float32", "float64")
SPECIAL = (np.inf, -np.inf, -0.0, -0.4, 1e30)


def dtype_of(name: str) -> np.dtype[Any]:
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


def config(
    index_ranges: tuple[int, ...], axis: int | None = -1, coding_rank: int = 0
) -> entropyd.ContinuousIndexedConfig:
    prior = priors.indexed("NoisyNormal", index_ranges=index_ranges, loc=0.0, scale=1.0)
    return entropyd.ContinuousIndexedConfig(prior=prior, coding_rank=coding_rank, channel_axis=axis)


@st.composite
def cases(draw: st.DrawFn, longest: int) -> tuple[entropyd.ContinuousIndexedConfig, Array]:
    """A configuration, and indexes of which some are beyond their ranges."""
    ranges = (*draw(st.lists(st.integers(1, 9), max_size=2)), draw(st.integers(1, longest)))
    ranges = ranges[::-1] if draw(st.booleans()) else ranges
    axes = [None, 0] if len(ranges) == 1 else [0]
    axis = draw(st.sampled_from([*axes, *range(-len(ranges) - 1, len(ranges) + 1)]))
    least = 0 if axis is None else max(axis, -axis - 1)
    shape = draw(hnp.array_shapes(min_dims=least, max_dims=4, min_side=0, max_side=4))
    if axis is not None:
        place = axis if axis >= 0 else len(shape) + 1 + axis
        shape = (*shape[:place], len(ranges), *shape[place:])
    dtype = dtype_of(draw(st.sampled_from(INTEGERS + FLOATS)))
    values: st.SearchStrategy[float]
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        near = st.integers(max(-3, info.min), min(longest + 3, info.max))
        values = near | st.integers(info.min, info.max)
    else:
        values = st.floats(-3, longest + 3) | st.sampled_from(SPECIAL)
    found = draw(st.lists(values, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
    with np.errstate(over="ignore"):
        return config(ranges, axis), np.array(found, dtype).reshape(shape)


def rows_by_hand(found: entropyd.ContinuousIndexedConfig, indexes: Array) -> Array:
    """Each index clipped and cut by Python, and the rows from NumPy's own C order."""
    channels = indexes[None] if found.channel_axis is None else np.moveaxis(indexes, found.channel_axis, 0)
    clipped = [
        np.array([int(min(max(float(x), 0), length - 1)) for x in channel.reshape(-1)], np.int64)
        for channel, length in zip(channels, found.index_ranges, strict=True)
    ]
    rows = np.ravel_multi_index(clipped, found.index_ranges)
    return np.asarray(rows).reshape(channels.shape[1:])


@given(cases(longest=1500))
def test_rows_are_the_clipped_and_cut_indexes_in_row_major_order(
    case: tuple[entropyd.ContinuousIndexedConfig, Array],
) -> None:
    found, indexes = case
    before = indexes.copy()
    indexes.setflags(write=False)
    rows = row_plane(found, indexes)
    np.testing.assert_array_equal(rows, rows_by_hand(found, indexes))
    count = int(np.prod(found.index_ranges))
    assert rows.dtype == (np.uint8 if count <= 256 else np.uint16 if count <= 65536 else np.int32)
    assert rows.shape == plane_shape(found, indexes.shape)
    assert indexes.tobytes() == before.tobytes()


# Where TFC's own clipping works: the ranges can be said in every dtype.
@given(cases(longest=100))
def test_rows_are_those_of_tfc(
    case: tuple[entropyd.ContinuousIndexedConfig, Array],
) -> None:
    reason = "TFC needs TensorFlow 2.14"
    tf = pytest.importorskip("tensorflow", reason=reason)
    tfc = pytest.importorskip("tensorflow_compression", reason=reason)
    found, indexes = case
    model = tfc.ContinuousIndexedEntropyModel(
        tfc.NoisyNormal,
        found.index_ranges,
        {"loc": lambda _: 0.0, "scale": lambda _: 1.0},
        coding_rank=0,
        channel_axis=found.channel_axis,
    )
    normalized = model._normalize_indexes(tf.constant(indexes))
    np.testing.assert_array_equal(row_plane(found, indexes), model._flatten_indexes(normalized))


@given(st.lists(st.floats(-1, 9, width=32), min_size=1, max_size=5))
def test_lists_are_read_as_tensorflow_reads_them(values: list[float]) -> None:
    found = config((8,), None)
    expected = np.clip(np.array(values, np.float32), 0, 7).astype(np.int32)
    np.testing.assert_array_equal(row_plane(found, values), expected)
    assert row_plane(found, [6.99999999]).tolist() == [7]  # in float32
    assert row_plane(found, np.array([6.99999999])).tolist() == [6]
    assert row_plane(found, [[1, 2], [-1, 10**20]]).tolist() == [[1, 2], [0, 7]]


def test_rows_in_their_dtype_are_not_copied() -> None:
    indexes = np.arange(64, dtype=np.uint8).reshape(1, 8, 8)
    assert row_plane(config((64,), None), indexes) is indexes
    assert np.shares_memory(row_plane(config((64,), -1), indexes[..., None]), indexes)


@pytest.mark.parametrize("dtype", FLOATS)
def test_nan_is_refused_by_its_element(dtype: str) -> None:
    indexes = np.zeros((2, 3, 2), dtype_of(dtype))
    indexes[1, 2, 0] = np.nan
    for read in (row_plane, sent_indexes):
        with pytest.raises(InvalidTensorError, match=r"indexes\[1, 2, 0\] is NaN") as error:
            read(config((4, 5)), indexes)
        assert error.value.violations[0].field == "indexes[1, 2, 0]"


@pytest.mark.parametrize(
    ("found", "indexes", "message"),
    [
        (config((4,), None, 2), np.zeros(3, np.int32), r"have shape \(3,\); coding_rank 2 need"),
        (config((4, 5), -1, 2), np.zeros((2, 2), np.int32), "channel_axis -1 need at least 3 axes"),
        (config((4, 5), 2), np.zeros((2, 2), np.int32), "channel_axis 2 need at least 3 axes"),
        (config((4, 5), 0), np.zeros((3, 2), np.int32), "expected length 2 along channel_axis 0"),
        (config((4,), -1), np.zeros((3, 2), np.int32), "expected length 1 along channel_axis -1"),
        (config((4,), None), np.zeros(3, np.bool_), "have dtype bool"),
        (config((4,), None), np.zeros(3, np.complex64), "have dtype complex64"),
        (config((4,), None), [[1, 2], [3]], "ragged"),
        (config((4,), None), "12", "is a str"),
        (config((4,), None), masked_array([1, 2], [0, 1]), "masked array"),
    ],
)
def test_indexes_of_another_form_are_refused_by_name(
    found: entropyd.ContinuousIndexedConfig, indexes: Any, message: str
) -> None:
    with pytest.raises(InvalidTensorError, match=message) as error:
        row_plane(found, indexes)
    assert error.value.violations[0].field == "indexes"


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_a_single_index_has_no_channel_axis(axis: int) -> None:
    with pytest.raises(InvalidTensorError, match=f"channel_axis {axis} need at least"):
        plane_shape(config((4,), axis), ())


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
def test_perturb_gets_indexes_as_they_are_where_a_tensor_can_hold_them(dtype: str) -> None:
    indexes = np.array([0, 1, 5], dtype_of(dtype))
    sent = sent_indexes(config((4,), None), indexes)
    assert sent.tolist() == [0, 1, 5]
    kept = dtype in {*FLOATS, "uint8", "uint16", "int32"}
    assert sent.dtype == (indexes.dtype if kept else np.int32)


def test_only_float_indexes_of_a_prior_with_functions_have_a_gradient() -> None:
    ranges = (4,)
    scale = priors.log_spaced(0.1, 2.0)
    follows = entropyd.LocationScaleIndexedConfig(
        prior=priors.indexed("NoisyNormal", index_ranges=ranges, loc=0.0, scale=scale), coding_rank=0
    )
    assert has_index_gradient(follows, np.dtype(np.float32))
    assert has_index_gradient(follows, dtype_of("bfloat16"))
    assert not has_index_gradient(follows, np.dtype(np.int32))
    assert not has_index_gradient(config(ranges, None), np.dtype(np.float32))
