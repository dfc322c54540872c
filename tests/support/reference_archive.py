"""A second reader of archives, written from docs/archive.md by the standard library alone.

It imports neither entropyd nor NumPy, and need not be fast.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
import zlib
from typing import Any

MAGIC = b"\x89ENTR\r\n\x1a"
ITEM_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}


def read(content: bytes) -> dict[str, Any]:
    """Header, bit strings, and embedded models of a whole file.

    Returns:
      `header`, the JSON; `items`, the length of the first batch axis, or the number of parts; `models`, each
      a dictionary of `config`, `cdf` and `cdf_offset`. Of an archive also `strings`, all bit strings;
      `exact`, position in the array and bytes of each exact element; `checksums` and `numbers`, one for each
      string, if the file has them. Of a bundle `parts`, a dictionary with the same for each part by name.

    Raises:
      ValueError: If any byte is not what the page says.
    """
    magic, version, crc = struct.unpack_from("<8sII", content)
    check(magic == MAGIC, "magic")
    check(crc == crc32c(content[:12]), "prefix")
    check(version in {1, 2, 3, 4}, "version")
    index_offset, file_bytes, crc, end_magic = struct.unpack("<QQI8s", content[-28:])
    check(end_magic == MAGIC[::-1], "end")
    check(crc == crc32c(content[-28:-12]), "footer")
    check(file_bytes == len(content), "size")

    header: dict[str, Any] = {}
    parts: list[dict[str, Any]] = []
    models: list[dict[str, Any]] = []
    blocks: list[tuple[int, int]] = []
    items, next_unit = 0, 0
    offset = 16
    while offset < file_bytes - 28:
        kind, head_bytes, data_bytes, data_crc = struct.unpack_from("<4sIQI", content, offset)
        head_end = offset + 20 + head_bytes
        (crc,) = struct.unpack_from("<I", content, head_end)
        check(crc == crc32c(content[offset:head_end]), "chunk head")
        head = content[offset + 20 : head_end]
        data = content[head_end + 4 : head_end + 4 + data_bytes]
        if kind in {b"BLCK", b"BLKX"}:
            part = next(part for part in parts if next_unit < part["end"])
            block = read_block(kind, head, data, data_crc, part)
            check(block["first_unit"] == next_unit, "first unit of a block")
            blocks.append((offset, next_unit))
            next_unit += len(block["strings"])
            check(next_unit <= part["end"], "last unit of a block")
            for name, values in part["found"].items():
                values.extend(block[name])
        else:
            check(data_crc == crc32c(data), "chunk")
        if kind == b"HEAD":
            header = json.loads(zlib.decompress(head, wbits=-15) if version == 4 else head)
            parts = parts_of_bundle(header) if version == 4 else [part_of_archive(header, version)]
        if kind == b"MODL":
            models.append(read_model(head, data))
        if kind == b"INDX":
            check(offset == index_offset, "place of the index")
            total, items = struct.unpack("<QQ", head)
            check(total == next_unit, "total")
            check(version != 4 or (total, items) == (parts[-1]["end"], len(parts)), "size")
            check(list(struct.iter_unpack("<QQ", data)) == blocks, "index")
        offset = head_end + 4 + data_bytes
    check(offset == file_bytes - 28, "end of the last chunk")
    made_with = [(part["model_id"], part["tables_digest"]) for part in parts]
    for model in models:
        check((hashlib.sha256(model["config"]).hexdigest(), tables_digest(model)) in made_with, "model")
    found: dict[str, Any] = {"header": header, "items": items, "models": models}
    if version == 4:
        return {**found, "parts": {part["name"]: part["found"] for part in parts}}
    return {**found, **parts[0]["found"]}


def part_of_archive(header: dict[str, Any], version: int) -> dict[str, Any]:
    """The only part of a file of versions 1 to 3: members of the header, `end` and `found`."""
    check(version == 3 or (version == 2) == ("exact_dtype" in header), "version")
    flags = [header.get(name) for name in ("index_checksums", "unit_numbers")]
    check((version == 3) == (True in flags), "version")
    check(flags == [None, None] or all(isinstance(flag, bool) for flag in flags), "flags")
    return {**header, "end": float("inf"), "found": nothing_found()}


def parts_of_bundle(header: dict[str, Any]) -> list[dict[str, Any]]:
    """The parts of a file of version 4, likewise."""
    columns = (
        "name",
        "model_id",
        "tables_digest",
        "dtype",
        "batch_shape",
        "broadcast_shape",
        "symbols_per_unit",
        "index_checksums",
        "unit_numbers",
    )
    parts, end = [], 0
    for row in header["parts"]:
        part = dict(zip(columns, row[: len(columns)], strict=True))
        end += math.prod(part["batch_shape"])
        parts.append({**part, "end": end, "found": nothing_found()})
    return parts


def nothing_found() -> dict[str, list[Any]]:
    """What is found of the units of a part, before any."""
    return {"strings": [], "exact": [], "checksums": [], "numbers": []}


def read_block(
    kind: bytes, head: bytes, data: bytes, data_crc: int, header: dict[str, Any]
) -> dict[str, Any]:
    """First unit, bit strings, exact elements, checksums and numbers of a BLCK or BLKX chunk."""
    first_unit, units = struct.unpack_from("<QI", head)
    per_unit, exact_count = struct.unpack_from("<QQ", head, 12) if kind == b"BLKX" else (0, 0)
    lengths = varints(zlib.decompress(head[28 if kind == b"BLKX" else 12 :], wbits=-15))
    numbers: list[int] = []
    if header.get("unit_numbers"):
        lengths, runs = lengths[:units], lengths[units:]
        check(len(runs) % 2 == 0, "runs of numbers")
        for first, count in zip(runs[::2], runs[1::2], strict=True):
            check(count > 0, "run of numbers")
            numbers += range(first, first + count)
        check(len(numbers) == units, "number of numbers")
    check(len(lengths) == units, "number of lengths")
    check(data_crc == crc32c(struct.pack(f"<{units}I", *lengths) + data), "block")
    strings, start = [], 0
    for length in lengths:
        strings.append(data[start : start + length])
        start += length
    checksums: list[int] = []
    if header.get("index_checksums"):
        checksums = list(struct.unpack_from(f"<{units}I", data, start))
        start += 4 * units
    exact = []
    if kind == b"BLKX":
        found = exact_elements(data[start:], ITEM_BYTES[header["exact_dtype"]])
        check(len(found) == exact_count > 0, "number of exact elements")
        check(found[-1][0] < per_unit * units, "place of the last exact element")
        exact = [(first_unit * per_unit + position, value) for position, value in found]
    else:
        check(start == len(data), "lengths")
    return {
        "first_unit": first_unit,
        "strings": strings,
        "exact": exact,
        "checksums": checksums,
        "numbers": numbers,
    }


def exact_elements(content: bytes, item_bytes: int) -> list[tuple[int, bytes]]:
    """Position in its block, and bytes, of each exact element that a BLKX chunk packs."""
    raw = zlib.decompress(content, wbits=-15)
    table_start = next(place for place, byte in enumerate(raw) if byte < 0x80) + 1
    (count,) = varints(raw[:table_start])
    runs_start = table_start + count * item_bytes
    table = [raw[start : start + item_bytes] for start in range(table_start, runs_start, item_bytes)]
    check(table == sorted(set(table), key=lambda value: int.from_bytes(value, "little")), "values")
    found, position = [], 0
    numbers = iter(varints(raw[runs_start:]))
    for gap in numbers:
        length, value = next(numbers), next(numbers)
        check(length > 0, "run")
        position += gap
        found += [(place, table[value]) for place in range(position, position + length)]
        position += length
    return found


def read_model(head: bytes, data: bytes) -> dict[str, Any]:
    """Configuration (canonical JSON) and tables of a MODL chunk."""
    config_bytes, cdf_length, rows = struct.unpack_from("<IQI", head)
    raw = zlib.decompress(data, wbits=-15)
    end = config_bytes + 4 * (cdf_length + rows)
    tables = struct.unpack(f"<{cdf_length + rows}i", raw[config_bytes:end])
    check(len(raw) - end == (8 * rows if len(head) > 16 else 0), "quantization offset")
    return {
        "config": raw[:config_bytes],
        "cdf": tables[:cdf_length],
        "cdf_offset": tables[cdf_length:],
        "quantization_offset": raw[end:],
    }


def tables_digest(model: dict[str, Any]) -> str:
    """See docs/identity.md."""
    cdf, cdf_offset = model["cdf"], model["cdf_offset"]
    offsets = model["quantization_offset"]
    layout = (
        b"entropyd tables" + (b"\x02" if offsets else b"\x01") + struct.pack("<IQ", len(cdf_offset), len(cdf))
    )
    layout += struct.pack(f"<{len(cdf)}i", *cdf) + struct.pack(f"<{len(cdf_offset)}i", *cdf_offset)
    return hashlib.sha256(layout + offsets).hexdigest()


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
