"""Hostile strings, planes of indexes and floats for the kernels, many at a time, compiled.

`python -m tests.fuzz.hostile --inputs N` is the long form. Each of `CHECKS` makes its inputs from a seed, and
raises where an input gets no answer or a wrong one.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from entropyd.contract.dtypes import widened
from entropyd.contract.errors import InvalidTensorError
from entropyd_server.coding.coders import RangeCoder, Rans64Coder
from entropyd_server.coding.kinds.continuous_indexed import ContinuousIndexedCodec
from entropyd_server.coding.kinds.power_law import PowerLawCodec
from entropyd_server.coding.kinds.universal_indexed import UniversalIndexedCodec
from entropyd_server.kernels.range_coder import Status
from tests.support import reference_gamma
from tests.support.coding_cases import tables_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from entropyd_server.coding.codec import Codec
    from entropyd_server.coding.indexed import IndexedCodec
    from entropyd_server.coding.rows import Rows

# Inputs of one seed.
UNITS = 23
_DTYPES = ("float16", "bfloat16", "float32", "float64")
_CORRUPT = {Status.TRUNCATED, Status.RUN_TOO_LONG, Status.GAMMA_TOO_LONG}
_UNCODABLE = {Status.NOT_FINITE, Status.OUT_OF_RANGE, Status.ZERO_PROBABILITY}


def _indexed(rng: np.random.Generator) -> IndexedCodec:
    """A codec of random legal tables, with empty intervals and long rows."""
    precision = int(rng.integers(1, 17))
    total, levels, count = 1 << precision, int(rng.integers(0, 3)), int(rng.integers(1, 5))
    rows = []
    for _ in range(count * max(levels, 1)):
        cuts = np.sort(rng.integers(0, total, rng.integers(0, 24))).tolist()
        if rng.random() < 0.1:
            cuts = [*range(1, min(total, 700))]
        rows.append(([0, *cuts, total], int(rng.integers(-(2**29), 2**29) if rng.random() < 0.2 else -9)))
    common: dict[str, Any] = {
        "model_id": "fuzz",
        "tables": tables_of(precision, rows),
        "index_ranges": (count,),
        "coding_rank": 1,
        "bottleneck_dtype": str(rng.choice(_DTYPES)),
        "coder": RangeCoder(decode_sanity_check=bool(rng.random() < 0.5)),
    }
    if levels:
        return UniversalIndexedCodec(num_noise_levels=levels, **common)
    return ContinuousIndexedCodec(**common)


def _chosen(rng: np.random.Generator, codec: IndexedCodec, symbols: int) -> Rows:
    plane = rng.integers(0, codec.index_rows, (UNITS, symbols)).astype(np.uint8)
    return codec.rows_of(plane, (symbols,), rng.integers(0, 50, UNITS))


def _hostile_strings(rng: np.random.Generator, good: list[bytes]) -> list[bytes]:
    """Any bytes, long runs of one byte, and good strings that were cut, lengthened or changed."""
    strings = []
    for string in good:
        kind = rng.integers(0, 5)
        changed = bytearray(string if kind > 1 else rng.bytes(rng.integers(0, 60)))
        if kind == 1:
            changed = bytearray(bytes([rng.choice([0, 255])]) * len(changed)) + changed[:4]
        elif kind == 2:
            changed = changed[: rng.integers(0, len(changed) + 1)]
        elif kind == 3:
            changed += rng.bytes(rng.integers(1, 9))
        for _ in range(rng.integers(0, 3) if changed else 0):
            changed[rng.integers(0, len(changed))] ^= int(rng.integers(0, 256))
        strings.append(bytes(changed))
    return strings


def _hostile_values(rng: np.random.Generator, codec: Codec, symbols: int) -> npt.NDArray[Any]:
    """Bit patterns as they come, and numbers of every magnitude."""
    bits = rng.bytes(UNITS * symbols * codec.wire_dtype.itemsize)
    values = np.frombuffer(bits, codec.wire_dtype).reshape(UNITS, symbols).copy()
    if codec.wire_dtype != np.uint16:
        tame = rng.random(values.shape) < 0.9
        magnitude = 10.0 ** rng.integers(-3, 5, values.shape)
        values[tame] = (rng.standard_normal(values.shape) * magnitude)[tame].astype(values.dtype)
    return values


def _split(payload: bytes, lengths: npt.NDArray[np.uint32]) -> list[bytes]:
    ends = np.cumsum(lengths, dtype=np.int64).tolist()
    return [payload[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _lengths(strings: list[bytes]) -> npt.NDArray[np.uint32]:
    return np.array([len(string) for string in strings], np.uint32)


def _decodes_like_alone(codec: Codec, rows: Rows, strings: list[bytes]) -> tuple[Any, list[int]]:
    """Values and statuses, after checking that each unit decodes as it does alone."""
    together = codec.decode(b"".join(strings), _lengths(strings), rows)
    for unit, string in enumerate(strings):
        alone = codec.decode(string, _lengths([string]), rows.of_units(unit, unit + 1))
        assert alone.statuses[0] == together.statuses[unit]
        assert alone.positions[0] == together.positions[unit]
        assert alone.values.tobytes() == together.values[unit].tobytes()
    return together.values, together.statuses.tolist()


def _encodes_to_what_decodes(codec: Codec, rows: Rows, values: npt.NDArray[Any]) -> list[bytes]:
    """Strings, after checking that those of units that are coded decode, to the rounded values."""
    encoded = codec.encode(values, rows)
    strings = _split(encoded.payload, encoded.lengths)
    decoded = codec.decode(encoded.payload, encoded.lengths, rows)
    for unit, status in enumerate(encoded.statuses.tolist()):
        if status == Status.OK:
            assert decoded.statuses[unit] == Status.OK
            if not len(rows.offsets):
                rounded = np.rint(widened(values[unit], codec.bottleneck_dtype))
                assert (widened(decoded.values[unit], codec.bottleneck_dtype) == rounded).all()
        else:
            assert status in _UNCODABLE
            assert not strings[unit]
            assert 0 <= encoded.positions[unit] < rows.symbols
    return strings


def indexed_strings(seed: int) -> None:
    """Hostile strings and floats of units with rows of their own."""
    rng = np.random.default_rng(seed)
    codec, symbols = _indexed(rng), int(rng.integers(0, 60))
    rows = _chosen(rng, codec, symbols)
    good = _encodes_to_what_decodes(codec, rows, _hostile_values(rng, codec, symbols))
    strings = _hostile_strings(rng, good)
    _, statuses = _decodes_like_alone(codec, rows, strings)
    allowed = {Status.OK, Status.ESCAPE_TOO_LONG}
    assert set(statuses) <= (allowed | {Status.NOT_AT_END} if codec.coder == RangeCoder() else allowed)


def gamma_strings(seed: int) -> None:
    """Hostile strings and floats of the code without tables."""
    rng = np.random.default_rng(seed)
    dtype, symbols = str(rng.choice(_DTYPES)), int(rng.integers(0, 40))
    codec = PowerLawCodec(model_id="fuzz", coding_rank=1, bottleneck_dtype=dtype)
    rows = codec.rows((symbols,))
    good = _encodes_to_what_decodes(codec, rows, _hostile_values(rng, codec, symbols))
    strings = _hostile_strings(rng, good)
    _, statuses = _decodes_like_alone(codec, rows, strings)
    exact = PowerLawCodec(model_id="fuzz", coding_rank=1, bottleneck_dtype="float64")
    decoded = exact.decode(b"".join(strings), _lengths(strings), rows)
    for string, status, values in zip(strings, statuses, decoded.values, strict=True):
        try:
            assert reference_gamma.decode(string, symbols) == values.tolist()
            assert status == Status.OK
        except reference_gamma.CorruptError:
            assert status in _CORRUPT


def planes(seed: int) -> None:
    """Planes of indexes of every dtype, with and without what is no row."""
    rng = np.random.default_rng(seed)
    codec, symbols = _indexed(rng), int(rng.integers(0, 9))
    for _ in range(UNITS):
        dtype = np.dtype(rng.choice(["u1", "u2", "i4"]))
        plane = rng.integers(0, codec.index_rows, (rng.integers(0, 4), symbols)).astype(dtype)
        if plane.size and rng.random() < 0.7:
            place = tuple(rng.integers(0, plane.shape))
            plane[place] = rng.integers(np.iinfo(dtype).min, int(np.iinfo(dtype).max) + 1)
        outside = (plane < 0) | (plane >= codec.index_rows)
        refused = ""
        try:
            rows = codec.rows_of(plane, (symbols,), np.arange(len(plane)))
            assert ((rows.row_index >= 0) & (rows.row_index < len(codec.tables.rows))).all()
        except InvalidTensorError as error:
            refused = str(error)
        if outside.any():
            unit, symbol = np.argwhere(outside)[0].tolist()
            assert f"coding unit {unit}, element ({symbol},): {plane[unit, symbol]} is no row" in refused
        else:
            assert not refused


def rans_strings(seed: int) -> None:
    """Strings of rANS: each is refused, or is what its symbols encode to."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(rng.integers(1, 4)):
        cuts = np.sort(rng.choice(2**16 - 1, rng.integers(0, 30), replace=False) + 1).tolist()
        rows.append(([0, *cuts, 2**16], int(rng.integers(-9, 9))))
    codec = ContinuousIndexedCodec(
        model_id="fuzz",
        tables=tables_of(16, rows),
        index_ranges=(len(rows),),
        coding_rank=1,
        bottleneck_dtype="float64",
        coder=Rans64Coder(),
    )
    symbols = int(rng.integers(0, 40))
    chosen = _chosen(rng, codec, symbols)
    values = np.rint(rng.normal(0, 10.0 ** rng.integers(0, 8), (UNITS, symbols)))
    encoded = codec.encode(values, chosen)
    assert encoded.all_ok
    ends = np.cumsum(encoded.lengths, dtype=np.int64).tolist()
    good = [encoded.payload[end - length : end] for end, length in zip(ends, encoded.lengths, strict=True)]
    strings = _hostile_strings(rng, good)
    lengths = np.array([len(string) for string in strings], np.uint32)
    decoded = codec.decode(b"".join(strings), lengths, chosen)
    ok = decoded.statuses == Status.OK
    again = codec.encode(np.where(ok[:, None], decoded.values, 0), chosen)
    ends = np.cumsum(again.lengths, dtype=np.int64).tolist()
    for unit, (end, length) in enumerate(zip(ends, again.lengths.tolist(), strict=True)):
        if ok[unit]:
            assert again.payload[end - length : end] == strings[unit]


CHECKS: dict[str, Callable[[int], None]] = {
    "indexed strings": indexed_strings,
    "gamma strings": gamma_strings,
    "planes": planes,
    "rans strings": rans_strings,
}


def main() -> None:
    """Checks as many inputs as are asked for, the same ones in every run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=100_000, help="in all, a quarter of each kind")
    rounds = -(-parser.parse_args().inputs // (UNITS * len(CHECKS)))
    for name, check in CHECKS.items():
        started = time.monotonic()
        for seed in range(rounds):
            try:
                check(seed)
            except Exception as error:
                error.add_note(f"in {name}, seed {seed}")
                raise
        seconds = time.monotonic() - started
        sys.stdout.write(f"{name}: {rounds * UNITS} inputs in {seconds:.0f} s, no wrong answer\n")


if __name__ == "__main__":
    main()
