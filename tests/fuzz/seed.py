"""Writes the first, well-formed inputs of the corpus: `python -m tests.fuzz.seed`. Fuzzing adds to them."""

from __future__ import annotations

import struct
import tempfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from entropyd.archive import ArchiveWriter, CompressedTensor, ExactElements, pack
from entropyd.contract.indexes import indexes_crc32c
from entropyd.contract.integrity import make_blocks
from entropyd.contract.wire import tensor_to_message
from entropyd.v1 import coding_pb2, types_pb2
from tests.fuzz.targets import codec, indexed_codec
from tests.support.archive_cases import EMBEDDED
from tests.support.coding_cases import tables_of
from tests.support.rans_cases import encode_rans
from tests.support.sealed_objects import sealed, two_row_config

CORPUS = Path(__file__).parent / "corpus"


def main() -> None:
    """Writes every seed."""
    rng = np.random.default_rng(0)
    seeds: dict[tuple[str, str], bytes] = {("decode", "zeros"): bytes(100), ("encode", "zeros"): bytes(100)}
    for name in ("decode", "encode"):
        for size in (60, 200, 400):
            seeds[name, f"random-{size}"] = rng.bytes(size)
        # Precision 12, one row of an interval and the escape, 16 symbols; then strings of ones, of an endless
        # escape, and of nothing: one unit after the other.
        row = bytes([11, 0, 1, 0xFF, 0x0F, 1, 0, 0, 0, 32, 16])
        strings = bytes([18]) + bytes([4, 2, 0] * 6) + b"\xff\xff\0\0" * 20
        seeds[name, "endless-escape"] = row + bytes(16) + strings

    values = rng.normal(0, 1, (4, 2, 3)).astype(np.float32)
    the_codec = codec()
    encoded = the_codec.encode(values.reshape(4, -1), the_codec.rows((2,)))
    compressed = CompressedTensor(
        the_codec.model_id,
        the_codec.tables.digest,
        "float32",
        (4,),
        (2,),
        encoded.payload,
        encoded.lengths,
        make_blocks(encoded.payload, encoded.lengths),
    )
    tensor = tensor_to_message(values)
    request = coding_pb2.CompressRequest(model_id=the_codec.model_id, bottleneck=tensor)
    seeds["wire", "compress"] = b"\0" + request.SerializeToString()
    units = [coding_pb2.UnitRange(start=1, count=2), coding_pb2.UnitRange(start=0, count=1)]
    whole = coding_pb2.DecompressRequest(compressed=compressed.to_message(), units=units)
    seeds["wire", "decompress"] = b"\xff" + whole.SerializeToString()
    bits = types_pb2.BitStrings(
        batch_shape=[4], broadcast_shape=[2], payload=encoded.payload, lengths=encoded.lengths.tolist()
    )
    bit_strings = coding_pb2.DecompressRequest(bit_strings=bits)
    seeds["wire", "bit-strings"] = b"\xff" + bit_strings.SerializeToString()
    for size in (0, 60, 300):
        seeds["indexed", f"random-{size}"] = rng.bytes(size)
    plane = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    indexed_values = rng.normal(0, 1 + plane % 40).astype(np.float32)
    for kind, choice in (("location_scale_indexed", 0x40), ("universal_indexed", 0x20)):
        own = indexed_codec(kind)
        flat = plane.reshape(2, -1)
        coded = own.encode(indexed_values.reshape(2, -1), own.rows_of(flat, (3, 4), np.arange(5, 7)))
        indexes = tensor_to_message(plane)
        request = coding_pb2.CompressRequest(
            model_id=own.model_id,
            bottleneck=tensor_to_message(indexed_values),
            indexes=indexes,
            first_unit=5,
        )
        seeds["wire", f"compress-{kind}"] = bytes([choice]) + request.SerializeToString()
        of_units = types_pb2.CompressedTensor(
            format_version=1,
            model_id=own.model_id,
            tables_digest=own.tables_digest,
            dtype=types_pb2.D_TYPE_FLOAT32,
            batch_shape=[2],
            broadcast_shape=[3, 4],
            payload=coded.payload,
            lengths=coded.lengths.tolist(),
            blocks=make_blocks(coded.payload, coded.lengths),
            indexes_crc32c=indexes_crc32c(flat).tolist(),
            unit_numbers=[types_pb2.UnitNumbers(first=5, count=2)],
        )
        decompress = coding_pb2.DecompressRequest(compressed=of_units, indexes=indexes)
        seeds["wire", f"decompress-{kind}"] = bytes([0x80 | choice]) + decompress.SerializeToString()
        # Two units of 3 x 4 symbols, uint16; numbers, indexes and then the strings.
        head = bytes([1 if kind == "location_scale_indexed" else 2, 2, 3, 4, 1])
        head += bytes([5, 0, 0, 0, 6, 0, 0, 0, 0, 24, *range(24), 1])
        first = int(coded.lengths[0])
        seeds["indexed", kind] = head + bytes([first]) + coded.payload[:first] + b"\0" + coded.payload[first:]
    # One row of thirds and as many symbols as a string codes; what `targets.rans64` reads before the strings.
    head = bytes([0, 3]) + bytes([0x20, 0x4E, 0x40, 0x9C, 0, 0]) + bytes([1]) + (2**29).to_bytes(4, "little")
    rows = tables_of(16, [([0, 0, 20000, 40000, 2**16], 0)])
    (string,), _, _ = encode_rans(rows, [0] * 40, [[1, 2, 1, -70, 900] * 8])
    seeds["rans64", "escapes"] = head + bytes([40]) + b"\0" + string
    seeds |= _archives(compressed, values)
    seeds["model", "object"] = b"\0" + sealed()
    texts = (two_row_config().canonical_json, b'{"tensorflow":"2.14.1"}', b"imported")
    seeds["model", "metadata"] = b"\1" + b"\0".join(texts)
    for (name, title), data in seeds.items():
        (CORPUS / name / title).write_bytes(data)


