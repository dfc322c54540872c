"""Laws of the indexed kinds: every form restores a configuration, and what is wrong is refused by name."""

from __future__ import annotations

import copy
import json
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from entropyd import (
    ContinuousBatchedConfig,
    ContinuousIndexedConfig,
    InvalidConfigError,
    LocationScaleIndexedConfig,
    PowerLawConfig,
    UniversalBatchedConfig,
    UniversalIndexedConfig,
    priors,
)
from entropyd.contract.kinds import config_from_dict, config_from_message, config_to_message
from entropyd.contract.tables import RawTables
from entropyd.v1 import types_pb2
from tests.support.config_cases import JSON, indexed_configs, with_a_value_replaced
from tests.support.reference_identity import jcs

if TYPE_CHECKING:
    from entropyd.contract.kinds.indexed import IndexedConfig

KINDS: list[Any] = [
    ContinuousIndexedConfig,
    LocationScaleIndexedConfig,
    UniversalIndexedConfig,
]
SCALES = priors.indexed("NoisyNormal", (64,), loc=0.0, scale=priors.log_spaced(0.11, 256))
TWO = priors.indexed("NoisyNormal", (4, 5), loc=priors.affine(-1, 0.5), scale=priors.exp_affine(0, 1, axis=1))


def configs() -> st.SearchStrategy[IndexedConfig]:
    return st.sampled_from(KINDS).flatmap(indexed_configs)


@given(configs())
def test_every_form_restores_a_configuration(config: IndexedConfig) -> None:
    document = json.loads(json.dumps(config.to_dict()))
    message = types_pb2.ModelConfig.FromString(config_to_message(config).SerializeToString())
    assert config.canonical_json.decode() == jcs(config.to_dict())
    for restored in (
        config_from_dict(document),
        config_from_message(message),
        pickle.loads(pickle.dumps(config)),  # noqa: S301 - our own
        copy.deepcopy(config),
    ):
        assert type(restored) is type(config)
        assert restored == config
        assert hash(restored) == hash(config)
        assert restored.model_id == config.model_id
        assert restored.index_ranges == config.index_ranges
        assert all(getattr(restored, name) is not None for name in document.keys() - {"channel_axis", "kind"})
    assert config_to_message(config_from_message(message)) == message


@given(configs())
def test_a_form_has_every_argument_of_the_class_but_tables(config: IndexedConfig) -> None:
    left_out = {"tables"} if config.tables is None else set()
    assert config.to_dict().keys() == {"kind", *config.fields} - left_out


@given(configs())
def test_rows_are_the_grid_of_the_indexes_and_no_axis_of_a_unit_is_fixed(config: IndexedConfig) -> None:
    levels = config.num_noise_levels if isinstance(config, UniversalIndexedConfig) else 1
    assert config.index_ranges == config.prior_shape == config.prior.batch_shape
    assert config.table_rows == levels * np.prod(config.index_ranges)
    assert config.unit_axes == ()
    assert config.prior_dtype == config.prior.dtype
    assert config.has_tables == config.compression
    assert config.numbers_units == isinstance(config, UniversalIndexedConfig)


@given(configs(), configs())
def test_configurations_are_equal_exactly_when_their_ids_are(
    one: IndexedConfig, other: IndexedConfig
) -> None:
    assert (one == other) == (one.model_id == other.model_id)


@given(configs(), JSON, st.data())
def test_a_document_with_one_value_replaced_is_a_configuration_or_refused(
    config: IndexedConfig, value: Any, data: st.DataObject
) -> None:
    try:
        restored = config_from_dict(with_a_value_replaced(config.to_dict(), value, data))
    except InvalidConfigError:
        return
    assert config_from_dict(restored.to_dict()) == restored


