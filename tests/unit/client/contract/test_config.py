"""Laws of configurations: what makes two the same, and how a bad one is refused."""

from __future__ import annotations

import itertools
import json
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropyd import UniversalBatchedConfig, priors
from entropyd.contract.errors import InvalidConfigError
from entropyd.contract.kinds import config_from_message, config_to_message
from entropyd.v1 import types_pb2
from tests.support.config_cases import JSON, config_arguments, configs, with_a_value_replaced
from tests.support.reference_identity import DEFAULTS, jcs

PRIOR = priors.NoisyNormal(loc=[0.0, 1.0], scale=1.0)


def config(**fields: Any) -> UniversalBatchedConfig:
    return UniversalBatchedConfig(**{"prior": PRIOR, "coding_rank": 1, **fields})


def refused_fields(**fields: Any) -> list[str]:
    with pytest.raises(InvalidConfigError) as caught:
        config(**fields)
    return [violation.field for violation in caught.value.violations]


@given(config_arguments(), st.randoms(use_true_random=False))
def test_the_id_depends_neither_on_the_order_of_arguments_nor_on_defaults_left_out(
    arguments: dict[str, Any], random: Any
) -> None:
    names = list(arguments)
    random.shuffle(names)
    shuffled = UniversalBatchedConfig(**{name: arguments[name] for name in names})
    complete = UniversalBatchedConfig(**{**DEFAULTS, **arguments})
    expected = UniversalBatchedConfig(**arguments)
    assert shuffled.model_id == complete.model_id == expected.model_id
    assert shuffled == complete == expected
    assert hash(shuffled) == hash(complete)


@given(configs(), configs())
def test_configurations_are_equal_exactly_when_their_ids_are(
    one: UniversalBatchedConfig, other: UniversalBatchedConfig
) -> None:
    assert (one == other) == (one.model_id == other.model_id) == (one.canonical_json == other.canonical_json)


@given(configs())
def test_the_canonical_json_is_an_independent_serialisation_of_the_same_dictionary(
    drawn: UniversalBatchedConfig,
) -> None:
    assert drawn.canonical_json.decode() == jcs(drawn.to_dict())


@given(configs())
def test_a_dictionary_restores_its_configuration_through_json(drawn: UniversalBatchedConfig) -> None:
    restored = UniversalBatchedConfig.from_dict(json.loads(json.dumps(drawn.to_dict())))
    assert restored == drawn
    assert UniversalBatchedConfig.from_dict(json.loads(drawn.canonical_json)).model_id == drawn.model_id


@given(configs())
def test_a_message_restores_its_configuration(drawn: UniversalBatchedConfig) -> None:
    message = config_to_message(drawn)
    restored = config_from_message(types_pb2.ModelConfig.FromString(message.SerializeToString()))
    assert restored == drawn
    assert config_to_message(restored) == message


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"coding_rank": 2}, {"coding_rank": np.int64(2)}),
        ({"num_noise_levels": 7}, {"num_noise_levels": np.uint8(7)}),
        ({"laplace_tail_mass": 0}, {"laplace_tail_mass": -0.0}),
        ({"laplace_tail_mass": 0}, {"laplace_tail_mass": np.float32(0)}),
        ({"tail_mass": 0.25}, {"tail_mass": np.float32(0.25)}),
        ({"expected_grads": True}, {"expected_grads": np.bool_(True)}),  # noqa: FBT003
        ({"compression": False}, {"compression": False, "stateless": True}),
        ({"bottleneck_dtype": None}, {"bottleneck_dtype": "float32"}),
        ({"tables": ([-1, 0, 2], [0])}, {"tables": [np.array([-1, 0, 2], np.int64), np.array([0], ">i2")]}),
    ],
)
def test_a_value_is_the_same_however_it_is_spelt(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert config(**one).model_id == config(**other).model_id


@pytest.mark.parametrize("name", ["float16", "float32", "float64"])
def test_a_dtype_is_a_name_or_whatever_has_that_name(name: str) -> None:
    spellings = [name, np.dtype(name), np.dtype(name).type, np.dtype(name).newbyteorder(">")]
    assert {config(bottleneck_dtype=spelling).bottleneck_dtype for spelling in spellings} == {name}


def test_bfloat16_is_the_type_of_ml_dtypes() -> None:
    for spelling in ("bfloat16", ml_dtypes.bfloat16, np.dtype(ml_dtypes.bfloat16)):
        assert config(bottleneck_dtype=spelling).bottleneck_dtype == "bfloat16"


def test_every_field_is_part_of_the_id() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"prior": priors.NoisyNormal(loc=[0.0, 1.0], scale=2.0)},
        {"prior": priors.NoisyLogistic(loc=[0.0, 1.0], scale=1.0)},
        {"coding_rank": 2},
        {"compression": False},
        {"laplace_tail_mass": 0.5},
        {"expected_grads": True},
        {"tail_mass": 0.5},
        {"range_coder_precision": 13},
        {"bottleneck_dtype": "float64"},
        {"num_noise_levels": 16},
        {"stateless": True},
        {"decode_sanity_check": False},
        {"tables": ([-1, 0, 2], [0])},
        {"tables": ([-1, 0, 2], [1])},
    ]
    ids = [config(**change).model_id for change in changes]
    assert len(set(ids)) == len(changes)


