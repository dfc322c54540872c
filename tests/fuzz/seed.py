"""Writes the first, well-formed inputs of the corpus: `python -m tests.fuzz.seed`. Fuzzing adds to them."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from entropyd.archive import ArchiveWriter, CompressedTensor, ExactElements
from entropyd.contract.integrity import make_blocks
from entropyd.contract.wire import tensor_to_message
from entropyd.v1 import coding_pb2, types_pb2
from tests.fuzz.targets import codec
from tests.support.archive_cases import EMBEDDED
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
    seeds["archive", "message"] = b"\1" + compressed.to_message().SerializeToString()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seed.entropyd"
        compressed.save(path)
        seeds["archive", "file"] = b"\0" + path.read_bytes()
        # Checksums are put right in these, so that mutations reach what is behind them.
        seeds["archive", "checked-file"] = b"\1" + path.read_bytes()
        exact = ExactElements.of(values, values < 0)
        with ArchiveWriter(path, exact_dtype="float32", model=EMBEDDED) as writer:
            writer.append(
                replace(compressed, model_id=EMBEDDED.model_id, tables_digest=EMBEDDED.tables_digest), exact
            )
        seeds["archive", "exact-elements"] = b"\1" + path.read_bytes()
    seeds["model", "object"] = b"\0" + sealed()
    texts = (two_row_config().canonical_json, b'{"tensorflow":"2.14.1"}', b"imported")
    seeds["model", "metadata"] = b"\1" + b"\0".join(texts)
    for (name, title), data in seeds.items():
        (CORPUS / name / title).write_bytes(data)


if __name__ == "__main__":
    main()
