"""What must hold for every input. A target takes any bytes and returns; anything it raises is a bug.

- decode: any bit strings under any legal tables end, each in its symbols or in a status. Each unit ends as it
  does alone. What decodes with the decode sanity check encodes to a string that decodes to the same symbols.
- encode: any floats end, each unit in a string or in a status. A string decodes to the rounded floats.
- rans64: any bit strings under any legal tables end, each in its symbols or in a status. What decodes encodes
  to the same string.
- indexed: any planes of indexes are rows of their model, or an EntropydError. Under them strings end as those
  of `decode` do.
- wire: any message is a call that fits its codec, or an EntropydError; its strings end.
- archive: any file, whole or recovered, gives units that can be listed and exact elements inside its array,
  or an EntropydError; what verification calls good can be read. So does each part of any bundle.
- model: any object is a model that is rendered as what was parsed, or is refused.

Ending within the bound (61 steps per symbol) is what the time limit of the test and of the fuzzer stand for.
"""

from __future__ import annotations

import contextlib
import struct
import tempfile
from functools import cache
from itertools import accumulate
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np
from google.protobuf.message import DecodeError

from entropyd.archive import Archive, Bundle, CompressedBundle, CompressedTensor, VerifiedUnits
from entropyd.archive.chunk_headers import BlockHeader
from entropyd.archive.layout import LayoutError
from entropyd.archive.source import BytesSource
from entropyd.archive.structure import is_bundle
from entropyd.archive.verification import verify_source
from entropyd.contract.errors import EntropydError, InvalidTensorError, LimitExceededError
from entropyd.contract.integrity import checksum
from entropyd.contract.symbols import SYMBOL_DTYPES
from entropyd.v1 import coding_pb2
from entropyd_server.coding.indexed import IndexedCodec
from entropyd_server.coding.kinds import codec_of
from entropyd_server.coding.kinds.universal_batched import UniversalBatchedCodec
from entropyd_server.coding.tables import CodingTables
from entropyd_server.kernels.range_coder import Status
from entropyd_server.kernels.rans64 import PRECISION
from entropyd_server.limits import Limits
from entropyd_server.rpc.requests.coding import CompressCall, DecompressCall, parse_compress, parse_decompress
from entropyd_server.store import model_object
from entropyd_server.store.model_object import ObjectError, TablesOrigin
from tests.support.coding_cases import Row, decode_integers, encode_integers, encode_values, tables_of
from tests.support.indexed_models import INDEXED_KINDS, indexed_config
from tests.support.rans_cases import decode_rans, encode_rans
from tests.support.sealed_objects import sealed

if TYPE_CHECKING:
    from collections.abc import Callable

    from entropyd_server.coding.rows import Rows

_MAX_SYMBOLS = 80
_MAX_UNITS = 20


