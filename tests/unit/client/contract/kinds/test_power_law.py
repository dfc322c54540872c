"""Laws of PowerLawConfig: its forms restore it, and what it lacks says so."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropyd import InvalidConfigError, ModelStateError, PowerLawConfig
from entropyd.contract.dtypes import BOTTLENECK_DTYPES
from entropyd.contract.kinds import config_from_dict, config_from_message, config_to_message
from entropyd.contract.tables import RawTables
from entropyd.v1 import types_pb2
from tests.support.reference_identity import jcs


def configs() -> st.SearchStrategy[PowerLawConfig]:
    alphas = st.floats(0, exclude_min=True, allow_infinity=False)
    return st.builds(PowerLawConfig, st.integers(0, 32), alphas, st.sampled_from(BOTTLENECK_DTYPES))


@given(configs())
def test_every_form_restores_a_configuration(config: PowerLawConfig) -> None:
    message = types_pb2.ModelConfig.FromString(config_to_message(config).SerializeToString())
    assert config.canonical_json.decode() == jcs(config.to_dict())
    for restored in (
        config_from_dict(json.loads(json.dumps(config.to_dict()))),
        config_from_message(message),
        pickle.loads(pickle.dumps(config)),  # noqa: S301 - our own
        copy.deepcopy(config),
    ):
        assert restored == config
        assert restored.model_id == config.model_id
    assert config_to_message(config_from_message(message)) == message


def test_it_compresses_without_prior_tables_or_indexes() -> None:
    config = PowerLawConfig(2)
    assert (config.alpha, config.bottleneck_dtype) == (0.01, "float32")
    assert (config.prior, config.family, config.prior_shape, config.unit_axes) == (None, None, (), ())
    assert (config.compression, config.has_tables, config.table_rows) == (True, False, 0)
    assert (config.supplied_tables, config.index_ranges, config.numbers_units) == (None, None, False)
    with pytest.raises(ModelStateError, match="no prior") as without_prior:
        config.needed_prior  # noqa: B018 - raises
    assert without_prior.value.reason == "MODEL_WITHOUT_PRIOR"
    with pytest.raises(ModelStateError, match="no coding tables") as without_tables:
        config.with_tables(RawTables(np.zeros(0, np.int32), np.zeros(0, np.int32)))
    assert without_tables.value.reason == "MODEL_WITHOUT_TABLES"


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"coding_rank": -1}, "coding_rank is -1; expected an integer from 0 to 32"),
        ({"coding_rank": None}, "coding_rank is missing"),
        ({"coding_rank": 1, "alpha": 0}, "alpha is 0; expected a finite number x > 0"),
        ({"coding_rank": 1, "alpha": np.inf}, "alpha is inf"),
        ({"coding_rank": 1, "alpha": np.nan}, "alpha is nan"),
        ({"coding_rank": 1, "alpha": "1"}, "alpha is '1'"),
        ({"coding_rank": 1, "bottleneck_dtype": "uint8"}, "bottleneck_dtype is 'uint8'"),
    ],
)
def test_a_bad_argument_is_refused_by_name(arguments: dict[str, Any], found: str) -> None:
    with pytest.raises(InvalidConfigError, match=found) as caught:
        PowerLawConfig(**arguments)
    assert len(caught.value.violations) == 1
