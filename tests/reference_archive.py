"""Archives as docs/archive.md describes them, by the standard library alone.

Owns a second reader, written from that page as a person without entropyd would write it. It must not import
entropyd or NumPy, nor be fast.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from typing import Any

MAGIC = b"\x89ENTR\r\n\x1a"


def read(content: bytes) -> dict[str, Any]:
    """Header, bit strings, and embedded model of a whole file.

    Returns:
      `header`, the JSON; `items`, the length of the first batch axis; `strings`, all bit strings in order;
      `model`, None or a dictionary of `config`, `cdf` and `cdf_offset`.

    Raises:
      ValueError: If any byte is not what the page says.
    """
    magic, version, crc = struct.unpack_from("<8sII", content)
    check(magic == MAGIC, "magic")
    check(crc == crc32c(content[:12]), "prefix")
    check(version == 1, "version")
    index_offset, file_bytes, crc, end_magic = struct.unpack("<QQI8s", content[-28:])
    check(end_magic == MAGIC[::-1], "end")
    check(crc == crc32c(content[-28:-12]), "footer")
    check(file_bytes == len(content), "size")

    header: dict[str, Any] = {}
    model = None
    strings: list[bytes] = []
    blocks: list[tuple[int, int]] = []
    items = 0
    offset = 16
    while offset < file_bytes - 28:
        kind, head_bytes, data_bytes, data_crc = struct.unpack_from("<4sIQI", content, offset)
        head_end = offset + 20 + head_bytes
        (crc,) = struct.unpack_from("<I", content, head_end)
        check(crc == crc32c(content[offset:head_end]), "chunk head")
        head = content[offset + 20 : head_end]
        data = content[head_end + 4 : head_end + 4 + data_bytes]
        if kind == b"BLCK":
            first_unit, units = struct.unpack_from("<QI", head)
            lengths = varints(zlib.decompress(head[12:], wbits=-15))
            check(first_unit == len(strings) and len(lengths) == units, "units of a block")
            check(data_crc == crc32c(struct.pack(f"<{units}I", *lengths) + data), "block")
            blocks.append((offset, first_unit))
            start = 0
            for length in lengths:
                strings.append(data[start : start + length])
                start += length
            check(start == data_bytes, "lengths")
        else:
            check(data_crc == crc32c(data), "chunk")
        if kind == b"HEAD":
            header = json.loads(head)
        if kind == b"MODL":
            model = read_model(head, data)
        if kind == b"INDX":
            check(offset == index_offset, "place of the index")
            total, items = struct.unpack("<QQ", head)
            check(total == len(strings), "total")
            check(list(struct.iter_unpack("<QQ", data)) == blocks, "index")
        offset = head_end + 4 + data_bytes
    check(offset == file_bytes - 28, "end of the last chunk")
    if model is not None:
        check(hashlib.sha256(model["config"]).hexdigest() == header["model_id"], "model id")
        check(tables_digest(model) == header["tables_digest"], "tables digest")
    return {"header": header, "items": items, "strings": strings, "model": model}


def read_model(head: bytes, data: bytes) -> dict[str, Any]:
    """Configuration (canonical JSON) and tables of a MODL chunk."""
    config_bytes, cdf_length, rows = struct.unpack("<IQI", head)
    raw = zlib.decompress(data, wbits=-15)
    tables = struct.unpack(f"<{cdf_length + rows}i", raw[config_bytes:])
    return {"config": raw[:config_bytes], "cdf": tables[:cdf_length], "cdf_offset": tables[cdf_length:]}


def tables_digest(model: dict[str, Any]) -> str:
    """See docs/identity.md."""
    cdf, cdf_offset = model["cdf"], model["cdf_offset"]
    layout = b"entropyd tables\x01" + struct.pack("<IQ", len(cdf_offset), len(cdf))
    layout += struct.pack(f"<{len(cdf)}i", *cdf) + struct.pack(f"<{len(cdf_offset)}i", *cdf_offset)
    return hashlib.sha256(layout).hexdigest()


def varints(content: bytes) -> list[int]:
    """LEB128 numbers, one after the other."""
    numbers, number, shift = [], 0, 0
    for byte in content:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            numbers.append(number)
            number, shift = 0, 0
    check(shift == 0, "varints")
    return numbers


def crc32c(content: bytes) -> int:
    """CRC-32C (Castagnoli): reflected polynomial 0x82F63B78, initial value and final XOR all ones."""
    state = 0xFFFFFFFF
    for byte in content:
        state = state >> 8 ^ _CRC_TABLE[(state ^ byte) & 0xFF]
    return state ^ 0xFFFFFFFF


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ 0x82F63B78 * (byte & 1)  # noqa: PLW2901 - the register of the algorithm
        table.append(byte)
    return table


_CRC_TABLE = _crc_table()


def check(holds: bool, what: str) -> None:
    """Raises ValueError unless it holds."""
    if not holds:
        raise ValueError(f"{what} is not as described")
