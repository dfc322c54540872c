"""The third leg of the equality: strings and values are those of TensorFlow Compression, in both directions.

This module and the ones under modeling are the only tests that import TensorFlow.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entropyd_server.coding.dither import noise_levels
from entropyd_server.coding.kinds.universal_batched import UniversalBatchedCodec
from entropyd_server.coding.tables import CodingTables
from entropyd_server.kernels.range_coder import Status
from tests.support.coding_cases import Case, cases, decode_integers, encode_integers

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    tf = pytest.importorskip("tensorflow")
    tfc = pytest.importorskip("tensorflow_compression")
    from tensorflow_compression.python.ops import gen_ops


def tfc_encode(case: Case) -> list[bytes]:
    tables, count = case.tables, len(case.units)
    symbols = np.array(case.units, np.int64) - tables.cdf_offset[case.row_index]
    handle = gen_ops.create_range_encoder([count], tables.cdf)
    index = np.broadcast_to(np.array(case.row_index, np.int32), symbols.shape)
    handle = gen_ops.entropy_encode_index(handle, index, symbols.astype(np.int32))
    return list(gen_ops.entropy_encode_finalize(handle).numpy())


def tfc_decode(case: Case, strings: list[bytes]) -> tuple[list[list[int]], list[bool]]:
    tables, symbols = case.tables, len(case.row_index)
    handle = gen_ops.create_range_decoder(strings, tables.cdf)
    index = np.broadcast_to(np.array(case.row_index, np.int32), (len(strings), symbols))
    handle, decoded = gen_ops.entropy_decode_index(handle, index, [symbols], tf.int32)
    sanity = gen_ops.entropy_decode_finalize(handle)
    return (decoded.numpy() + tables.cdf_offset[case.row_index]).tolist(), sanity.numpy().tolist()


# TFC crashes for a batch without units or units without symbols, and never returns for hostile escapes.
filled = cases().filter(lambda case: bool(case.row_index and case.units))


@settings(max_examples=200)
@given(filled)
def test_strings_are_byte_equal_and_decode_in_both_directions(case: Case) -> None:
    expected = tfc_encode(case)
    strings, _, _ = encode_integers(case.tables, case.row_index, case.units)
    assert strings == expected
    assert decode_integers(case.tables, case.row_index, expected)[0] == case.units
    assert tfc_decode(case, strings) == (case.units, [True] * len(strings))


@settings(max_examples=200)
@given(filled, st.data())
def test_damaged_strings_decode_to_the_same_symbols_and_the_same_sanity(
    case: Case, data: st.DataObject
) -> None:
    damaged = []
    for string in encode_integers(case.tables, case.row_index, case.units)[0]:
        changed = bytearray(string)
        if changed:
            changed[data.draw(st.integers(0, len(string) - 1))] ^= data.draw(st.integers(1, 255))
        damaged += [bytes(changed[: data.draw(st.integers(0, len(string)))]), bytes(changed), string + b"\0"]
    integers, statuses, _ = decode_integers(case.tables, case.row_index, damaged, sanity_check=False)
    safe = [k for k, status in enumerate(statuses) if status != Status.ESCAPE_TOO_LONG]
    if not safe:
        return
    symbols, sanity = tfc_decode(case, [damaged[k] for k in safe])
    assert [integers[k] for k in safe] == symbols
    _, statuses, _ = decode_integers(case.tables, case.row_index, damaged, sanity_check=True)
    assert [statuses[k] == Status.OK for k in safe] == sanity


@pytest.mark.parametrize(("count", "levels"), [(1, 1), (7, 2), (1000, 15), (100001, 255), (3000, 1000)])
def test_the_dither_is_the_one_of_tensorflow(count: int, levels: int) -> None:
    drawn = tf.random.stateless_uniform((count,), seed=(1234, 1234), minval=0, maxval=levels, dtype=tf.int32)
    assert noise_levels(count, levels).tolist() == drawn.numpy().tolist()


MODELS: list[tuple[str, tuple[int, ...], int, dict[str, Any]]] = [
    ("float32", (4,), 3, {}),
    ("float64", (2, 2), 2, {"num_noise_levels": 7, "range_coder_precision": 16}),
    ("float32", (), 1, {"tail_mass": 0.3, "range_coder_precision": 8, "num_noise_levels": 1}),
]


@pytest.mark.parametrize(("dtype", "prior_shape", "coding_rank", "arguments"), MODELS)
def test_compress_and_decompress_are_those_of_the_model(
    dtype: str, prior_shape: tuple[int, ...], coding_rank: int, arguments: dict[str, Any]
) -> None:
    scale = np.linspace(0.3, 5, math.prod(prior_shape)).reshape(prior_shape)
    prior = tfc.NoisyNormal(
        loc=tf.constant(scale - 1, getattr(tf, dtype)), scale=tf.constant(scale, getattr(tf, dtype))
    )
    model = tfc.UniversalBatchedEntropyModel(
        prior, coding_rank, compression=True, bottleneck_dtype=getattr(tf, dtype), **arguments
    )
    codec = UniversalBatchedCodec(
        model_id="test",
        tables=CodingTables.parse(model.cdf.numpy(), model.cdf_offset.numpy()),
        prior_shape=prior_shape,
        coding_rank=coding_rank,
        bottleneck_dtype=dtype,
        num_noise_levels=arguments.get("num_noise_levels", 15),
    )
    rng = np.random.default_rng(1)
    for broadcast in (1, 9):
        broadcast_shape = (broadcast,) * (coding_rank - len(prior_shape))
        plan = codec.rows(broadcast_shape)
        values = (rng.standard_cauchy((3, *plan.unit_shape)) * scale * 3).astype(dtype)
        encoded = codec.encode(values.reshape(3, -1), plan)
        ends = np.cumsum(encoded.lengths)
        strings = [encoded.payload[end - size : end] for end, size in zip(ends, encoded.lengths, strict=True)]
        assert strings == list(model.compress(values).numpy())
        assert encoded.escapes > 0
        decoded = codec.decode(encoded.payload, encoded.lengths, plan)
        restored = model.decompress(strings, broadcast_shape).numpy()
        assert decoded.values.tolist() == restored.reshape(3, -1).tolist()


def uniform_rows(rng: np.random.Generator, precision: int) -> list[tuple[list[int], int]]:
    """Rows of one interval, of two, of some, and of as many as the precision allows."""
    total = 1 << precision
    some = np.unique(rng.integers(1, total, 30)).tolist() if total > 2 else [1]
    every = [*range(total + 1)]
    return [([0, total], 0), ([0, 1, total], 3), ([0, *some, total], -5), (every, -total // 2)]


@pytest.mark.parametrize("precision", range(1, 17))
def test_a_batch_of_every_precision_is_byte_equal_in_both_directions(precision: int) -> None:
    rng = np.random.default_rng(precision)
    rows = uniform_rows(rng, precision)
    row_index = rng.integers(0, len(rows), 500)
    sizes = np.array([len(cumulative) - 1 for cumulative, _ in rows])[row_index]
    starts = np.array([offset for _, offset in rows])[row_index]
    inside = starts + rng.integers(0, sizes, (18, 500))
    magnitudes = np.minimum(2 ** rng.integers(0, 30, (18, 500)) + rng.integers(0, 2, (18, 500)), 2**30 - 1)
    escapes = starts + np.where(rng.random((18, 500)) < 0.5, -magnitudes, sizes - 2 + magnitudes)
    units = np.where(rng.random((18, 500)) < 0.05, escapes, inside)
    case = Case(precision, rows, row_index.tolist(), units.tolist())
    expected = tfc_encode(case)
    assert encode_integers(case.tables, case.row_index, case.units)[0] == expected
    assert decode_integers(case.tables, case.row_index, expected)[0] == case.units
    assert tfc_decode(case, expected)[0] == case.units


def test_a_million_symbols_are_byte_equal() -> None:
    rng = np.random.default_rng(0)
    rows = uniform_rows(rng, 12)
    row_index = rng.integers(0, len(rows), 10**6)
    sizes = np.array([len(cumulative) - 1 for cumulative, _ in rows])[row_index]
    unit = np.array([offset for _, offset in rows])[row_index] + rng.integers(0, sizes)
    case = Case(12, rows, row_index.tolist(), [unit.tolist()])
    strings = tfc_encode(case)
    assert encode_integers(case.tables, case.row_index, case.units)[0] == strings
    assert decode_integers(case.tables, case.row_index, strings)[0] == case.units
