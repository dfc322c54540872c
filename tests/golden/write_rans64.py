"""Writes the golden strings of the rANS code: `python -m tests.golden.write_rans64`. No test imports it.

Invariant: the file is written only if CompressAI's extension made its strings and the kernels agree.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.support import compressai_extensions
from tests.support.coding_cases import tables_of
from tests.support.rans_cases import decode_rans, encode_rans

ROWS = {
    # On a row of the escape alone the extension crashes.
    "narrow and wide": [([0, 60000, 65000, 65536], -1), ([*range(0, 65536, 16), 65536], -2000)],
    "a likely interval": [([0, 1, 65534, 65535, 65536], -1)],
}


def main() -> None:
    """Writes the file."""
    rng = np.random.default_rng(0)
    extension = compressai_extensions.load("ans")
    documents = []
    for about, rows in ROWS.items():
        row_index = rng.integers(0, len(rows), 200).tolist()
        units = []
        for reach in (1, 30, 2**12, 2**27):
            away = rng.integers(-reach, reach + 1, 200)
            units.append((np.array([rows[row][1] for row in row_index]) + away).tolist())
        widest = max(len(cumulative) for cumulative, _ in rows)
        padded = [cumulative + [0] * (widest - len(cumulative)) for cumulative, _ in rows]
        lists = row_index, padded, [len(cumulative) for cumulative, _ in rows], [offset for _, offset in rows]
        strings = [extension.RansEncoder().encode_with_indexes(unit, *lists) for unit in units]
        tables = tables_of(16, rows)
        assert encode_rans(tables, row_index, units)[0] == strings
        assert decode_rans(tables, row_index, strings)[0] == units
        documents.append(
            {
                "about": about,
                "made_by": f"compressai {compressai_extensions.VERSION}",
                "rows": rows,
                "row_index": row_index,
                "units": units,
                "strings_hex": [string.hex() for string in strings],
            }
        )
    text = json.dumps(documents) + "\n"
    (Path(__file__).with_name("rans64") / "strings.json").write_text(text)


if __name__ == "__main__":
    main()
