"""The rANS kernels against CompressAI's `ans` extension, on the same tables and symbols, in one process.

    python -m benchmarks.rans [--rounds 5] [--seconds 1]

One coding unit of 48x32x192 with an index of 64 scales for each element. The extension takes and returns
lists of integers, which are made beforehand and not timed; entropyd takes and returns symbols as int16, and
checks the rows. Both take turns; ratios are medians of those within a round. The strings must be the same.
The section of docs/performance.md between the `rans` marks is rewritten.
"""

from __future__ import annotations

import argparse
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
from tests.support import compressai_extensions

from benchmarks.coder_cases import IndexedCase
from benchmarks.coder_peers import median_seconds
from benchmarks.machine import machine
from benchmarks.page import PERFORMANCE, rewrite
from entropyd_server.coding.coders import Rans64Coder
from entropyd_server.coding.kinds.continuous_indexed import ContinuousIndexedCodec
from entropyd_server.coding.tables import CodingTables

if TYPE_CHECKING:
    from collections.abc import Callable

MUST = {"encode": 6, "decode": 4}
_PRECISION = 16


def main() -> None:
    """Measures, prints the table and rewrites the page."""
    arguments = argparse.ArgumentParser(description="the rANS kernels against CompressAI's extension")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seconds", type=float, default=1.0, help="length of one measurement")
    arguments.add_argument("--no-page", action="store_true", help="leave docs/performance.md as it is")
    options = arguments.parse_args()
    case = IndexedCase(1, 48, 32, precision=_PRECISION)
    calls = _calls(case)
    rows = [
        f"Machine: {machine('numba')}, CompressAI {compressai_extensions.VERSION}.",
        "",
        "| one unit, 48x32x192, 64 scales | entropyd M/s | ans M/s | ratio (must) |",
        "|---|---|---|---|",
    ]
    for operation, must in MUST.items():
        found = [
            [median_seconds(call, options.seconds)[0] for call in calls[operation]]
            for _ in range(options.rounds)
        ]
        ours, theirs = (case.symbols / 1e6 / median(one[place] for one in found) for place in (0, 1))
        ratio = median(b / a for a, b in found)
        rows.append(f"| {operation} | {ours:.0f} | {theirs:.0f} | {ratio:.1f} ({must}) |")
    text = "\n".join(rows)
    print(text)
    if not options.no_page:
        rewrite(PERFORMANCE, "rans", text)


def _calls(case: IndexedCase) -> dict[str, tuple[Callable[[], object], Callable[[], object]]]:
    """What encodes and decodes: ours and CompressAI's."""
    cdf, cdf_offset = case.tables(_PRECISION)
    tables = CodingTables.parse(cdf, cdf_offset)
    codec = ContinuousIndexedCodec(
        model_id="benchmark",
        tables=tables,
        coder=Rans64Coder(),
        coding_rank=3,
        bottleneck_dtype="float32",
        index_ranges=(case.scales,),
    )
    plane, number = case.indexes.reshape(1, -1), np.zeros(1, np.int64)
    symbols = np.rint(case.values).astype(np.int16).reshape(1, -1)
    encoded = codec.encode(symbols, codec.rows_of(plane, case.unit_shape, number))

    heads = np.flatnonzero(cdf < 0)
    their_rows = [row[1:].tolist() for row in np.split(cdf, heads[1:])]
    sizes = [len(row) for row in their_rows]
    padded = [row + [0] * (max(sizes) - len(row)) for row in their_rows]
    extension = compressai_extensions.load("ans")
    lists = symbols[0].tolist(), plane[0].tolist()
    theirs = padded, sizes, cdf_offset.tolist()
    string = extension.RansEncoder().encode_with_indexes(*lists, *theirs)
    if string != encoded.payload:
        raise AssertionError("the extension writes another string")
    return {
        "encode": (
            lambda: codec.encode(symbols, codec.rows_of(plane, case.unit_shape, number)),
            lambda: extension.RansEncoder().encode_with_indexes(*lists, *theirs),
        ),
        "decode": (
            lambda: codec.decode(
                encoded.payload, encoded.lengths, codec.rows_of(plane, case.unit_shape, number), symbols=True
            ),
            lambda: extension.RansDecoder().decode_with_indexes(string, lists[1], *theirs),
        ),
    }


if __name__ == "__main__":
    main()