class Reader:
    """Takes numbers from bytes, zeros past the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def below(self, bound: int) -> int:
        """A number below `bound`, at most 2^32."""
        width = (bound - 1).bit_length() + 7 >> 3
        return int.from_bytes(self.take(width).ljust(width, b"\0"), "little") % bound

    def take(self, count: int) -> bytes:
        """The next `count` bytes, fewer at the end."""
        taken = self._data[self._position : self._position + count]
        self._position += count
        return taken

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._data))


def _tables(reader: Reader, precision: int = 0) -> tuple[CodingTables, list[int]]:
    """Legal tables of one or of any precision, with empty intervals and long rows, and a row per symbol."""
    precision = precision or 1 + reader.below(16)
    total = 1 << precision
    rows: list[Row] = []
    for _ in range(1 + reader.below(4)):
        cuts = sorted(reader.below(total) for _ in range(reader.below(24)))
        if reader.below(8) == 0:
            cuts = [*range(1, min(total, 5000))]
        rows.append(([0, *cuts, total], reader.below(1 << 30) - (1 << 29)))
    row_index = [reader.below(len(rows)) for _ in range(reader.below(_MAX_SYMBOLS))]
    return tables_of(precision, rows), row_index


def decode(data: bytes) -> None:
    """Hostile bit strings."""
    reader = Reader(data)
    tables, row_index = _tables(reader)
    sizes = [reader.below(64) for _ in range(reader.below(_MAX_UNITS))]
    strings = [reader.take(size) for size in sizes] + [reader.rest()]
    loose = decode_integers(tables, row_index, strings, sanity_check=False)
    strict = decode_integers(tables, row_index, strings, sanity_check=True)
    for unit, string in enumerate(strings):
        alone = decode_integers(tables, row_index, [string], sanity_check=False)
        assert [part[unit] for part in loose] == [part[0] for part in alone]
        assert loose[1][unit] in {Status.OK, Status.ESCAPE_TOO_LONG}
        assert strict[1][unit] in {loose[1][unit], Status.NOT_AT_END}
    good = [integers for integers in strict[0] if integers is not None]
    again, statuses, _ = encode_integers(tables, row_index, good)
    assert set(statuses) <= {Status.OK}
    assert decode_integers(tables, row_index, again)[0] == good


def encode(data: bytes) -> None:
    """Hostile floats."""
    reader = Reader(data)
    tables, row_index = _tables(reader)
    units = 1 + reader.below(_MAX_UNITS)
    scale = 2.0 ** (reader.below(128) - 64)
    pattern = np.resize(np.frombuffer(reader.rest()[:640] or b"\0", np.uint8), 8 * _MAX_SYMBOLS)
    offsets = tables.cdf_offset[row_index] if row_index else np.empty(0)
    values = np.empty((units, len(row_index)))
    for unit in range(units):
        if unit % 4 == 3:
            # Bit patterns as they come: NaN, infinities, huge and tiny numbers.
            values[unit] = np.roll(pattern, unit).view(np.float64)[: len(row_index)]
        else:
            values[unit] = np.roll(pattern, unit).view(np.int8)[: len(row_index)] * scale + offsets
    strings, statuses, positions = encode_values(tables, row_index, values)
    decoded, decoded_statuses, _ = decode_integers(tables, row_index, strings)
    for unit, status in enumerate(statuses):
        if status == Status.OK:
            assert decoded_statuses[unit] == Status.OK
            assert decoded[unit] == np.rint(values[unit]).astype(int).tolist()
        else:
            assert status in {Status.NOT_FINITE, Status.OUT_OF_RANGE, Status.ZERO_PROBABILITY}
            assert strings[unit] == b""
            assert 0 <= positions[unit] < len(row_index)


def rans64(data: bytes) -> None:
    """Hostile bit strings of the rANS code."""
    reader = Reader(data)
    tables, row_index = _tables(reader, PRECISION)
    sizes = [4 * reader.below(32) for _ in range(reader.below(_MAX_UNITS))]
    strings = [reader.take(size) for size in sizes] + [reader.rest()]
    integers, statuses, positions = decode_rans(tables, row_index, strings)
    good = []
    for unit, string in enumerate(strings):
        alone = decode_rans(tables, row_index, [string])
        assert (integers[unit], statuses[unit], positions[unit]) == tuple(part[0] for part in alone)
        if (own := integers[unit]) is not None:
            good.append((own, string))
    again, statuses, _ = encode_rans(tables, row_index, [own for own, _ in good])
    assert again == [string for _, string in good]
    assert set(statuses) <= {Status.OK}


LIMITS = Limits(max_message_bytes=1 << 16, max_model_bytes=1 << 16, max_build_seconds=1, max_units=256)


def codec() -> UniversalBatchedCodec:
    """The codec that requests are parsed for."""
    tables = tables_of(4, [([0, 3, 9, 16], -1)] * 3)
    return UniversalBatchedCodec(
        model_id="ab" * 32,
        tables=tables,
        prior_shape=(3,),
        coding_rank=2,
        bottleneck_dtype="float32",
        num_noise_levels=1,
    )


@cache
def indexed_codec(kind: str) -> IndexedCodec:
    """A codec of 300 rows, whose units have two axes."""
    config = indexed_config(kind, (300,))
    tables = config.supplied_tables
    assert tables is not None
    made = codec_of(config, CodingTables.parse(tables.cdf, tables.cdf_offset))
    assert isinstance(made, IndexedCodec)
    return made


def indexed(data: bytes) -> None:
    """Hostile planes of indexes, and hostile strings."""
    reader = Reader(data)
    the_codec = indexed_codec(INDEXED_KINDS[reader.below(len(INDEXED_KINDS))])
    units, shape = reader.below(_MAX_UNITS), (reader.below(8), reader.below(8))
    dtype = np.dtype(("u1", "<u2", "<i4")[reader.below(3)])
    numbers = np.array([reader.below(1 << 32) for _ in range(units)], np.int64) * (1 << reader.below(30))
    pattern = reader.take(reader.below(256)) or b"\0"
    if dtype.itemsize > 1 and reader.below(8):  # mostly rows, so that there is something to decode
        plane = np.frombuffer(pattern, np.uint8).astype(dtype)
    else:
        plane = np.frombuffer(pattern.ljust(-(-len(pattern) // 4) * 4, b"\0"), dtype)
    plane = np.resize(plane, (units, shape[0] * shape[1]))
    try:
        rows = the_codec.rows_of(plane, shape, numbers)
    except InvalidTensorError:
        assert plane.min() < 0 or plane.max() >= 300 or (int(numbers.max()) + 1) * plane.shape[1] > 1 << 59
        return
    strings = [reader.take(reader.below(64)) for _ in range(units)]
    if units:
        strings[-1] += reader.rest()
    lengths = np.array([len(string) for string in strings], np.uint32)
    decoded = the_codec.decode(b"".join(strings), lengths, rows)
    for unit, string in enumerate(strings):
        alone = the_codec.decode(string, lengths[unit : unit + 1], rows.of_units(unit, unit + 1))
        assert decoded.values[unit].tobytes() == alone.values[0].tobytes()
        assert decoded.statuses[unit] == alone.statuses[0]
        assert decoded.positions[unit] == alone.positions[0]
        if decoded.statuses[unit] == Status.OK:
            encoded = the_codec.encode(decoded.values[unit : unit + 1], rows.of_units(unit, unit + 1))
            assert encoded.all_ok
            again = the_codec.decode(encoded.payload, encoded.lengths, rows.of_units(unit, unit + 1))
            assert again.values[0].tobytes() == decoded.values[unit].tobytes()


def wire(data: bytes) -> None:
    """Hostile messages; the first byte chooses the method and the model."""
    chosen = data[0] if data else 0
    model: Any = codec()
    if chosen & 0x60 in {0x20, 0x40}:
        model = indexed_codec("universal_indexed" if chosen & 0x20 else "location_scale_indexed")
    with contextlib.suppress(EntropydError, DecodeError):
        if chosen < 0x80:
            call = parse_compress(coding_pb2.CompressRequest.FromString(data[1:]), model, LIMITS)
            assert call.values.shape[1] == prod(call.broadcast_shape + model.unit_axes)
            assert call.values.dtype.name in {"float32", *SYMBOL_DTYPES}
            encoded = model.encode(call.values, _rows(model, call))
            assert len(encoded.lengths) == prod(call.batch_shape)
        else:
            strings = parse_decompress(coding_pb2.DecompressRequest.FromString(data[1:]), model, LIMITS)
            decoded = model.decode(*strings.strings, _rows(model, strings), symbols=strings.symbols)
            assert decoded.values.nbytes <= LIMITS.max_message_bytes


def _rows(model: Any, call: CompressCall | DecompressCall) -> Rows:
    if call.indexes is None:
        rows: Rows = model.rows(call.broadcast_shape)
        return rows
    own, plane, unit_shape, unit_numbers = call.indexes
    return own.rows_of(plane, unit_shape, unit_numbers)


def archive(data: bytes) -> None:
    """Hostile files. An odd first byte has checksums put right, so that what they guard is parsed, too."""
    content = with_checksums(data[1:]) if data[:1] and data[0] % 2 else data[1:]
    report = verify_source(BytesSource(content, "x"))
    kind: type[Archive | Bundle] = Bundle if is_bundle(BytesSource(content, "x")) else Archive
    for recover in (False, True):
        try:
            opened = kind.of_source(BytesSource(content, "x"), recover=recover)
        except EntropydError:
            assert not report.good
            continue
        if isinstance(opened, Archive):
            _check_archive(opened, report, good=report.good)
            continue
        assert list(opened) == list(report.parts)
        for name, part in opened.items():
            _check_archive(part, report.parts[name], good=report.good)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fuzzed.entropyd"
        path.write_bytes(content)
        for load in (CompressedTensor.load, CompressedBundle.load):
            with contextlib.suppress(EntropydError):
                load(path)


def _check_archive(opened: Archive, report: VerifiedUnits, *, good: bool) -> None:
    read = opened.read(on_error="skip")
    ends = list(accumulate(read.lengths.tolist(), initial=0))
    assert ends[-1] == len(read.payload)
    assert b"".join(read.strings.reshape(-1)) == read.payload
    for of_units in (read.indexes_crc32c, read.unit_numbers):
        assert of_units is None or len(of_units) == len(read.lengths)
    assert sum(len(head.lengths) for head in opened.block_headers(on_error="skip")) <= report.units
    with contextlib.suppress(EntropydError):
        exact = opened.exact(on_error="skip")
        assert not len(exact.starts) or exact.starts[-1] + exact.counts[-1] <= exact.elements
    if good:
        assert opened.complete
        assert not opened.missing_units
        assert len(opened.read().lengths) == report.units


def with_checksums(content: bytes) -> bytes:
    """A file with the right checksums in the places of docs/archive.md, as far as it can be walked."""
    file = bytearray(content)

    def put(offset: int, crc32c: int) -> None:
        file[offset : offset + 4] = struct.pack("<I", crc32c)

    def crc_of(first: int, last: int) -> int:
        return int(google_crc32c.value(bytes(file[first:last])))

    if len(file) >= 44:
        put(12, crc_of(0, 12))
        put(len(file) - 12, crc_of(len(file) - 28, len(file) - 12))
    offset = 16
    while offset + 20 <= len(file):
        kind, head_bytes, data_bytes = struct.unpack_from("<4sIQ", file, offset)
        head_end = offset + 20 + head_bytes
        end = head_end + 4 + data_bytes
        if end > len(file):
            break
        data = bytes(file[head_end + 4 : end])
        if kind == b"HEAD" and file[offset + 20 : offset + 21] == b"\1":
            # Of a bundle: one deflate block that stores the JSON as it is, after its length.
            stored = max(head_bytes - 5, 0) & 0xFFFF
            file[offset + 21 : offset + 25] = struct.pack("<HH", stored, stored ^ 0xFFFF)[: head_bytes - 1]
        put(offset + 16, _crc32c_of(kind, bytes(file[offset + 20 : head_end]), data))
        put(head_end, crc_of(offset, head_end))
        offset = end
    return bytes(file)


def _crc32c_of(kind: bytes, head: bytes, data: bytes) -> int:
    """What stands in the fourth field of a chunk."""
    for numbered in (False, True):
        with contextlib.suppress(LayoutError):
            return checksum(data, BlockHeader.parse(kind, head, numbered=numbered).lengths)
    return int(google_crc32c.value(data))


def model(data: bytes) -> None:
    """Hostile model objects; unless the first byte is even, metadata to be sealed around good tables."""
    blob = data[1:]
    if data[:1] and data[0] % 2:
        names = ("config", "built_with", "tables_origin")
        texts = (text.decode("utf-8", "replace") for text in blob.split(b"\0"))
        blob = sealed(dict(zip(names, texts, strict=False)))
    with contextlib.suppress(ObjectError, LimitExceededError):
        found = model_object.parse(blob, 1 << 16)
        imported = found.tables_origin is TablesOrigin.IMPORTED
        again = model_object.serialise(found.config, found.tables, found.built_with, imported=imported)
        assert model_object.parse(again).config.model_id == found.config.model_id


TARGETS: dict[str, Callable[[bytes], None]] = {
    "decode": decode,
    "encode": encode,
    "rans64": rans64,
    "indexed": indexed,
    "wire": wire,
    "archive": archive,
    "model": model,
}
