"""Laws of the parser of model objects: a model or an error, whatever was sealed, and old objects for ever."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropyd import LimitExceededError, PowerLawConfig
from entropyd_server.coding.tables import CodingTables
from entropyd_server.rpc.requests.registry import render_model
from entropyd_server.store import model_object
from entropyd_server.store.model_object import ModelObject, ObjectError, TablesOrigin
from entropyd_server.store.model_store import StoredModel
from tests.support.sealed_objects import OTHER_TABLES, TABLES, sealed, two_row_config

OBJECTS = Path(__file__).parents[3] / "vectors" / "objects"
DEEP = 5000
GOOD = two_row_config().to_dict()
SUPPLIED = two_row_config(tables=(TABLES.cdf, TABLES.cdf_offset)).canonical_json.decode()
WITHOUT = two_row_config(compression=False).canonical_json.decode()
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
VECTORS = st.builds(
    np.array, st.lists(st.integers(0, 1), max_size=5), st.sampled_from(["u1", "<i4", "<i8", "<f4", "?"])
)
BAD = {
    "built_with a number": sealed({"built_with": "7"}),
    "built_with a list": sealed({"built_with": '["tensorflow"]'}),
    "built_with of numbers": sealed({"built_with": '{"tensorflow": 2}'}),
    "built_with without end": sealed(
        {"built_with": json.dumps({str(number): "1" for number in range(1000)})}
    ),
    "built_with of a long text": sealed({"built_with": json.dumps({"tensorflow": "1" * 1000})}),
    "built_with half a surrogate pair": sealed({"built_with": '{"tensorflow": "\\udc00"}'}),
    "built_with no JSON": sealed({"built_with": "tensorflow"}),
    "a config 5,000 deep": sealed({"config": "[" * DEEP + "]" * DEEP}),
    "a config 500 deep": sealed(
        {"config": json.dumps({**GOOD, "coding_rank": "X"}).replace('"X"', "[" * 500 + "]" * 500)}
    ),
    "a config with half a surrogate pair": sealed({"config": json.dumps({**GOOD, "\udc00": 1})}),
    "a config with half a surrogate pair in a value": sealed(
        {"config": json.dumps({**GOOD, "kind": "\ud800"})}
    ),
    "a config that is a number": sealed({"config": "1"}),
    "tables of a kind without any": sealed(
        {"config": PowerLawConfig(1).canonical_json.decode(), "tables_digest": ""}
    ),
    "another format": sealed({"format": "2"}),
    "another origin": sealed({"tables_origin": "stolen"}),
    "another digest": sealed({"tables_digest": OTHER_TABLES.digest.hex()}),
    "tables without compression": sealed({"config": WITHOUT, "tables_digest": ""}),
    "no tables with compression": sealed(tensors={}),
    "one tensor too many": sealed(
        tensors={"cdf": TABLES.cdf, "cdf_offset": TABLES.cdf_offset, "x": TABLES.cdf}
    ),
    "other tables than the config supplies": sealed({"config": SUPPLIED}, tables=OTHER_TABLES),
    "tables of another number of rows": sealed(tables=CodingTables.parse([-4, 0, 3, 16], [-1])),
    "tables of another precision": sealed(
        tables=CodingTables.parse([-5, 0, 3, 32, -5, 0, 1, 2, 32], [-1, 5])
    ),
}


def parsed(blob: bytes) -> ModelObject | None:
    """The model, which callers can be told of; None for what is refused."""
    try:
        found = model_object.parse(blob)
    except ObjectError:
        return None
    stored = StoredModel(**vars(found), created_at=datetime.now(timezone.utc))
    assert render_model(stored).SerializeToString()
    return found


@pytest.mark.parametrize("blob", BAD.values(), ids=BAD)
def test_what_is_sealed_but_makes_no_sense_is_refused(blob: bytes) -> None:
    with pytest.raises(ObjectError):
        model_object.parse(blob)


@given(st.sampled_from(["format", "config", "tables_digest", "built_with", "tables_origin"]), JSON)
def test_any_json_in_the_place_of_a_field_is_a_model_or_refused(field: str, value: Any) -> None:
    parsed(sealed({field: json.dumps(value)}))


@given(st.sampled_from(sorted(GOOD)), JSON)
def test_any_json_in_the_place_of_a_field_of_the_config_is_a_model_or_refused(field: str, value: Any) -> None:
    parsed(sealed({"config": json.dumps({**GOOD, field: value})}))


@given(st.dictionaries(st.sampled_from(["cdf", "cdf_offset", "more"]), VECTORS, max_size=3))
def test_any_tensors_are_tables_or_refused(tensors: dict[str, Any]) -> None:
    assert parsed(sealed(tensors=tensors)) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(blob: bytes) -> None:
    assert parsed(blob) is None
    assert parsed(len(blob).to_bytes(8, "little") + blob) is None


@pytest.mark.parametrize(
    "header", ["{}", "[]", "null", '{"__metadata__": null}', '{"__metadata__": {}}', "[" * DEEP + "]" * DEEP]
)
def test_a_header_without_metadata_is_refused(header: str) -> None:
    assert parsed(len(header).to_bytes(8, "little") + header.encode()) is None


def test_tables_above_a_limit_are_refused_before_they_are_prepared_for_coding() -> None:
    table_bytes = TABLES.cdf.nbytes + TABLES.cdf_offset.nbytes
    assert model_object.parse(sealed(), table_bytes).tables is not None
    # Not even legal: nothing looked at them.
    for tensors in (None, {"cdf": np.zeros(table_bytes, np.uint8), "cdf_offset": np.zeros(1, np.uint8)}):
        with pytest.raises(LimitExceededError, match=f"max_model_bytes of {table_bytes - 1}"):
            model_object.parse(sealed(tensors=tensors), table_bytes - 1)


@pytest.mark.parametrize(
    ("name", "model_id", "origin"),
    [
        ("built", "5cde10fc981636ef3469fd60f60d8afdf8740eebcd7636eeb84615371e82c613", TablesOrigin.UNKNOWN),
        (
            "supplied",
            "b1c172d6ef64f52f8ffdf154c61c7168e634da65283c172dce6229cfa84eea44",
            TablesOrigin.SUPPLIED,
        ),
        (
            "without_tables",
            "6acd42eec512298868ab234905d818c96678d6d2eb9b449a625aefd955ad9f27",
            TablesOrigin.UNKNOWN,
        ),
    ],
)
def test_objects_of_before_the_origin_was_recorded_are_read(
    name: str, model_id: str, origin: TablesOrigin
) -> None:
    found = parsed((OBJECTS / f"{name}.safetensors").read_bytes())
    assert found is not None
    assert found.config.model_id == model_id
    assert found.tables_origin is origin
    assert (None if found.tables is None else found.tables.digest) == (
        None if name == "without_tables" else TABLES.digest
    )


def test_where_tables_came_from_is_recorded_unless_it_follows_from_the_config() -> None:
    def origin(stored: CodingTables | None, *, imported: bool, **fields: Any) -> TablesOrigin:
        blob = model_object.serialise(two_row_config(**fields), stored, {}, imported=imported)
        return model_object.parse(blob).tables_origin

    supplied = (TABLES.cdf, TABLES.cdf_offset)
    assert origin(TABLES, imported=False) is TablesOrigin.BUILT
    assert origin(TABLES, imported=True) is TablesOrigin.IMPORTED
    assert origin(TABLES, imported=True, tables=supplied) is TablesOrigin.SUPPLIED
    assert origin(None, imported=True, compression=False) is TablesOrigin.UNKNOWN
