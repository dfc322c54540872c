"""Laws of identity: ids and digests are what docs/identity.md says, to anyone who reads only that page."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from entropyd import priors
from entropyd.contract.families import FAMILIES
from entropyd.contract.index_functions import FUNCTIONS
from entropyd.contract.indexes import indexes_crc32c, row_dtype
from entropyd.contract.kinds import KINDS
from entropyd.contract.tables import RawTables
from entropyd_server.coding.tables import CodingTables
from tests.support import reference_identity
from tests.support.identity_vectors import VECTORS_PATH, config_of

PAGE = Path(__file__).parents[2] / "docs" / "identity.md"
VECTORS = json.loads(VECTORS_PATH.read_text())
BLOCK = re.compile(r"^```(?:json|text) (\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WORKED = {
    kind: [text.strip() for found, text in BLOCK.findall(PAGE.read_text()) if found == kind]
    for kind in ("config", "canonical", "model_id", "tables", "layout", "tables_digest")
}


@pytest.mark.parametrize("vector", VECTORS["models"], ids=lambda vector: vector["name"])
def test_a_model_vector_holds_for_the_client_and_for_the_page(vector: dict[str, Any]) -> None:
    config = config_of(vector["config"])
    assert config.canonical_json.decode() == vector["canonical_json"]
    assert config.model_id == vector["model_id"]
    assert reference_identity.canonical_json(vector["config"]) == vector["canonical_json"]
    assert reference_identity.model_id(vector["config"]) == vector["model_id"]


@pytest.mark.parametrize("vector", VECTORS["tables"], ids=lambda vector: vector["name"])
def test_a_tables_vector_holds_for_the_server_and_for_the_page(vector: dict[str, Any]) -> None:
    tables = {name: vector[name] for name in RawTables._fields if name in vector}
    assert reference_identity.tables_layout(**tables).hex() == vector["layout_hex"]
    assert reference_identity.tables_digest(**tables) == vector["tables_digest"]
    if "quantization_offset" in tables:
        tables["quantization_offset"] = np.array(tables["quantization_offset"])
    assert CodingTables.parse(**tables).digest.hex() == vector["tables_digest"]


def test_the_model_that_is_worked_on_the_page_has_the_id_that_is_printed_there() -> None:
    for config, canonical, model_id in zip(
        WORKED["config"], WORKED["canonical"], WORKED["model_id"], strict=True
    ):
        assert config_of(json.loads(config)).canonical_json.decode() == canonical
        assert reference_identity.model_id(json.loads(config)) == model_id
        assert model_id in {vector["model_id"] for vector in VECTORS["models"]}
    assert WORKED["config"]


def test_the_tables_that_are_worked_on_the_page_have_the_digest_that_is_printed_there() -> None:
    for tables, layout, digest in zip(
        WORKED["tables"], WORKED["layout"], WORKED["tables_digest"], strict=True
    ):
        values = json.loads(tables)
        assert reference_identity.tables_layout(**values) == bytes.fromhex(layout)
        assert CodingTables.parse(**values).digest.hex() == digest
    assert WORKED["tables"]


def test_the_checksums_of_indexes_that_are_worked_on_the_page_hold() -> None:
    rows = re.findall(r"^\| (\d+) \| `([0-9a-f ]+)` \| `0x([0-9a-f]{8})` \|$", PAGE.read_text(), re.MULTILINE)
    assert [row_dtype(int(count)).name for count, _, _ in rows] == ["uint8", "uint16", "int32"]
    for count, content, checksum in rows:
        plane = np.array([[0, 1, 63]]).astype(row_dtype(int(count)))
        assert plane.tobytes() == bytes.fromhex(content)
        assert indexes_crc32c(plane).tolist() == [int(checksum, 16)]


def test_the_vectors_cover_every_family_dtype_and_field() -> None:
    configs = [vector["config"] for vector in VECTORS["models"]]
    texts = [json.loads(vector["canonical_json"]) for vector in VECTORS["models"]]
    priors_given = [config["prior"] for config in configs if "prior" in config]
    assert {family for prior in priors_given for family in families(prior)} == set(FAMILIES)
    assert {text["bottleneck_dtype"] for text in texts} == {"float16", "bfloat16", "float32", "float64"}
    assert {text["kind"] for text in texts} == set(KINDS)
    assert {function for prior in priors_given for function in functions(prior)} == set(FUNCTIONS)
    assert set().union(*texts) == {"kind"}.union(*(kind.fields for kind in KINDS.values()))


def families(prior: dict[str, Any]) -> list[str]:
    """The family of a prior and of those nested in it."""
    nested = [
        value for value in prior["parameters"].values() if isinstance(value, dict) and "family" in value
    ]
    return [prior["family"], *(family for other in nested for family in families(other))]


def functions(prior: dict[str, Any]) -> list[str]:
    """The functions of the index among the parameters of a prior."""
    values = [value for value in prior["parameters"].values() if isinstance(value, dict)]
    nested = [name for value in values if "family" in value for name in functions(value)]
    return [*nested, *(value["function"] for value in values if "function" in value)]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_written_as_rfc_8785_says(number: float) -> None:
    assert reference_identity.jcs(number) == rfc8785.dumps(number).decode()


@pytest.mark.parametrize(
    ("shape", "num_filters", "init_scale", "dtype"),
    [((), (), 10, "float32"), ((2,), (3, 3), 10, "float32"), ((2, 3), (2,), 4, "float64")],
)
def test_default_variables_are_those_of_the_page(
    shape: tuple[int, ...], num_filters: tuple[int, ...], init_scale: float, dtype: str
) -> None:
    prior = priors.NoisyDeepFactorized(shape, num_filters, init_scale, np.dtype(dtype))
    channels, filters, stream = math.prod(shape), [1, *num_filters, 1], philox_words()
    for layer in range(len(num_filters) + 1):
        inputs, outputs = filters[layer : layer + 2]
        matrix = math.log(math.expm1(1 / init_scale ** (1 / (len(num_filters) + 1)) / outputs))
        bias = [(next(stream) >> 11) * 2.0**-53 - 0.5 for _ in range(channels * outputs)]
        expected = {
            f"matrix_{layer}": np.full((channels, outputs, inputs), matrix),
            f"bias_{layer}": np.reshape(bias, (channels, outputs, 1)),
        }
        if layer < len(num_filters):
            expected[f"factor_{layer}"] = np.zeros((channels, outputs, 1))
        for name, values in expected.items():
            assert prior.parameters[name].dtype == dtype
            assert np.array_equal(prior.parameters[name], values.astype(dtype))


def philox_words() -> Any:
    """64-bit words of Philox4x64-10 with key 0 (Salmon et al., 2011), whose counter begins at 1."""
    mask, multipliers = 2**64 - 1, (0xD2E7470EE14C6C93, 0xCA5A826395121157)
    weyl = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
    for count in range(1, 2**64):
        counter, keys = [count, 0, 0, 0], [0, 0]
        for _ in range(10):
            products = multipliers[0] * counter[0], multipliers[1] * counter[2]
            counter = [
                (products[1] >> 64) ^ counter[1] ^ keys[0],
                products[1] & mask,
                (products[0] >> 64) ^ counter[3] ^ keys[1],
                products[0] & mask,
            ]
            keys = [(key + step) & mask for key, step in zip(keys, weyl, strict=True)]
        yield from counter
