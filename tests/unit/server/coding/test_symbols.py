"""Laws of symbols in the coding plane: strings are those of the values, whatever else is in the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest

from entropyd.contract.symbols import SYMBOL_DTYPES, narrowest
from entropyd_server.coding.coders import Rans64Coder
from entropyd_server.coding.kinds.continuous_indexed import ContinuousIndexedCodec
from entropyd_server.coding.kinds.power_law import PowerLawCodec
from entropyd_server.coding.kinds.universal_batched import UniversalBatchedCodec
from entropyd_server.coding.operations import COMPRESS, DECOMPRESS, CompressWork, DecompressWork, Strings
from entropyd_server.coding.self_test import warm_up
from entropyd_server.kernels.range_coder import Status
from tests.support.coding_cases import tables_of
from tests.unit.server.coding.test_codec import specialisations

if TYPE_CHECKING:
    from entropyd_server.coding.codec import Codec
    from entropyd_server.coding.rows import Rows

Array = npt.NDArray[Any]

UNITS, SHAPE = 7, (40, 10)
SYMBOLS = 400
KINDS = ("universal", "indexed", "rans64", "power law")


def codec_and_rows(kind: str, dtype: str = "float32") -> tuple[Codec, Rows]:
    """A codec whose tables cover -2 to 1, and rows of UNITS units."""
    same: dict[str, Any] = {"model_id": "test", "coding_rank": 2, "bottleneck_dtype": dtype}
    if kind == "power law":
        gamma = PowerLawCodec(**same)
        return gamma, gamma.rows(SHAPE)
    precision = 16 if kind == "rans64" else 12
    top = 1 << precision
    tables = tables_of(precision, [([0, top // 8, top // 2, top - 300, top - 99, top], -2)] * 30)
    if kind == "universal":
        codec = UniversalBatchedCodec(tables=tables, prior_shape=(10,), num_noise_levels=3, **same)
        return codec, codec.rows(SHAPE[:1])
    coder = {"coder": Rans64Coder()} if kind == "rans64" else {}
    indexed = ContinuousIndexedCodec(tables=tables, index_ranges=(30,), **coder, **same)
    plane = np.random.default_rng(1).integers(0, 30, (UNITS, SYMBOLS)).astype(np.uint8)
    return indexed, indexed.rows_of(plane, SHAPE, np.arange(UNITS))


def values_of(symbols: Array, codec: Codec, rows: Rows) -> Array:
    offsets = rows.offsets if len(rows.offsets) else np.zeros(SYMBOLS)
    return (symbols + offsets.reshape(-1, SYMBOLS)).astype(codec.wire_dtype)


def drawn(reach: int) -> Array:
    """[UNITS, SYMBOLS], mostly within the tables; one symbol of the last unit is `reach`."""
    symbols = np.random.default_rng(0).integers(-4, 4, (UNITS, SYMBOLS))
    symbols[-1, 300] = reach
    return symbols


@pytest.mark.parametrize("reach", [127, -128, 128, -32768, 32768, 2**30 - 9])
@pytest.mark.parametrize("kind", KINDS)
def test_symbols_have_the_strings_of_their_values_and_come_back(kind: str, reach: int) -> None:
    codec, rows = codec_and_rows(kind, "float64")
    symbols = drawn(reach)
    encoded = codec.encode(values_of(symbols, codec, rows), rows)
    assert encoded.all_ok
    for dtype in SYMBOL_DTYPES:
        if np.iinfo(dtype).min <= symbols.min() and symbols.max() <= np.iinfo(dtype).max:
            same = codec.encode(symbols.astype(dtype), rows)
            assert same.payload == encoded.payload
            assert same.lengths.tolist() == encoded.lengths.tolist()
            assert same.escapes == encoded.escapes
    decoded = codec.decode(encoded.payload, encoded.lengths, rows, symbols=True)
    assert decoded.all_ok
    assert decoded.values.dtype == narrowest(symbols.astype(np.int32)).dtype
    np.testing.assert_array_equal(decoded.values, symbols)


@pytest.mark.parametrize("kind", KINDS)
def test_a_unit_that_fails_is_zero_and_no_other_notices(kind: str) -> None:
    codec, rows = codec_and_rows(kind)
    symbols = drawn(1000)
    encoded = codec.encode(symbols.astype(np.int16), rows)
    start = int(encoded.lengths[:2].sum())
    payload = bytearray(encoded.payload)
    payload[start : start + 12] = b"\xff\x00\x13" * 4
    decoded = codec.decode(payload, encoded.lengths, rows, symbols=True)
    values = codec.decode(payload, encoded.lengths, rows)
    assert decoded.statuses.tolist() == values.statuses.tolist()
    assert decoded.positions.tolist() == values.positions.tolist()
    assert decoded.statuses[2] != Status.OK
    assert not decoded.values[2].any()
    others = np.arange(UNITS) != 2
    np.testing.assert_array_equal(decoded.values[others], symbols[others])


@pytest.mark.parametrize("kind", KINDS)
def test_symbols_out_of_range_are_named_like_values(kind: str) -> None:
    codec, rows = codec_and_rows(kind)
    symbols = drawn(1)
    symbols[4, 3] = -(2**31)
    encoded = codec.encode(symbols.astype(np.int32), rows)
    with np.errstate(over="ignore"):
        values = codec.encode(values_of(symbols, codec, rows), rows)
    assert encoded.statuses.tolist() == values.statuses.tolist() == [0, 0, 0, 0, Status.OUT_OF_RANGE, 0, 0]
    assert encoded.positions.tolist() == values.positions.tolist() == [-1, -1, -1, -1, 3, -1, -1]
    assert codec.value_at(symbols.astype(np.int32), 4, 3) == -(2**31)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_of_both_wires_is_what_each_caller_would_have_alone(kind: str) -> None:
    codec, rows = codec_and_rows(kind)
    symbols = drawn(300)
    given = [symbols.astype(np.int16), values_of(symbols, codec, rows), symbols.astype(np.int32)]
    parts = [(CompressWork(codec, rows, one), 0, UNITS) for one in given]
    encoded = COMPRESS.run(parts)
    assert len({one.payload for one in encoded}) == 1
    strings = Strings(encoded[0].payload, encoded[0].lengths)
    works = [DecompressWork(codec, rows, strings, symbols=wanted) for wanted in (True, True, False, True)]
    decoded = DECOMPRESS.run([(work, 0, UNITS) for work in works])
    for work, one in zip(works, decoded, strict=True):
        alone = codec.decode(*work.strings, rows, symbols=work.symbols)
        np.testing.assert_array_equal(one.values, alone.values)
        assert one.values.dtype == alone.values.dtype
        assert one.all_ok


def test_no_type_of_symbol_makes_a_request_wait_for_compilation() -> None:
    warm_up()
    compiled = specialisations()
    for kind in KINDS:
        codec, rows = codec_and_rows(kind)
        for dtype in SYMBOL_DTYPES:
            encoded = codec.encode(drawn(5).astype(dtype), rows)
            codec.decode(encoded.payload, encoded.lengths, rows, symbols=True)
    assert specialisations() == compiled
