"""The start-up self-test: this machine codes known units as every other one does.

Invariant: the constants never change. `tests/unit/server/coding/test_self_test.py` derives the strings from
the reference coder; the files in tests/golden come from TFC itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from entropyd_server.coding.kinds.universal_batched import UniversalBatchedCodec
from entropyd_server.coding.rows import Rows
from entropyd_server.coding.tables import CodingTables
from entropyd_server.kernels.jit import kernel_input

PRECISION = 8
NUM_NOISE_LEVELS = 3
PRIOR_SHAPE = (2,)
BROADCAST_SHAPE = (6,)
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
# Fifteen units are decoded in groups of eight, four and three.
_COPIES = 3


def warm_up() -> None:
    """Compiles or loads every kernel, so that no request waits for it, and codes the known units.

    Raises:
      RuntimeError: Names all that differs; this machine must not serve.
    """
    differences = [
        f"{dtype} {difference}" for dtype in ("float32", "float64") for difference in _differences(dtype)
    ]
    if differences:
        raise RuntimeError(f"this machine does not code as it must: {'; '.join(differences)}")


def _codec(bottleneck_dtype: str, tables: CodingTables) -> UniversalBatchedCodec:
    return UniversalBatchedCodec(
        model_id="self-test",
        tables=tables,
        prior_shape=PRIOR_SHAPE,
        coding_rank=len(BROADCAST_SHAPE) + len(PRIOR_SHAPE),
        bottleneck_dtype=bottleneck_dtype,
        num_noise_levels=NUM_NOISE_LEVELS,
        decode_sanity_check=True,
    )


def _differences(bottleneck_dtype: str) -> Iterator[str]:
    tables = CodingTables.parse([value for row in ROWS for value in (-PRECISION, *row)], CDF_OFFSET)
    codec = _codec(bottleneck_dtype, tables)
    if (digest := codec.tables.digest.hex()) != TABLES_DIGEST:
        yield f"tables have digest {digest}; expected {TABLES_DIGEST}"
    rows = codec.rows(BROADCAST_SHAPE)
    if (row_index := tuple(rows.row_index.tolist())) != ROW_INDEX:
        yield f"dither gives rows {row_index}; expected {ROW_INDEX}"
        return
    expected = np.array(INTEGERS).astype(codec.wire_dtype) + rows.offsets
    encoded = codec.encode(expected, rows)
    payload = bytes.fromhex("".join(STRINGS))
    if encoded.payload != payload:
        yield f"units encode to {encoded.payload.hex()}; expected {payload.hex()}"
    own = Rows.join([replace(rows, unit_stride=rows.symbols)] * (_COPIES * len(STRINGS)))
    lengths = np.array([len(string) // 2 for string in STRINGS], np.uint32)
    # Kernels are compiled for hints of either width; rows of more than 256 intervals need the larger.
    wide = replace(tables, hints=kernel_input(tables.hints.astype(np.uint16)))
    for each in (codec, _codec(bottleneck_dtype, wide)):
        for together in (rows, own):
            decoded = each.decode(payload * _COPIES, np.tile(lengths, _COPIES), together)
            if not np.array_equal(decoded.values, np.tile(expected, (_COPIES, 1))):
                yield f"units decode to {decoded.values.tolist()}; expected {expected.tolist()} repeatedly"
        alone = each.decode(payload[: int(lengths[0])], lengths[:1], rows)
        if not np.array_equal(alone.values, expected[:1]):
            yield f"a unit alone decodes to {alone.values.tolist()}; expected {expected[:1].tolist()}"
