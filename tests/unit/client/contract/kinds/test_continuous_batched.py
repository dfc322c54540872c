"""Laws of ContinuousBatchedConfig: its forms restore it, and what contradicts itself is refused by name."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropyd import ContinuousBatchedConfig, InvalidConfigError, priors
from entropyd.contract.dtypes import BOTTLENECK_DTYPES, numpy_dtype
from entropyd.contract.kinds import config_from_dict, config_from_message, config_to_message
from entropyd.contract.tables import RawTables
from entropyd.v1 import types_pb2
from tests.support.config_cases import any_prior
from tests.support.reference_identity import jcs

PRIOR = priors.NoisyNormal(loc=[0.0, 1.25], scale=1.0)
CDF = [-4, 0, 3, 16, -4, 0, 1, 16]
FLOATS = st.floats(-8, 8, width=32)


@st.composite
def configs(draw: st.DrawFn) -> ContinuousBatchedConfig:
    """With a prior, or of tables alone; with an offset of one of its shapes or without."""
    prior = draw(st.none() | any_prior())
    shape = draw(st.sampled_from([(), (2,), (2, 3)])) if prior is None else prior.batch_shape
    rows = int(np.prod(shape))
    tables: dict[str, Any] = {}
    if prior is None or draw(st.booleans()):
        tables = {"cdf": [-1, 0, 2] * rows, "cdf_offset": draw(st.lists(st.integers(-9, 9), min_size=rows))}
    offsets: dict[str, Any] = {"offset_heuristic": False}
    if draw(st.booleans()):
        given_shape = draw(st.sampled_from([shape, shape[-1:], (), (1,) * len(shape)]))
        size = int(np.prod(given_shape))
        values = draw(st.lists(FLOATS, min_size=size, max_size=size))
        offsets = {"quantization_offset": np.reshape(values, given_shape)}
    elif prior is not None:
        offsets = {"offset_heuristic": draw(st.booleans())}
    return ContinuousBatchedConfig(
        prior=prior,
        prior_shape=shape if prior is None else None,  # type: ignore[arg-type]
        coding_rank=len(shape) + draw(st.integers(0, 2)),
        bottleneck_dtype=draw(st.sampled_from(BOTTLENECK_DTYPES)),
        stateless=draw(st.booleans()),
        tail_mass=draw(st.floats(0, 1, exclude_min=True, exclude_max=True)),
        **tables,
        **offsets,
    )


@given(configs())
def test_every_form_restores_a_configuration(config: ContinuousBatchedConfig) -> None:
    document = json.loads(json.dumps(config.to_dict()))
    message = types_pb2.ModelConfig.FromString(config_to_message(config).SerializeToString())
    assert config.canonical_json.decode() == jcs(config.to_dict())
    for restored in (
        config_from_dict(document),
        config_from_message(message),
        pickle.loads(pickle.dumps(config)),  # noqa: S301 - our own
        copy.deepcopy(config),
    ):
        assert isinstance(restored, ContinuousBatchedConfig)
        assert restored == config
        assert restored.model_id == config.model_id
        assert restored.prior_shape == config.prior_shape
    assert config_to_message(config_from_message(message)) == message


@given(configs(), st.data())
def test_supplied_tables_bring_their_offset(config: ContinuousBatchedConfig, data: st.DataObject) -> None:
    rows = config.table_rows
    offset = None
    if data.draw(st.booleans()):
        dtype = np.float64 if config.bottleneck_dtype == "float64" else np.float32
        offset = np.full(rows, data.draw(st.integers(-4, 4)) / 8, dtype)
    tables = RawTables(np.array([-1, 0, 2] * rows, np.int32), np.zeros(rows, np.int32), offset)
    supplied = config.with_tables(tables)
    assert supplied.supplied_tables is not None
    assert supplied.supplied_tables.digest == tables.digest
    assert supplied.allows_offset(offset)
    assert supplied.allows_offset(None) == (offset is None)
    fixed = supplied.with_fixed_offset(tables)
    assert fixed.quantization_offset is None or not fixed.offset_heuristic or fixed is supplied
    assert fixed.allows_offset(offset)


@pytest.mark.parametrize("dtype", BOTTLENECK_DTYPES)
@given(values=st.lists(st.floats(-100, 100), min_size=2, max_size=2))
def test_offsets_that_round_to_the_same_numbers_make_one_model(dtype: str, values: list[float]) -> None:
    narrow = np.array(values, np.float64 if dtype == "float64" else np.float32).astype(numpy_dtype(dtype))
    one, other = (
        ContinuousBatchedConfig(PRIOR, 1, bottleneck_dtype=dtype, quantization_offset=offset)
        for offset in (values, narrow)
    )
    assert one.model_id == other.model_id
    np.testing.assert_array_equal(one.quantization_offset, narrow.astype(one.quantization_offset.dtype))
    assert not one.quantization_offset.flags.writeable


REFUSED: dict[str, tuple[dict[str, Any], set[str]]] = {
    "nothing": ({}, {"coding_rank", "prior", "offset_heuristic"}),
    "no rank": ({"prior": PRIOR}, {"coding_rank"}),
    "a rank below the prior's": ({"prior": PRIOR, "coding_rank": 0}, {"coding_rank"}),
    "a rank below prior_shape's": (
        {"prior_shape": (2,), "cdf": CDF, "cdf_offset": [0, 0], "coding_rank": 0, "offset_heuristic": False},
        {"coding_rank"},
    ),
    "another prior_shape": ({"prior": PRIOR, "coding_rank": 1, "prior_shape": (3,)}, {"prior_shape"}),
    "no prior_shape": (
        {"cdf": CDF, "cdf_offset": [0, 0], "coding_rank": 1, "offset_heuristic": False},
        {"prior_shape"},
    ),
    "cdf alone": ({"prior": PRIOR, "coding_rank": 1, "cdf": CDF}, {"cdf_offset"}),
    "cdf_offset alone": ({"prior": PRIOR, "coding_rank": 1, "cdf_offset": [0, 0]}, {"cdf"}),
    "tables without compression": (
        {"prior": PRIOR, "coding_rank": 1, "cdf": CDF, "cdf_offset": [0, 0], "compression": False},
        {"cdf"},
    ),
    "nothing to compute an offset from": (
        {"prior_shape": (2,), "cdf": CDF, "cdf_offset": [0, 0], "coding_rank": 1},
        {"offset_heuristic"},
    ),
    "shapes of tables": ({"prior": PRIOR, "coding_rank": 1, "cdf_shapes": (8, 2)}, {"cdf_shapes"}),
    "an offset of another shape": (
        {"prior": PRIOR, "coding_rank": 1, "quantization_offset": [0, 0, 0]},
        {"quantization_offset"},
    ),
    "an offset that is no number": (
        {"prior": PRIOR, "coding_rank": 1, "quantization_offset": [0, np.nan]},
        {"quantization_offset"},
    ),
    "an offset beyond the dtype": (
        {"prior": PRIOR, "coding_rank": 1, "bottleneck_dtype": "float16", "quantization_offset": 1e6},
        {"quantization_offset"},
    ),
    "a string for an offset": (
        {"prior": PRIOR, "coding_rank": 1, "quantization_offset": "0"},
        {"quantization_offset"},
    ),
}


@pytest.mark.parametrize(("arguments", "fields"), REFUSED.values(), ids=REFUSED)
def test_what_contradicts_itself_is_refused_by_name(arguments: dict[str, Any], fields: set[str]) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        ContinuousBatchedConfig(**arguments)
    assert {violation.field for violation in caught.value.violations} == fields