def _archives(compressed: CompressedTensor, values: npt.NDArray[Any]) -> dict[tuple[str, str], bytes]:
    seeds = {("archive", "message"): b"\1" + compressed.to_message().SerializeToString()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seed.entropyd"
        compressed.save(path)
        seeds["archive", "file"] = b"\0" + path.read_bytes()
        # Checksums are put right in these, so that mutations reach what is behind them.
        seeds["archive", "checked-file"] = b"\1" + path.read_bytes()
        numbers = np.arange(len(compressed.lengths))
        crcs = numbers.astype(np.uint32)
        replace(compressed, indexes_crc32c=crcs, unit_numbers=numbers + 3).save(path)
        seeds["archive", "indexed-file"] = b"\1" + path.read_bytes()
        exact = ExactElements.of(values, values < 0)
        with ArchiveWriter(path, exact_dtype="float32", model=EMBEDDED) as writer:
            writer.append(
                replace(compressed, model_id=EMBEDDED.model_id, tables_digest=EMBEDDED.tables_digest), exact
            )
        seeds["archive", "exact-elements"] = b"\1" + path.read_bytes()
        parts = {"z": compressed, "y": replace(compressed, indexes_crc32c=crcs, unit_numbers=numbers + 3)}
        pack(parts, metadata={"photo": "coffee"}).save(path)
        seeds["archive", "bundle"] = b"\0" + path.read_bytes()
        seeds["archive", "checked-bundle"] = b"\1" + _with_stored_header(path.read_bytes())
    return seeds


def _with_stored_header(bundle: bytes) -> bytes:
    """The same bundle with a HEAD whose JSON is not packed, so that mutations reach it."""
    (head_bytes,) = struct.unpack_from("<I", bundle, 20)
    begin, end = 36, 36 + head_bytes
    deflate = zlib.compressobj(0, wbits=-zlib.MAX_WBITS)
    stored = deflate.compress(zlib.decompress(bundle[begin:end], wbits=-zlib.MAX_WBITS)) + deflate.flush()
    content = bytearray(
        bundle[:20] + struct.pack("<I", len(stored)) + bundle[24:begin] + stored + bundle[end:]
    )
    longer = len(stored) - head_bytes
    (index,) = struct.unpack_from("<Q", bundle, len(bundle) - 28)
    struct.pack_into("<QQ", content, len(content) - 28, index + longer, len(content))
    for place in range(index + longer + 40, len(content) - 28, 16):
        (offset,) = struct.unpack_from("<Q", content, place)
        struct.pack_into("<Q", content, place, offset + longer)
    return bytes(content)


if __name__ == "__main__":
    main()
