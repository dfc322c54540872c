"""Laws of the golden corpus: bytes written once are written and read for ever."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from entropyd_server.coding import self_test
from entropyd_server.coding.dither import noise_levels
from entropyd_server.coding.kinds.universal_batched import UniversalBatchedCodec
from entropyd_server.coding.self_test import warm_up
from entropyd_server.coding.tables import CodingTables
from tests.support import reference_coder, reference_gamma, reference_rans

FOLDER = Path(__file__).parents[3] / "golden"
DOCUMENTS = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def codec_of(document: dict[str, Any]) -> UniversalBatchedCodec:
    tables = CodingTables.parse(document["cdf"], document["cdf_offset"])
    return UniversalBatchedCodec(model_id="golden", tables=tables, **document["config"])


def array(codec: UniversalBatchedCodec, document: dict[str, Any], field: str) -> Any:
    flat = np.frombuffer(base64.b64decode(document[field]), codec.wire_dtype)
    return (
        flat.reshape(*document["batch_shape"], -1) if flat.size else flat.reshape(*document["batch_shape"], 0)
    )


def test_the_corpus_is_there_and_small() -> None:
    assert len(DOCUMENTS) == 10
    assert sum(path.stat().st_size for path in FOLDER.glob("*.json")) < 10**6


@pytest.mark.parametrize("name", DOCUMENTS)
def test_values_encode_to_the_golden_strings(name: str) -> None:
    document = DOCUMENTS[name]
    codec = codec_of(document)
    assert codec.tables.digest.hex() == document["tables_digest"]
    encoded = codec.encode(array(codec, document, "values_base64"), codec.rows(document["broadcast_shape"]))
    assert encoded.payload.hex() == "".join(document["strings_hex"])
    assert encoded.lengths.tolist() == [len(string) // 2 for string in document["strings_hex"]]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_golden_strings_decode_to_the_golden_values(name: str) -> None:
    document = DOCUMENTS[name]
    codec = codec_of(document)
    unit_rows = codec.rows(document["broadcast_shape"])
    strings = [bytes.fromhex(string) for string in document["strings_hex"]]
    lengths = np.array([len(string) for string in strings], np.uint32)
    restored = array(codec, document, "restored_base64")
    assert codec.decode(b"".join(strings), lengths, unit_rows).values.tobytes() == restored.tobytes()
    for string, length, expected in zip(strings, lengths, restored, strict=True):
        assert codec.decode(string, np.array([length]), unit_rows).values.tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_dither_is_the_golden_one(name: str) -> None:
    document = DOCUMENTS[name]
    expected = document["noise_levels"]
    assert noise_levels(len(expected), document["config"]["num_noise_levels"]).tolist() == expected


def test_the_compiled_in_strings_are_those_of_the_reference_coder() -> None:
    rows = [(list(row), offset) for row, offset in zip(self_test.ROWS, self_test.CDF_OFFSET, strict=True)]
    coding_rows = [rows[index] for index in self_test.ROW_INDEX]
    for integers, string in zip(self_test.INTEGERS, self_test.STRINGS, strict=True):
        assert reference_coder.encode(list(integers), coding_rows, self_test.PRECISION).hex() == string
    exact = [([256 * edge for edge in row], offset) for row, offset in rows]
    of_symbols = [exact[index] for index in self_test.ROW_INDEX]
    for integers, string in zip(self_test.INTEGERS, self_test.RANS64_STRINGS, strict=True):
        assert reference_rans.encode(list(integers), of_symbols).hex() == string
    for integers, string in zip(self_test.INTEGERS, self_test.GAMMA_STRINGS, strict=True):
        assert reference_gamma.encode(list(integers)).hex() == string


@pytest.mark.parametrize(
    ("constant", "wrong", "message"),
    [
        ("TABLES_DIGEST", "00", "float32 tables have digest f0468a"),
        ("ROW_INDEX", (0,) * 12, "float64 dither gives rows"),
        (
            "STRINGS",
            ("a5a47f2c", *self_test.STRINGS[1:]),
            "float32 units encode to .*a unit alone decodes",
        ),
        ("RANS64_STRINGS", ("00", *self_test.RANS64_STRINGS[1:]), "float32 units encode to "),
        ("GAMMA_STRINGS", ("5ad6d42d02", *self_test.GAMMA_STRINGS[1:]), "float64 units encode to "),
    ],
)
def test_a_machine_that_codes_differently_does_not_start(
    monkeypatch: pytest.MonkeyPatch, constant: str, wrong: object, message: str
) -> None:
    warm_up()
    monkeypatch.setattr(self_test, constant, wrong)
    with pytest.raises(RuntimeError, match=message):
        warm_up()
