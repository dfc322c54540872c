"""Laws of TabulatedConfig: its forms restore it, lists and matrices make it, all problems are named."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from entropyd import InvalidConfigError, ModelStateError, TabulatedConfig
from entropyd.contract.dtypes import BOTTLENECK_DTYPES
from entropyd.contract.kinds import (
    check_fittable,
    config_from_dict,
    config_from_message,
    config_to_message,
)
from entropyd.contract.tables import RawTables
from entropyd.v1 import types_pb2
from tests.support.config_cases import JSON, with_a_value_replaced
from tests.support.reference_identity import jcs


@st.composite
def row_lists(draw: st.DrawFn, precision: int) -> list[list[int]]:
    inner = st.lists(st.integers(1, (1 << precision) - 1), max_size=6, unique=True)
    return [[0, *sorted(row), 1 << precision] for row in draw(st.lists(inner, min_size=1, max_size=6))]


@st.composite
def arguments(draw: st.DrawFn) -> dict[str, Any]:
    """Constructor arguments of a legal configuration."""
    coder = draw(st.sampled_from(["range", "rans64"]))
    precision = 16 if coder == "rans64" else draw(st.integers(3, 16))
    rows = draw(row_lists(precision))
    count = len(rows)
    shape = draw(st.sampled_from([None, (count,), (1, count), (count, 1), *[()] * (count == 1)]))
    by_index = draw(st.booleans())
    offset: Any = draw(st.none() | st.floats(-9, 9) | st.just(np.linspace(-1, 1, count).reshape(shape or -1)))
    rank = 0 if by_index else len((count,) if shape is None else shape)
    return {
        "rows": rows,
        "offsets": draw(st.lists(st.integers(-(2**29), 2**29), min_size=count, max_size=count)),
        "coding_rank": rank + draw(st.integers(0, 2)),
        "row_by": "index" if by_index and shape != () else "position",
        "row_shape": shape,
        "precision": precision,
        "coder": coder,
        "bottleneck_dtype": draw(st.sampled_from([None, *BOTTLENECK_DTYPES])),
        "quantization_offset": None if shape == () and np.ndim(offset) else offset,
    }


def configs() -> st.SearchStrategy[TabulatedConfig]:
    return arguments().map(lambda given: TabulatedConfig(**given))


@given(configs())
def test_every_form_restores_a_configuration(config: TabulatedConfig) -> None:
    message = types_pb2.ModelConfig.FromString(config_to_message(config).SerializeToString())
    assert config.canonical_json.decode() == jcs(config.to_dict())
    for restored in (
        config_from_dict(json.loads(json.dumps(config.to_dict()))),
        config_from_message(message),
        pickle.loads(pickle.dumps(config)),  # noqa: S301 - our own
        copy.deepcopy(config),
        config.with_tables(config.supplied_tables),
    ):
        assert restored == config
        assert restored.model_id == config.model_id
    assert config_to_message(config_from_message(message)) == message


@given(arguments())
def test_a_padded_matrix_with_lengths_is_the_list_of_its_rows(given: dict[str, Any]) -> None:
    rows = given["rows"]
    matrix = np.full((len(rows), 9), -1, np.int64)
    for row, values in enumerate(rows):
        matrix[row, : len(values)] = values
    lengths = [len(values) for values in rows]
    padded = TabulatedConfig(**{**given, "rows": matrix, "lengths": lengths})
    assert padded == TabulatedConfig(**given)
    assert TabulatedConfig(**{**given, "rows": list(matrix), "lengths": np.array(lengths)}) == padded


@settings(max_examples=40)
@given(configs(), JSON, st.data())
def test_a_document_with_one_value_replaced_is_a_configuration_or_refused(
    config: TabulatedConfig, value: Any, data: st.DataObject
) -> None:
    try:
        restored = config_from_dict(with_a_value_replaced(config.to_dict(), value, data))
    except InvalidConfigError:
        return
    assert config_from_dict(restored.to_dict()) == restored


@settings(max_examples=40)
@given(configs(), st.data())
def test_a_message_with_some_bytes_changed_is_a_configuration_or_refused(
    config: TabulatedConfig, data: st.DataObject
) -> None:
    content = bytearray(config_to_message(config).SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    message = types_pb2.ModelConfig()
    try:
        message.ParseFromString(bytes(content))
    except DecodeError:
        return
    try:
        restored = config_from_message(message)
    except InvalidConfigError:
        return
    assert config_from_message(config_to_message(restored)) == restored


ROWS = [[0, 5, 16], [0, 3, 9, 16]]


def config(**given: Any) -> TabulatedConfig:
    return TabulatedConfig(**{"rows": ROWS, "offsets": [-1, 2], "coding_rank": 1, "precision": 4, **given})


def test_its_tables_are_in_the_layout_of_the_other_kinds() -> None:
    made = config()
    assert made.cdf.tolist() == [-4, 0, 5, 16, -4, 0, 3, 9, 16]
    assert made.cdf_offset.tolist() == [-1, 2]
    assert not made.cdf.flags.writeable
    assert (made.row_shape, made.unit_axes, made.index_ranges) == ((2,), (2,), None)
    assert (made.range_coder_precision, made.table_rows, made.coder) == (4, 2, "range")
    by_index = config(row_by="index", row_shape=(1, 2), coding_rank=0)
    assert (by_index.unit_axes, by_index.index_ranges, by_index.channel_axis) == ((), (1, 2), -1)
    assert config(row_by="index").channel_axis is None


def test_it_has_no_density_and_cannot_be_fitted() -> None:
    made = config(row_by="index")
    assert (made.prior, made.family, made.has_tables) == (None, None, True)
    for call in (lambda: made.needed_prior, lambda: made.bits_dtype):
        with pytest.raises(ModelStateError, match="no density") as caught:
            call()
        assert caught.value.reason == "MODEL_WITHOUT_PRIOR"
    with pytest.raises(InvalidConfigError, match="is tabulated; expected universal_batched or continuous_b"):
        check_fittable(made)


def test_an_offset_is_one_of_each_row_and_part_of_the_tables() -> None:
    made = config(quantization_offset=[0.25, 0.1], bottleneck_dtype="float16")
    tables = made.supplied_tables
    assert tables.quantization_offset is not None
    assert tables.quantization_offset.tolist() == [0.25, float(np.float16(0.1))]
    assert made.allows_offset(tables.quantization_offset)
    assert not made.allows_offset(None)
    assert not config().allows_offset(tables.quantization_offset)
    other = made.with_tables(RawTables(tables.cdf, tables.cdf_offset + 1, tables.quantization_offset + 1))
    assert other.quantization_offset.tolist() == [1.25, float(np.float16(1.1))]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"rows": [[0, 5, 5, 16], ROWS[1]]}, "rows row 0 stays at 5 at element 2; expected values that rise"),
        ({"rows": [ROWS[0], [0, 9, 3, 16]]}, "rows row 1 falls from 9 to 3 at element 2"),
        ({"rows": [ROWS[0], [0, -9, 16]]}, "rows row 1 falls from 0 to -9 at element 1"),
        ({"rows": [ROWS[0], [1, 3, 16]]}, "rows row 1 begins its probabilities with 1; expected 0"),
        ({"rows": [ROWS[0], [0, 3, 15]]}, "rows row 1 ends with 15; expected 2\\^precision = 16"),
        (
            {"rows": [ROWS[0], np.array([0, 3, 2**64 - 1], np.uint64)]},
            "rows row 1 ends with 9223372036854775807; expected 2",
        ),
        ({"rows": [ROWS[0], [0, 3, 2**70]]}, "rows row 1 is object of rank 1; expected a vector of integers"),
        ({"rows": [ROWS[0], [0]]}, "rows row 1 has 1; expected at least 2 entries"),
        ({"rows": [ROWS[0], [0.0, 16.0]]}, "rows row 1 is float64 of rank 1; expected a vector of integers"),
        ({"rows": [ROWS[0], 16]}, "rows row 1 is int64 of rank 0; expected a vector of integers"),
        ({"rows": [ROWS[0], [[0], [1, 2]]]}, "rows row 1 is object of rank 0; expected a vector of integers"),
        ({"rows": []}, "rows are none; expected at least one"),
        ({"rows": None}, "rows are object of rank 0; expected a list of rows of integers, or a matrix"),
        ({"rows": np.zeros((2, 3))}, "rows are float64 of rank 2; expected a list of rows of integers"),
        ({"offsets": [1]}, "offsets has length 1; expected 2, one per row"),
        ({"offsets": [1, 2**29 + 1]}, "offsets row 1 has 536870913; expected at most 2\\^29 in magnitude"),
        ({"offsets": [1, 0.5]}, "offsets has dtype float64; expected integers"),
        ({"lengths": [3]}, "lengths has length 1; expected 2, one per row"),
        ({"lengths": [3, 5]}, "lengths row 1 has 5; expected at most 4 entries, which it has"),
        ({"lengths": [1, 4]}, "lengths row 0 has 1; expected at least 2 entries"),
        ({"precision": 0}, "precision is 0; expected an integer from 1 to 16"),
        ({"precision": 17}, "precision is 17; expected an integer from 1 to 16"),
        ({"row_by": "channel"}, "row_by is 'channel'; expected one of position, index"),
        ({"coder": "ans"}, "coder is 'ans'; expected one of range, rans64"),
        ({"coder": "rans64"}, "coder is rans64, and the rows have precision 4; expected precision 16"),
        ({"row_shape": (3,)}, "row_shape is \\(3,\\), which is 3 rows; there are 2"),
        ({"row_shape": (0,)}, "row_shape is \\(0,\\); expected at most 8 axes"),
        ({"row_shape": (1, 2)}, "coding_rank is 1; expected an integer from 2 to 32"),
        ({"coding_rank": 0}, "coding_rank is 0; expected an integer from 1 to 32"),
        ({"coding_rank": None}, "coding_rank is missing"),
        ({"row_by": "index", "row_shape": (), "rows": ROWS[:1], "offsets": [0]}, "row_shape is \\(\\)"),
        ({"bottleneck_dtype": "int32"}, "bottleneck_dtype is 'int32'; expected one of float16"),
        ({"quantization_offset": [1, 2, 3]}, "quantization_offset has shape \\(3,\\); expected one that"),
        ({"quantization_offset": np.nan}, "quantization_offset holds NaN or infinities"),
        ({"quantization_offset": 1e6, "bottleneck_dtype": "float16"}, "beyond the range of float16"),
    ],
)
def test_a_bad_argument_is_refused_by_name(given: dict[str, Any], found: str) -> None:
    with pytest.raises(InvalidConfigError, match=found) as caught:
        config(**given)
    assert len(caught.value.violations) == 1


def test_everything_that_is_wrong_is_named_at_once_and_a_few_of_each_kind() -> None:
    rows = [[0, 7, 7, 8], [2, 16], *[[0, 5, 16]] * 8, [0, 16, 16]]
    with pytest.raises(InvalidConfigError) as caught:
        config(rows=rows, offsets=[2**30] * 11, coding_rank=-1, row_by="", coder=0, bottleneck_dtype="x")
    fields = [violation.field for violation in caught.value.violations]
    assert fields == [*["offsets"] * 8, *["rows"] * 4, "coding_rank", "row_by", "coder", "bottleneck_dtype"]


def test_tables_in_a_document_or_a_message_are_checked_as_rows_are() -> None:
    document = config().to_dict()
    message = config_to_message(config())
    for bad, found in (
        ([-4, 0, 5, 5, 16, -4, 0, 16], "tables.cdf row 0 stays at 5 at element 3; expected values that rise"),
        (
            [-4, 0, 5, 16, -3, 0, 8],
            "tables.cdf row 1 has precision 3 and row 0 has 4; expected one precision",
        ),
        ([-4, 0, 5, 16], "tables.cdf_offset has length 2; expected 1, one per row of cdf"),
    ):
        tables = (np.array(bad, np.int32), config().cdf_offset)
        document["tables"] = TabulatedConfig.fields["tables"].to_json(tables)
        message.tabulated.tables.CopyFrom(TabulatedConfig.fields["tables"].to_message(tables))
        with pytest.raises(InvalidConfigError, match=found):
            config_from_dict(document)
        with pytest.raises(InvalidConfigError, match=found):
            config_from_message(message)
    message.tabulated.ClearField("tables")
    message.tabulated.row_by = types_pb2.ROW_BY_UNSPECIFIED
    with pytest.raises(
        InvalidConfigError, match=r"tables are None; expected .*; row_by is '0'; expected one"
    ):
        config_from_message(message)
