"""Writes the golden corpus: `python -m tests.golden.write`. Nothing else ever does, and no test imports it.

Invariant: a file is written only if TensorFlow Compression (or, for what TFC cannot code, the reference
coder) made its strings and the kernels agree.
"""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import tensorflow as tf
import tensorflow_compression as tfc

from entropyd_server.coding.kinds.universal_batched import UniversalBatchedCodec
from entropyd_server.coding.tables import CodingTables
from tests.support import reference_coder

FOLDER = Path(__file__).parent


def text(array: Any) -> str:
    """Base64 of an array's little-endian bytes."""
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def case(
    name: str, about: str, tables: CodingTables, values: Any, strings: list[bytes] | None, **config: Any
) -> None:
    """Checks one case in all coders that can code it, and writes its file."""
    codec = UniversalBatchedCodec(model_id=name, tables=tables, **config)
    units, prior_rank = values.shape[0], len(codec.prior_shape)
    broadcast_shape = values.shape[1 : values.ndim - prior_rank]
    unit_rows = codec.rows(broadcast_shape)
    encoded = codec.encode(values.reshape(units, -1).view(codec.wire_dtype), unit_rows)
    decoded = codec.decode(encoded.payload, encoded.lengths, unit_rows)
    assert not encoded.statuses.any()
    assert not decoded.statuses.any()

    heads = np.flatnonzero(codec.tables.cdf < 0)
    rows = [
        (row[1:].tolist(), int(offset))
        for row, offset in zip(np.split(codec.tables.cdf, heads[1:]), codec.tables.cdf_offset, strict=True)
    ]
    wide = np.asarray(values, np.float64 if config["bottleneck_dtype"] == "float64" else np.float32)
    integers = np.rint(wide.reshape(units, -1) - unit_rows.offsets).astype(np.int64)
    coding_rows = [rows[index] for index in unit_rows.row_index]
    reference = [
        reference_coder.encode(unit, coding_rows, codec.tables.precision) for unit in integers.tolist()
    ]
    assert b"".join(reference) == encoded.payload
    assert strings is None or strings == reference

    document = {
        "about": about,
        "config": {**config, "prior_shape": list(codec.prior_shape)},
        "made_by": "the reference coder" if strings is None else "tensorflow-compression 2.14.1",
        "cdf": codec.tables.cdf.tolist(),
        "cdf_offset": codec.tables.cdf_offset.tolist(),
        "tables_digest": codec.tables.digest.hex(),
        "batch_shape": [units],
        "broadcast_shape": list(broadcast_shape),
        "noise_levels": (unit_rows.row_index // max(1, math.prod(codec.prior_shape))).tolist(),
        "values_base64": text(values),
        "strings_hex": [string.hex() for string in reference],
        "restored_base64": text(decoded.values),
    }
    (FOLDER / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")


def universal(
    name: str, prior: Any, dtype: str, shape: tuple[int, ...], spread: float, **arguments: Any
) -> None:
    """A model that TFC builds and codes with."""
    model = tfc.UniversalBatchedEntropyModel(
        prior, len(shape) - 1, compression=True, bottleneck_dtype=getattr(tf, dtype), **arguments
    )
    values = (np.random.default_rng(1).standard_cauchy(shape) * spread).astype(dtype)
    config = {
        "prior_shape": tuple(prior.batch_shape),
        "coding_rank": len(shape) - 1,
        "num_noise_levels": arguments.get("num_noise_levels", 15),
    }
    tables = CodingTables.parse(model.cdf.numpy(), model.cdf_offset.numpy())
    about = f"{type(prior).__name__}, tables built by TFC, Cauchy values with escapes"
    strings = list(model.compress(values).numpy())
    case(name, about, tables, values, strings, bottleneck_dtype=dtype, **config)
    if name != "noisy_normal_float32":
        return
    for narrow, narrow_type in (("float16", np.float16), ("bfloat16", ml_dtypes.bfloat16)):
        narrow_values = values.astype(narrow_type)
        about = f"the tables of {name}, a dtype that TFC cannot code; values are bit patterns of {narrow}"
        case(f"noisy_normal_{narrow}", about, tables, narrow_values, None, bottleneck_dtype=narrow, **config)


def by_hand(
    name: str, about: str, precision: int, rows: list[tuple[list[int], int]], integers: list[list[int]]
) -> None:
    """Rows and integers that show one thing; a single noise level, so that every offset is 0."""
    cdf = [value for cumulative, _ in rows for value in [-precision, *cumulative]]
    values = np.array(integers, np.float64).reshape(len(integers), -1, len(rows))
    case(
        name,
        about,
        CodingTables.parse(cdf, [offset for _, offset in rows]),
        values,
        None,
        prior_shape=(len(rows),),
        coding_rank=2,
        bottleneck_dtype="float64",
        num_noise_levels=1,
    )


def near_carry(words: int) -> list[int]:
    """Symbols of a uniform row whose interval stays across a carry for `words` words."""
    uniform = [*range(17)]
    decoder = reference_coder.Decoder(b"\x12\x33" + b"\xff\xff" * words + b"\x80" * 8)
    symbols = []
    while decoder.state.words < words + 1:
        symbols.append(decoder.integer((uniform, 0), 4))
    return symbols


def main() -> None:
    """Writes every file."""
    normal = tfc.NoisyNormal(loc=tf.constant([0.0, 0.4, -1.0]), scale=tf.constant([0.2, 1.0, 5.0]))
    universal("noisy_normal_float32", normal, "float32", (5, 4, 6, 3), 2.0)
    normal64 = tfc.NoisyNormal(loc=tf.constant(0.3, tf.float64), scale=tf.constant(3.0, tf.float64))
    precise = {"num_noise_levels": 7, "range_coder_precision": 16}
    universal("noisy_normal_float64_precision16", normal64, "float64", (2, 50), 4.0, **precise)
    tf.random.set_seed(1)
    universal(
        "deep_factorized_float32", tfc.NoisyDeepFactorized(batch_shape=(2,)), "float32", (1, 20, 2), 6.0
    )
    last = 2**30 - 1
    powers = [sign * (1 << bits) for bits in range(30) for sign in (-1, 1)] + [-last, last + 1, 1, 0]
    by_hand("escapes", "escapes of every magnitude, to the last", 12, [([0, 4000, 4090, 4096], 0)], [powers])
    by_hand("one_interval", "rows of the escape alone, precision 1", 1, [([0, 2], 0)], [[0, 1, -1, 12345]])
    by_hand("no_symbols", "coding units without symbols", 8, [([0, 128, 256], 0)], [[], []])
    sparse = [([0, 0, 7, 7, 7, 16], -2), ([0, 3, 3, 16], 5)]
    by_hand(
        "empty_intervals", "probability 0 between symbols that are coded", 4, sparse, [[-1, 5, 2, 7] * 9] * 4
    )
    chains = [
        [*near_carry(words), *tail, *[0] * 80][:80]
        for words in (1, 2, 7, 15)
        for tail in ([], [0] * 9, [14] * 9, [14, 0, 14])
    ]
    chains.append([7] * 80)
    by_hand("carries", "carries that run through many words", 4, [([*range(17)], 0)], chains)


if __name__ == "__main__":
    main()