def test_the_rows_of_the_tables_are_noise_levels_times_prior_elements() -> None:
    drawn = config(prior=priors.NoisyLaplace(np.zeros((2, 3)), 1.0), coding_rank=2, num_noise_levels=7)
    assert drawn.prior_shape == (2, 3)
    assert drawn.table_rows == 42


BAD: dict[str, tuple[Any, ...]] = {
    "prior": (None, "NoisyNormal", 3),
    "coding_rank": (0, 33, -1, 1.0, True, None, "1"),
    "compression": (None, 1, "false", np.zeros(2)),
    "laplace_tail_mass": (-0.1, 1.0, float("nan"), None, "0"),
    "expected_grads": (None, 0, "no"),
    "tail_mass": (0.0, 1.0, float("nan"), float("inf"), None, "0.1"),
    "range_coder_precision": (0, 17, 12.0, None),
    "bottleneck_dtype": ("float8", np.int32, "f4", 3, [], {}),
    "num_noise_levels": (0, 65536, True, None),
    "stateless": (None, 2),
    "decode_sanity_check": (None, [], "True"),
    "tables": (np.zeros((2, 2), np.int32), (), ([0],), ([0], [0], [0]), "ab"),
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field in BAD for value in BAD[field]])
def test_a_bad_field_is_refused_by_name(field: str, value: Any) -> None:
    assert refused_fields(**{field: value}) == [field]


@given(st.sets(st.sampled_from(sorted(BAD)), min_size=1), st.data())
def test_every_bad_field_is_named_in_one_answer(fields: set[str], data: st.DataObject) -> None:
    given_fields = {field: data.draw(st.sampled_from(BAD[field])) for field in sorted(fields)}
    if "prior" in fields and given_fields.get("coding_rank", 1) == 0:
        given_fields["coding_rank"] = -1  # with no prior, 0 is no longer too small
    assert sorted(refused_fields(**given_fields)) == sorted(fields)


@pytest.mark.parametrize(
    "table",
    [[0.5], [[1]], 1, "1", [True], [2**31], [-(2**31) - 1], np.array([2**64 - 1], np.uint64), [[1], [1, 2]]],
)
def test_supplied_tables_are_vectors_of_int32(table: Any) -> None:
    assert refused_fields(tables=(table, [0])) == ["tables.cdf"]
    assert refused_fields(tables=([0], table)) == ["tables.cdf_offset"]


def test_tables_without_compression_are_refused() -> None:
    assert refused_fields(compression=False, tables=([-1, 0, 2], [0])) == ["tables"]


def test_a_configuration_cannot_be_changed() -> None:
    drawn = config(tables=([-1, 0, 2], [0]))
    assert drawn.tables is not None
    for array in (*drawn.tables, *drawn.prior.parameters.values()):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 1


@given(JSON)
def test_any_json_is_refused_as_an_invalid_configuration(document: Any) -> None:
    with pytest.raises(InvalidConfigError):
        UniversalBatchedConfig.from_dict(document)


