"""The start-up self-test: this machine codes known units as every other one does.

Invariant: the constants never change. `tests/unit/server/coding/test_self_test.py` derives the strings from
the reference coder; the files in tests/golden come from TFC itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from enum import Enum
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from entropyd_server.coding.codec import Codec
from entropyd_server.coding.coders import Rans64Coder
from entropyd_server.coding.kinds.continuous_indexed import ContinuousIndexedCodec
from entropyd_server.coding.kinds.power_law import PowerLawCodec
from entropyd_server.coding.kinds.universal_batched import UniversalBatchedCodec
from entropyd_server.coding.kinds.universal_indexed import UniversalIndexedCodec
from entropyd_server.coding.rows import Rows
from entropyd_server.coding.table_codec import TableCodec
from entropyd_server.coding.tables import SMALL_INTERVALS, CodingTables
from entropyd_server.kernels.jit import kernel_input

PRECISION = 8
NUM_NOISE_LEVELS = 3
PRIOR_SHAPE = (2,)
BROADCAST_SHAPE = (6,)
UNIT_SHAPE = (*BROADCAST_SHAPE, *PRIOR_SHAPE)
# Noise level major: narrow and wide channel of level 0, then of level 1 and of level 2.
ROWS = (
    (0, 40, 200, 246, 256),
    (0, 3, 21, 90, 170, 236, 250, 256),
    (0, 30, 190, 245, 256),
    (0, 2, 19, 88, 168, 235, 251, 256),
    (0, 50, 210, 248, 256),
    (0, 4, 22, 93, 171, 237, 249, 256),
)
CDF_OFFSET = (-1, -3, -1, -3, -1, -3)
TABLES_DIGEST = "f0468a6f989dbc53051997bab7b7daa227c67231c58ace44d1b743f592962089"
ROW_INDEX = (4, 3, 4, 1, 2, 3, 2, 3, 2, 3, 2, 5)
# Quantized values of five units, with escapes in the second and the last.
INTEGERS = (
    (0, 1, 0, -1, -1, 0, 0, -2, -1, 3, 0, -1),
    (0, 2, 1, 1000, 0, 0, 0, -2, -77, -1, 1, -2),
    (0, 1, 0, 1, 1, -2, 0, -3, 0, 0, 0, -1),
    (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    (-1048575, 2, -1, 1, 0, 2, 0, 2, 0, -1, 0, 4),
)
STRINGS = ("a5a47f2b", "ce871c5741d160ef3e", "b996d1", "81c7", "f80000ffffef6d3b4483")
# The same units in the run-length gamma code.
GAMMA_STRINGS = ("5ad6d42d01", "aa0f207a42019b3e01", "5a3f8989", "58", "0100e0ffff57af524925")
# The same units in the rANS code, with tables of precision 16.
RANS64_STRINGS = (
    "006179e3f067b21c",
    "a343e38e651baa0972764abf",
    "009334df8bbb7a00",
    "00b7832a16240000",
    "cafeb94f04000000b6ffff912105ea13",
)
# Fifteen units are decoded in groups of eight, four and three.
_COPIES = 3


class Part(Enum):
    """Parts of the self-test, whose kernels take about equally long to compile."""

    RANGE_DECODING = "range_decoding"
    OTHERS = "others"


def warm_up(parts: Collection[Part] = tuple(Part)) -> None:
    """Compiles or loads every kernel, so that no request waits for it, and codes the known units.

    Raises:
      RuntimeError: Names all that differs; this machine must not serve.
    """
    differences = [
        f"{dtype} {difference}"
        for dtype in ("float32", "float64")
        for difference in _differences(dtype, parts)
    ]
    if differences:
        raise RuntimeError(f"this machine does not code as it must: {'; '.join(differences)}")


def _differences(bottleneck_dtype: str, parts: Collection[Part]) -> Iterator[str]:
    tables = CodingTables.parse([value for row in ROWS for value in (-PRECISION, *row)], CDF_OFFSET)
    if (digest := tables.digest.hex()) != TABLES_DIGEST:
        yield f"tables have digest {digest}; expected {TABLES_DIGEST}"
    # Kernels are compiled for hints of either width, as rows of more than 256 intervals need the larger, and
    # tables of many intervals have a kernel of their own.
    wide = kernel_input(tables.hints.astype(np.uint16))
    many = kernel_input(np.resize(tables.intervals, SMALL_INTERVALS + 1))
    for hints, intervals in product((tables.hints, wide), (tables.intervals, many)):
        for codec, rows in _range_codecs(bottleneck_dtype, replace(tables, hints=hints, intervals=intervals)):
            if (row_index := tuple(rows.row_index[: len(ROW_INDEX)].tolist())) != ROW_INDEX:
                yield f"dither gives rows {row_index}; expected {ROW_INDEX}"
                return
            if Part.OTHERS in parts:
                yield from _encoding_differences(codec, rows, STRINGS)
            if Part.RANGE_DECODING in parts:
                yield from _decoding_differences(codec, rows, STRINGS)
    if Part.OTHERS not in parts:
        return
    scaled = [value for row in ROWS for value in (-16, *(edge << 16 - PRECISION for edge in row))]
    rans64 = ContinuousIndexedCodec(
        model_id="self-test",
        tables=CodingTables.parse(scaled, CDF_OFFSET),
        coder=Rans64Coder(),
        coding_rank=len(UNIT_SHAPE),
        bottleneck_dtype=bottleneck_dtype,
        index_ranges=(len(ROWS),),
    )
    by_index = _rows_by_index(rans64, np.uint8)
    yield from _encoding_differences(rans64, by_index, RANS64_STRINGS)
    yield from _decoding_differences(rans64, by_index, RANS64_STRINGS)
    gamma = PowerLawCodec(
        model_id="self-test", coding_rank=len(UNIT_SHAPE), bottleneck_dtype=bottleneck_dtype
    )
    by_shape = gamma.rows(UNIT_SHAPE)
    yield from _encoding_differences(gamma, by_shape, GAMMA_STRINGS)
    yield from _decoding_differences(gamma, by_shape, GAMMA_STRINGS)


def _range_codecs(bottleneck_dtype: str, tables: CodingTables) -> Iterator[tuple[TableCodec, Rows]]:
    """Codecs of three kinds with which the units have the same strings, with rows that units share or own."""
    common: dict[str, Any] = {
        "model_id": "self-test",
        "tables": tables,
        "coding_rank": len(UNIT_SHAPE),
        "bottleneck_dtype": bottleneck_dtype,
    }
    batched = UniversalBatchedCodec(prior_shape=PRIOR_SHAPE, num_noise_levels=NUM_NOISE_LEVELS, **common)
    yield batched, batched.rows(BROADCAST_SHAPE)
    units = _COPIES * len(STRINGS)
    dithered = UniversalIndexedCodec(index_ranges=PRIOR_SHAPE, num_noise_levels=NUM_NOISE_LEVELS, **common)
    channels = np.tile(np.arange(*PRIOR_SHAPE, dtype=np.uint8), (units, *BROADCAST_SHAPE))
    yield dithered, dithered.rows_of(channels, UNIT_SHAPE, np.zeros(units, np.int64))
    indexed = ContinuousIndexedCodec(index_ranges=(len(ROWS),), **common)
    for dtype in (np.uint8, np.uint16, np.int32):
        yield indexed, _rows_by_index(indexed, dtype)


def _rows_by_index(codec: ContinuousIndexedCodec, dtype: npt.DTypeLike) -> Rows:
    """The rows of all units, by indexes of a dtype."""
    units = _COPIES * len(STRINGS)
    plane = np.tile(np.array(ROW_INDEX, dtype), (units, 1))
    return codec.rows_of(plane, UNIT_SHAPE, np.zeros(units, np.int64))


def _known_values(codec: Codec, rows: Rows) -> npt.NDArray[Any]:
    """The values of all units: [units, symbols]."""
    offsets = rows.offsets[: rows.symbols] if len(rows.offsets) else np.zeros(rows.symbols, codec.wire_dtype)
    return np.tile(np.array(INTEGERS).astype(codec.wire_dtype) + offsets, (_COPIES, 1))


def _encoding_differences(codec: Codec, rows: Rows, strings: Sequence[str]) -> Iterator[str]:
    payload = bytes.fromhex("".join(strings) * _COPIES)
    encoded = codec.encode(_known_values(codec, rows), rows)
    if encoded.payload != payload:
        yield f"units encode to {encoded.payload.hex()}; expected {payload.hex()}"
    rows.modelled_bits  # noqa: B018 - compiles the kernel that adds it up


def _decoding_differences(codec: Codec, rows: Rows, strings: Sequence[str]) -> Iterator[str]:
    expected, payload = _known_values(codec, rows), bytes.fromhex("".join(strings) * _COPIES)
    lengths = np.tile(np.array([len(string) // 2 for string in strings], np.uint32), _COPIES)
    decoded = codec.decode(payload, lengths, rows)
    if not np.array_equal(decoded.values, expected):
        yield f"units decode to {decoded.values.tolist()}; expected {expected.tolist()}"
    alone = codec.decode(payload[: int(lengths[0])], lengths[:1], rows.of_units(0, 1))
    if not np.array_equal(alone.values, expected[:1]):
        yield f"a unit alone decodes to {alone.values.tolist()}; expected {expected[:1].tolist()}"
