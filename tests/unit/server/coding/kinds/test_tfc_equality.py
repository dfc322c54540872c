"""Strings and arrays of indexed kinds and of PowerLaw are those of TFC's classes, in both directions."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest

from entropyd_server.coding.kinds.continuous_indexed import ContinuousIndexedCodec
from entropyd_server.coding.kinds.power_law import PowerLawCodec
from entropyd_server.coding.kinds.universal_indexed import UniversalIndexedCodec
from entropyd_server.coding.tables import CodingTables

if TYPE_CHECKING:
    from entropyd_server.coding.codec import Codec
    from entropyd_server.coding.rows import Rows

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    tf = pytest.importorskip("tensorflow")
    tfc = pytest.importorskip("tensorflow_compression")

HALVES = ("float16", "bfloat16")
DTYPES = (*HALVES, "float32", "float64")
SCALES = 9
# Batches of units without elements crash TFC's decoder; the laws of codecs cover them.
SHAPES = [(1, 5, 7), (4, 1, 1), (5, 2, 30)]


def assert_coded_alike(codec: Codec, rows: Rows, values: Any, strings: Any, restored: Any) -> None:
    """Checks TFC's strings and arrays of `values`, an array of ml_dtypes or NumPy, against a codec's."""
    units, expected = len(values), list(strings.numpy().reshape(-1))
    encoded = codec.encode(np.ascontiguousarray(values).reshape(units, -1).view(codec.wire_dtype), rows)
    assert encoded.all_ok
    assert encoded.payload == b"".join(expected)
    assert encoded.lengths.tolist() == [len(string) for string in expected]
    decoded = codec.decode(encoded.payload, encoded.lengths, rows)
    assert decoded.all_ok
    np.testing.assert_array_equal(
        decoded.values.view(values.dtype).astype(np.float64),
        restored.numpy().reshape(units, -1).astype(np.float64),
    )


def drawn(rng: np.random.Generator, scale: Any, dtype: str) -> npt.NDArray[Any]:
    """Values of some scales, a few of them far out, as an array of a dtype of TensorFlow."""
    x = rng.standard_cauchy(np.shape(scale)) * scale
    x[rng.random(x.shape) < 0.1] = 0.5
    values: npt.NDArray[Any] = np.clip(x, -6e4, 6e4).astype(tf.as_dtype(dtype).as_numpy_dtype)
    return values


@pytest.mark.parametrize("dtype", DTYPES)
def test_continuous_indexed_and_location_scale(dtype: str) -> None:
    rng = np.random.default_rng(0)
    scales = np.geomspace(0.11, 30, SCALES).astype(np.float32)
    model = tfc.LocationScaleIndexedEntropyModel(
        tfc.NoisyNormal,
        SCALES,
        lambda index: tf.gather(tf.constant(scales), tf.cast(index, tf.int32)),
        2,
        compression=True,
        bottleneck_dtype=dtype,
    )
    codec = ContinuousIndexedCodec(
        model_id="test",
        tables=CodingTables.parse(model.cdf.numpy(), model.cdf_offset.numpy()),
        index_ranges=(SCALES,),
        coding_rank=2,
        bottleneck_dtype=dtype,
    )
    for shape in SHAPES:
        for row_dtype in (np.uint8, np.uint16, np.int32):
            indexes = rng.integers(0, SCALES, shape)
            x = drawn(rng, scales[indexes], dtype)
            strings = model.compress(x, indexes)
            plane = indexes.astype(row_dtype).reshape(shape[0], -1)
            rows = codec.rows_of(plane, shape[1:], np.arange(shape[0]))
            assert_coded_alike(codec, rows, x, strings, model.decompress(strings, indexes))
            loc = drawn(rng, np.ones(shape), dtype)
            strings = model.compress(x.copy(), indexes, loc)
            # A client does these two.
            assert_coded_alike(codec, rows, x - loc, strings, model.decompress(strings, indexes))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("levels", [1, 3, 10, 15])
def test_universal_indexed(dtype: str, levels: int) -> None:
    rng = np.random.default_rng(levels)
    ranges = (3, 4)
    model = tfc.UniversalIndexedEntropyModel(
        tfc.NoisyLogistic,
        ranges,
        {"loc": lambda i: i[..., 0] - 1, "scale": lambda i: tf.exp(i[..., 1] - 1)},
        2,
        compression=True,
        bottleneck_dtype=dtype,
        prior_dtype=tf.as_dtype(dtype),
        num_noise_levels=levels,
        range_coder_precision=14,
    )
    codec = UniversalIndexedCodec(
        model_id="test",
        tables=CodingTables.parse(model.cdf.numpy(), model.cdf_offset.numpy()),
        index_ranges=ranges,
        coding_rank=2,
        bottleneck_dtype=dtype,
        num_noise_levels=levels,
    )
    for shape in SHAPES:
        indexes = np.stack([rng.integers(0, bound, shape) for bound in ranges], axis=-1).astype(np.int32)
        x = drawn(rng, np.exp(indexes[..., 1] - 1.0), dtype)
        strings = model.compress(x, indexes)
        restored = model.decompress(strings, indexes)
        plane = (indexes @ (4, 1)).astype(np.uint8).reshape(shape[0], -1)
        # As a whole, and a selection of units in another order.
        for units in (np.arange(shape[0]), rng.permutation(shape[0])[: math.ceil(shape[0] / 2)]):
            rows = codec.rows_of(plane[units], shape[1:], units)
            assert_coded_alike(codec, rows, x[units], tf.gather(strings, units), tf.gather(restored, units))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("coding_rank", [0, 1, 2])
def test_power_law(dtype: str, coding_rank: int) -> None:
    rng = np.random.default_rng(coding_rank)
    model = tfc.PowerLawEntropyModel(coding_rank=coding_rank, bottleneck_dtype=dtype)
    codec = PowerLawCodec(model_id="test", coding_rank=coding_rank, bottleneck_dtype=dtype)
    for shape in [*SHAPES, (3, 0, 4)]:
        for scale in (0.1, 1, 1000):
            x = drawn(rng, np.full(shape, scale), dtype)
            if coding_rank and not x.size:
                continue
            strings, unit_shape = model.compress(x), shape[len(shape) - coding_rank :]
            if not x.size:
                continue
            rows = codec.rows(unit_shape)
            values = x.reshape(-1, *unit_shape)
            restored = model.decompress(strings, np.array(unit_shape, np.int32))
            assert_coded_alike(codec, rows, values, strings, tf.reshape(restored, values.shape))


def test_magnitudes_of_power_law_up_to_the_largest_are_cast_as_tfc_casts_them() -> None:
    integers = np.array([[2**31 - 1, -(2**31) + 1, 2**24 + 1, 2**24 + 3, -(2**30) - 65, 1, 0, 33554433]])
    strings = tfc.PowerLawEntropyModel(1, bottleneck_dtype="float64").compress(integers.astype(np.float64))
    for dtype in DTYPES:
        model = tfc.PowerLawEntropyModel(1, bottleneck_dtype=dtype)
        codec = PowerLawCodec(model_id="test", coding_rank=1, bottleneck_dtype=dtype)
        string = strings.numpy()[0]
        decoded = codec.decode(string, np.array([len(string)], np.uint32), codec.rows((8,))).values
        kind = tf.as_dtype(dtype).as_numpy_dtype
        np.testing.assert_array_equal(
            decoded.view(kind).astype(np.float64), model.decompress(strings, (8,)).numpy().astype(np.float64)
        )