@given(configs(), JSON, st.data())
def test_a_dictionary_with_one_value_replaced_is_a_configuration_or_refused(
    drawn: UniversalBatchedConfig, value: Any, data: st.DataObject
) -> None:
    document = with_a_value_replaced(drawn.to_dict(), value, data)
    try:
        restored = UniversalBatchedConfig.from_dict(document)
    except InvalidConfigError:
        return
    assert UniversalBatchedConfig.from_dict(restored.to_dict()) == restored


@pytest.mark.parametrize(
    ("way", "value"),
    [
        (("prior", "parameters", "loc", "dtype"), None),
        (("prior", "parameters", "loc", "dtype"), "(3,f4"),
        (("prior", "parameters", "loc", "dtype"), "O"),
        (("prior", "parameters", "loc", "shape"), [2**70]),
        (("prior", "parameters", "loc", "shape"), [3]),
        (("prior", "parameters", "loc", "data"), "AAA"),
        (("prior", "parameters"), []),
        (("prior", "family"), ["NoisyNormal"]),
        (("prior",), {"family": "NoisyDeepFactorized", "parameters": {"batch_shape": [float("inf")]}}),
        (("tables",), {"cdf": [1]}),
        (("num_filters",), [3]),
    ],
)
def test_a_damaged_dictionary_is_refused_as_an_invalid_configuration(
    way: tuple[str, ...], value: Any
) -> None:
    document = config().to_dict()
    spot = document
    for key in way[:-1]:
        spot = spot[key]
    spot[way[-1]] = value
    with pytest.raises(InvalidConfigError):
        UniversalBatchedConfig.from_dict(document)


def test_a_dictionary_is_refused_with_the_problems_of_its_prior_and_of_the_rest() -> None:
    document = config().to_dict()
    del document["prior"]["parameters"]["scale"]
    del document["coding_rank"]
    document["tail_mass"] = 7
    with pytest.raises(InvalidConfigError) as caught:
        UniversalBatchedConfig.from_dict(document)
    fields = [violation.field for violation in caught.value.violations]
    assert fields == ["prior.scale", "coding_rank", "tail_mass"]


@st.composite
def prior_messages(draw: st.DrawFn) -> types_pb2.Prior:
    names = ["loc", "scale", "weight", "batch_shape", "matrix_0", "bias_0", "factor_0", "other"]
    tensors = st.builds(
        types_pb2.Tensor,
        dtype=st.integers(0, 7),
        shape=st.lists(st.integers(-1, 3) | st.integers(2**62, 2**63 - 1), max_size=3),
        data=st.sampled_from([b"", b"\0\0\x80\x3f", bytes(8), b"\0\0\xc0\x7f" * 2, bytes(24)]),
    )
    values = st.one_of(
        st.just(types_pb2.PriorParameter()),
        tensors.map(lambda tensor: types_pb2.PriorParameter(tensor=tensor)),
        st.floats().map(lambda number: types_pb2.PriorParameter(number=number)),
        st.lists(st.integers(-(2**63), 2**63 - 1), max_size=10).map(
            lambda values: types_pb2.PriorParameter(integers=types_pb2.Integers(values=values))
        ),
        st.text(max_size=8).map(lambda text: types_pb2.PriorParameter(text=text)),
        st.just(types_pb2.PriorParameter(prior=types_pb2.Prior(family="NoisyNormal"))),
    )
    families = st.sampled_from(["NoisyNormal", "NoisyNormalMixture", "NoisyDeepFactorized"]) | st.text()
    given_values = draw(st.dictionaries(st.sampled_from(names), values, max_size=4))
    return types_pb2.Prior(family=draw(families), parameters=given_values)


@given(prior_messages(), st.integers(-(2**31), 2**31 - 1), st.floats(), st.integers(-1, 9))
def test_any_message_is_a_configuration_or_refused_as_an_invalid_one(
    prior: types_pb2.Prior, integer: int, real: float, dtype: int
) -> None:
    universal = types_pb2.UniversalBatchedConfig(
        prior=prior,
        coding_rank=integer % 5,
        tail_mass=real,
        num_noise_levels=integer,
        bottleneck_dtype=dtype,  # type: ignore[arg-type]
    )
    try:
        restored = config_from_message(types_pb2.ModelConfig(universal_batched=universal))
    except InvalidConfigError:
        return
    assert config_from_message(config_to_message(restored)) == restored