@given(configs(), st.data())
def test_a_message_with_some_bytes_changed_is_a_configuration_or_refused(
    config: IndexedConfig, data: st.DataObject
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


def test_batched_kinds_have_no_indexes_and_fix_the_axes_of_their_prior() -> None:
    prior = priors.NoisyNormal(np.zeros((2, 3)), 1.0)
    for kind in (ContinuousBatchedConfig, UniversalBatchedConfig):
        config = kind(prior=prior, coding_rank=2)
        assert (config.index_ranges, config.unit_axes, config.numbers_units) == (None, (2, 3), False)
        assert config.has_tables
        assert not kind(prior=prior, coding_rank=2, compression=False).has_tables


@pytest.mark.parametrize("kind", KINDS)
def test_supplied_tables_are_kept_and_identify(kind: Any) -> None:
    tables = RawTables(np.array([-1, 0, 2], np.int32), np.array([3], np.int32))
    config = kind(prior=SCALES, coding_rank=1)
    supplied = config.with_tables(tables)
    assert config.supplied_tables is None
    assert supplied.supplied_tables is not None
    assert supplied.supplied_tables.digest == tables.digest
    assert supplied.model_id != config.model_id
    assert not supplied.allows_offset(np.zeros(64))


def test_location_scale_has_one_range_of_scales_and_always_checks_the_decoder() -> None:
    config = LocationScaleIndexedConfig(SCALES, 3)
    assert config.num_scales == 64
    assert config.decode_sanity_check
    with pytest.raises(TypeError):
        LocationScaleIndexedConfig(SCALES, 3, decode_sanity_check=False)  # type: ignore[call-arg]


@pytest.mark.parametrize("axis", [-2, -1, 0, 1, None])
def test_a_message_says_a_channel_axis_or_none(axis: int | None) -> None:
    config = ContinuousIndexedConfig(SCALES, 1, channel_axis=axis)
    message = config.to_message()
    assert message.HasField("channel_axis") == (axis is not None)
    assert message.no_channel_axis == (axis is None)
    assert config.to_dict()["channel_axis"] == axis
    assert ContinuousIndexedConfig.from_message(message).channel_axis == axis


def test_unset_fields_of_messages_take_their_defaults() -> None:
    prior = config_to_message(ContinuousIndexedConfig(SCALES, 1)).continuous_indexed.prior
    message = types_pb2.ContinuousIndexedConfig(prior=prior, coding_rank=1)
    assert ContinuousIndexedConfig.from_message(message) == ContinuousIndexedConfig(SCALES, 1)
    universal = types_pb2.UniversalIndexedConfig(prior=prior, coding_rank=1)
    assert UniversalIndexedConfig.from_message(universal) == UniversalIndexedConfig(SCALES, 1)
    scale = types_pb2.LocationScaleIndexedConfig(prior=prior, coding_rank=1)
    assert LocationScaleIndexedConfig.from_message(scale) == LocationScaleIndexedConfig(SCALES, 1)
    power = types_pb2.PowerLawConfig(coding_rank=1)
    assert PowerLawConfig.from_message(power) == PowerLawConfig(1)


def test_a_channel_axis_beside_none_is_refused() -> None:
    message = ContinuousIndexedConfig(SCALES, 1).to_message()
    message.no_channel_axis = True
    with pytest.raises(InvalidConfigError, match="channel_axis is -1 beside no_channel_axis"):
        ContinuousIndexedConfig.from_message(message)


C, L, U, P = ContinuousIndexedConfig, LocationScaleIndexedConfig, UniversalIndexedConfig, PowerLawConfig
ORDINARY = priors.NoisyNormal(0.0, 1.0)
COMPONENTS = priors.indexed("tfp.Normal", (4,), loc=priors.affine([0, 1], 1), scale=1.0)
FLOAT64 = priors.NoisyNormal(0.0, np.geomspace(0.11, 256, 64))
REFUSED: dict[str, tuple[type[Any], dict[str, Any], str]] = {
    "no prior": (C, {"prior": None, "coding_rank": 1}, "prior is missing"),
    "no rank": (C, {"prior": SCALES, "coding_rank": None}, "coding_rank is missing"),
    "no ranges": (C, {"prior": ORDINARY, "coding_rank": 1}, "prior has no index_ranges"),
    "components": (C, {"prior": COMPONENTS, "coding_rank": 1}, r"batch shape \(4, 2\); expected its index"),
    "no density": (
        C,
        {"prior": priors.RoundAdapter(priors.tfp("Normal", loc=[0.0], scale=1.0)), "coding_rank": 1},
        "prior is a RoundAdapter, which has no density",
    ),
    "an axis off the grid": (
        C,
        {"prior": SCALES, "coding_rank": 1, "channel_axis": 2},
        r"channel_axis is 2; expected an axis of the grid of index_ranges \(64,\), from -2 to 1",
    ),
    "a negative axis off the grid": (
        C,
        {"prior": TWO, "coding_rank": 1, "channel_axis": -4},
        r"channel_axis is -4; .*, from -3 to 2",
    ),
    "an axis beyond all": (
        C,
        {"prior": TWO, "coding_rank": 1, "channel_axis": 33},
        "an integer from -33 to 32",
    ),
    "an axis that is none": (C, {"prior": TWO, "coding_rank": 1, "channel_axis": "a"}, "channel_axis is 'a'"),
    "no axis for two ranges": (
        C,
        {"prior": TWO, "coding_rank": 1, "channel_axis": None},
        r"channel_axis is None; expected an axis for index_ranges \(4, 5\)",
    ),
    "two ranges of scales": (L, {"prior": TWO, "coding_rank": 1}, "expected one range, the number of scales"),
    "a scalar unit": (U, {"prior": SCALES, "coding_rank": 0}, "coding_rank is 0; expected an integer from 1"),
    "no levels": (U, {"prior": SCALES, "coding_rank": 1, "num_noise_levels": 0}, "num_noise_levels is 0"),
    "another dtype": (
        C,
        {"prior": SCALES, "coding_rank": 1, "prior_dtype": "float64"},
        "prior_dtype is float64; the prior's dtype is float32",
    ),
    "a half dtype": (
        U,
        {"prior": SCALES, "coding_rank": 1, "prior_dtype": "float16"},
        "prior_dtype is 'float16'",
    ),
    "tables without compression": (
        L,
        {"prior": SCALES, "coding_rank": 1, "compression": False, "tables": ([-1, 0, 2], [0])},
        "tables are given, but compression is False",
    ),
    "an indexed prior in a batched model": (
        UniversalBatchedConfig,
        {"prior": SCALES, "coding_rank": 1},
        r"prior has index_ranges \(64,\), but the model takes no indexes",
    ),
    "an indexed prior in the other batched model": (
        ContinuousBatchedConfig,
        {"prior": SCALES, "coding_rank": 1},
        r"prior has index_ranges \(64,\), but the model takes no indexes",
    ),
}


@pytest.mark.parametrize(("kind", "arguments", "found"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_by_name(kind: type[Any], arguments: dict[str, Any], found: str) -> None:
    with pytest.raises(InvalidConfigError, match=found) as caught:
        kind(**arguments)
    assert len(caught.value.violations) == 1


@pytest.mark.parametrize("dtype", ["int32", "uint8", "uint16"])
@pytest.mark.parametrize("kind", KINDS)
def test_dtypes_of_indexes_are_none_of_bottlenecks(kind: Any, dtype: str) -> None:
    with pytest.raises(InvalidConfigError, match=f"bottleneck_dtype is '{dtype}'; expected one of float16"):
        kind(prior=SCALES, coding_rank=1, bottleneck_dtype=dtype)
    message = kind(prior=SCALES, coding_rank=1).to_message()
    message.bottleneck_dtype = types_pb2.DType.Value(f"D_TYPE_{dtype.upper()}")
    with pytest.raises(InvalidConfigError, match=f"bottleneck_dtype is '{dtype}'; expected one of float16"):
        kind.from_message(message)


def test_a_float64_prior_needs_no_prior_dtype() -> None:
    assert ContinuousIndexedConfig(FLOAT64, 1).prior_dtype == "float64"
    assert ContinuousIndexedConfig(FLOAT64, 1) == ContinuousIndexedConfig(FLOAT64, 1, prior_dtype=np.float64)


def test_all_problems_are_named_at_once() -> None:
    with pytest.raises(InvalidConfigError) as caught:
        UniversalIndexedConfig(ORDINARY, 0, tail_mass=2, prior_dtype="int8", tables=3)  # type: ignore[arg-type]
    fields = {violation.field for violation in caught.value.violations}
    assert fields == {"prior", "coding_rank", "tail_mass", "prior_dtype", "tables"}
