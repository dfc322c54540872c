"""Laws of batches: what a caller gets is what its units alone would give, whoever else is in the batch."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropyd_server.coding.codec import DecodedUnits, EncodedUnits
from entropyd_server.coding.operations import COMPRESS, DECOMPRESS, CompressWork, DecompressWork, Strings
from entropyd_server.coding.rows import Rows
from entropyd_server.kernels.jit import kernel_input
from tests.unit.server.coding.test_codec import ROWS, codec_of

DTYPES = ("float16", "bfloat16", "float32", "float64")


def outcome(decoded: DecodedUnits) -> tuple[bytes, list[int], list[int]]:
    return decoded.values.tobytes(), decoded.statuses.tolist(), decoded.positions.tolist()


def units(seed: int, count: int, symbols: int, dtype: np.dtype[Any]) -> Any:
    """Values near and far, and some that cannot be coded."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 3, (count, symbols)) * 10 ** rng.choice([0, 0, 0, 3], (count, symbols))
    values[rng.random((count, symbols)) < 0.01] = np.nan
    if dtype == np.uint16:  # bit patterns of bfloat16
        return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return values.astype(dtype)


def own_rows(seed: int, count: int, like: Rows) -> Rows:
    """Rows and offsets that differ from unit to unit."""
    rng = np.random.default_rng(seed)
    row_index = rng.integers(0, len(ROWS), count * like.symbols).astype(np.int32)
    offsets = rng.normal(0, 1, count * like.symbols).astype(like.offsets.dtype)
    return Rows(like.unit_shape, kernel_input(row_index), kernel_input(offsets), like.symbols)


@pytest.mark.parametrize("bottleneck_dtype", DTYPES)
@given(
    broadcast_shape=st.tuples(st.integers(0, 4), st.integers(1, 5)),
    callers=st.lists(
        st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 9), st.booleans()), min_size=1, max_size=6
    ),
    damage=st.randoms(use_true_random=False),
)
def test_strings_of_several_callers_decode_as_each_caller_s_alone(
    bottleneck_dtype: str,
    broadcast_shape: tuple[int, int],
    callers: list[tuple[int, int, bool]],
    damage: Any,
) -> None:
    codec = codec_of(bottleneck_dtype)
    shared = codec.rows(broadcast_shape)
    parts = []
    for seed, count, own in callers:
        unit_rows = own_rows(seed, count, shared) if own else shared
        encoded = codec.encode(units(seed, count, unit_rows.symbols, codec.wire_dtype), unit_rows)
        payload = bytearray(encoded.payload)
        for _ in range(damage.randrange(3) if payload else 0):
            payload[damage.randrange(len(payload))] ^= damage.randrange(256)
        work = DecompressWork(codec, unit_rows, Strings(bytes(payload), encoded.lengths))
        parts.append((work, 0, count))
    together = DECOMPRESS.run(parts)
    alone = [codec.decode(*work.strings, work.rows) for work, _, _ in parts]
    assert [outcome(decoded) for decoded in together] == [outcome(decoded) for decoded in alone]


@pytest.mark.parametrize("bottleneck_dtype", DTYPES)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 9), data=st.data())
def test_units_that_are_coded_in_pieces_are_coded_as_a_whole(
    bottleneck_dtype: str, seed: int, count: int, data: st.DataObject
) -> None:
    codec = codec_of(bottleneck_dtype)
    unit_rows = codec.rows((2, 3))
    values = units(seed, count, unit_rows.symbols, codec.wire_dtype)
    cuts = [0, *sorted(data.draw(st.sets(st.integers(1, count)))), count]
    spans = list(pairwise(cuts))
    whole = codec.encode(values, unit_rows)
    work = CompressWork(codec, unit_rows, values)
    pieces = EncodedUnits.join(COMPRESS.run([(work, start, stop) for start, stop in spans]))
    assert (pieces.payload, pieces.escapes) == (whole.payload, whole.escapes)
    assert pieces.lengths.tolist() == whole.lengths.tolist()
    assert pieces.statuses.tolist() == whole.statuses.tolist()
    strings = DecompressWork(codec, unit_rows, Strings(whole.payload, whole.lengths))
    decoded = DecodedUnits.join([DECOMPRESS.run([(strings, start, stop)])[0] for start, stop in spans])
    assert outcome(decoded) == outcome(codec.decode(whole.payload, whole.lengths, unit_rows))