@given(st.binary(max_size=64))
def test_any_bytes_that_parse_are_a_configuration_or_refused_as_an_invalid_one(content: bytes) -> None:
    message = types_pb2.ModelConfig()
    try:
        message.ParseFromString(b"\x0a" + bytes([len(content)]) + content)
    except Exception:  # noqa: BLE001 - protobuf's own refusal
        return
    with pytest.raises(InvalidConfigError):
        config_from_message(message)


def number(value: float) -> types_pb2.PriorParameter:
    return types_pb2.PriorParameter(number=value)


def tensor(dtype: types_pb2.DType, data: bytes) -> types_pb2.PriorParameter:
    return types_pb2.PriorParameter(tensor=types_pb2.Tensor(dtype=dtype, data=data))


def test_a_message_is_refused_with_all_its_problems_at_once() -> None:
    universal = types_pb2.UniversalBatchedConfig(
        prior=types_pb2.Prior(
            family="NoisyNormalMixture",
            parameters={
                "loc": types_pb2.PriorParameter(text="0"),
                "scale": number(-1.0),
                "weight": types_pb2.PriorParameter(),
                "skew": number(0.0),
            },
        ),
        tail_mass=2.0,
        range_coder_precision=20,
    )
    with pytest.raises(InvalidConfigError) as caught:
        config_from_message(types_pb2.ModelConfig(universal_batched=universal))
    assert sorted(violation.field for violation in caught.value.violations) == [
        "coding_rank",
        "prior.loc",
        "prior.scale",
        "prior.skew",
        "prior.weight",
        "range_coder_precision",
        "tail_mass",
    ]


@pytest.mark.parametrize(
    ("dtype", "data"),
    [
        (types_pb2.D_TYPE_BFLOAT16, b"\x80\x3f"),
        (types_pb2.D_TYPE_FLOAT16, b"\x00\x3c"),
        (types_pb2.D_TYPE_INT32, b"\x01\x00\x00\x00"),
        (types_pb2.D_TYPE_UNSPECIFIED, b""),
    ],
)
def test_a_parameter_in_a_message_is_float32_or_float64(dtype: types_pb2.DType, data: bytes) -> None:
    prior = types_pb2.Prior(family="NoisyNormal", parameters={"loc": number(0), "scale": tensor(dtype, data)})
    universal = types_pb2.UniversalBatchedConfig(prior=prior, coding_rank=1)
    with pytest.raises(InvalidConfigError) as caught:
        config_from_message(types_pb2.ModelConfig(universal_batched=universal))
    assert [violation.field for violation in caught.value.violations] == ["prior.scale.dtype"]


def test_tables_in_a_message_are_int32() -> None:
    message = config_to_message(config(tables=([-1, 0, 2], [0])))
    message.universal_batched.tables.cdf_offset.dtype = types_pb2.D_TYPE_BFLOAT16
    message.universal_batched.tables.cdf_offset.data = b"\x00\x00"
    with pytest.raises(InvalidConfigError) as caught:
        config_from_message(message)
    assert [violation.field for violation in caught.value.violations] == ["tables.cdf_offset.dtype"]


def test_unset_fields_of_a_message_take_their_defaults() -> None:
    universal = types_pb2.UniversalBatchedConfig(
        prior=types_pb2.Prior(family="NoisyNormal", parameters={"loc": number(0), "scale": number(1)}),
        coding_rank=1,
    )
    read = config_from_message(types_pb2.ModelConfig(universal_batched=universal))
    assert read == config(prior=priors.NoisyNormal(0.0, 1.0))
    for name, default in DEFAULTS.items():
        assert getattr(read, name) == default


def test_a_message_without_kind_is_refused() -> None:
    with pytest.raises(InvalidConfigError) as caught:
        config_from_message(types_pb2.ModelConfig())
    assert [violation.field for violation in caught.value.violations] == ["config"]


def test_what_is_no_configuration_equals_none() -> None:
    assert config() != config().to_dict()
    assert all(one != other for one, other in itertools.permutations([config(), config(coding_rank=2)]))
