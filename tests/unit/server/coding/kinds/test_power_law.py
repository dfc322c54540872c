"""Laws of the codec without tables; strings are compared with TFC's in `test_tfc_equality`."""

from __future__ import annotations

import numpy as np
import pytest

import entropyd
from entropyd.contract.errors import InvalidTensorError
from entropyd_server.coding.kinds import codec_of
from entropyd_server.coding.kinds.power_law import PowerLawCodec
from entropyd_server.coding.operations import DECOMPRESS, DecompressWork, Strings
from entropyd_server.kernels.range_coder import Status
from tests.support import reference_gamma


def power_law(coding_rank: int = 2, dtype: str = "float32") -> PowerLawCodec:
    codec = codec_of(entropyd.PowerLawConfig(coding_rank=coding_rank, bottleneck_dtype=dtype), None)
    assert isinstance(codec, PowerLawCodec)
    return codec


def test_it_has_no_tables() -> None:
    codec = power_law()
    assert (codec.unit_axes, codec.index_rows, codec.numbers_units) == ((), None, False)
    assert (codec.tables_digest, codec.nbytes) == (b"", 0)
    rows = codec.rows((2, 3))
    assert codec.cached_rows((2, 3)) is rows
    assert np.isnan(rows.modelled_bits)
    assert (rows.symbols, rows.element(4)) == (6, (1, 1))
    with pytest.raises(InvalidTensorError, match="broadcast_shape"):
        codec.rows((2,))


@pytest.mark.parametrize("units", range(4))
@pytest.mark.parametrize("shape", [(0, 3), (2, 3), (1, 1)])
def test_batches_and_units_of_any_size_are_restored(units: int, shape: tuple[int, int]) -> None:
    codec = power_law()
    rows = codec.rows(shape)
    values = np.arange(units * rows.symbols, dtype=np.float32).reshape(units, rows.symbols) - 3
    encoded = codec.encode(values, rows)
    assert encoded.payload == b"".join(map(reference_gamma.encode, values.astype(int).tolist()))
    assert codec.decode(encoded.payload, encoded.lengths, rows).values.tolist() == values.tolist()


def test_many_large_units_take_several_payloads() -> None:
    codec = power_law(1)
    rows = codec.rows((1 << 20,))
    values = np.zeros((5, 1 << 20), np.float32)
    values[:, ::1000] = np.arange(5)[:, None] - 2
    encoded = codec.encode(values, rows)
    assert [
        len(reference_gamma.encode(unit)) for unit in values.astype(int).tolist()
    ] == encoded.lengths.tolist()
    np.testing.assert_array_equal(codec.decode(encoded.payload, encoded.lengths, rows).values, values)


def test_errors_name_unit_element_and_value() -> None:
    codec = power_law()
    rows = codec.rows((2, 3))
    values = np.zeros((3, 6), np.float32)
    values[0, 4], values[1, 5] = np.nan, -(2.0**31)
    encoded = codec.encode(values, rows)
    assert encoded.statuses.tolist() == [Status.NOT_FINITE, Status.OUT_OF_RANGE, Status.OK]
    messages = [
        codec.error_at(
            rows,
            unit=unit,
            status=int(encoded.statuses[unit]),
            position=int(encoded.positions[unit]),
            value=codec.value_at(values, unit, int(encoded.positions[unit])),
        )
        for unit in range(2)
    ]
    assert messages == [
        "coding unit 0, element (1, 1): NaN cannot be coded",
        "coding unit 1, element (1, 2): -2147483648.0 is 2^31 or more in magnitude",
    ]
    corrupt = (Status.TRUNCATED, Status.RUN_TOO_LONG, Status.GAMMA_TOO_LONG)
    assert [codec.error_at(rows, unit=0, status=status, position=1) for status in corrupt] == [
        f"coding unit 0, element (0, 1): the bit string {what}"
        for what in (
            "ends before the coding unit does",
            "has more zeros than the coding unit has elements left",
            "has a number of more than 31 bits, which no encoder writes",
        )
    ]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_strings_of_several_callers_decode_as_each_caller_s_alone(dtype: str) -> None:
    codec = power_law(1, dtype)
    rows = codec.rows((4,))
    strings = [reference_gamma.encode(unit) for unit in ([1, 0, 0, 7], [0, 0, 0, 0], [3, 1, -2, 9])] + [
        b"",
        b"\xff",
    ]
    lengths = np.array([len(string) for string in strings], np.uint32)
    work = DecompressWork(codec, rows, Strings(b"".join(strings), lengths))
    together = DECOMPRESS.run([(work, 0, 2), (work, 2, 5)])
    assert [part.statuses.tolist() for part in together] == [[0, 0], [0, Status.TRUNCATED, Status.TRUNCATED]]
    for part, (start, stop) in zip(together, ((0, 2), (2, 5)), strict=True):
        alone = codec.decode(*work.strings.of_units(start, stop), rows)
        assert part.values.tobytes() == alone.values.tobytes()


def test_lengths_that_do_not_add_up_are_refused() -> None:
    codec = power_law()
    with pytest.raises(ValueError, match="lengths add up to 3 bytes, payload has 2"):
        codec.decode(b"ab", np.array([1, 2], np.uint32), codec.rows((2, 3)))
    with pytest.raises(ValueError, match="units have 5 symbols, the rows have 6"):
        codec.encode(np.zeros((1, 5), np.float32), codec.rows((2, 3)))
