"""Reads the variables of a model in TFC's order, and replaces them.

Invariant: a model whose own weights are set has the same configuration, and so the same id.

TFC's order is that of `tf.Module.variables`: cdf, cdf_offset, quantization_offset if there is one, then the
prior's own. Tables of a stateless model are tensors, not variables, and are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from entropyd.contract.config import ModelConfig
from entropyd.contract.dtypes import narrowed
from entropyd.contract.errors import InvalidConfigError, InvalidTensorError, Violation
from entropyd.contract.parameters import Array
from entropyd.contract.tables import RawTables
from entropyd_server.coding.tables import CodingTables
from entropyd_server.store.model_store import StoredModel

TABLES = RawTables._fields


class Weight(NamedTuple):
    """A variable.

    Attributes:
      elements: Its value; uint16 bit patterns for bfloat16.
      dtype: Name of its dtype.
    """

    elements: Array
    dtype: str


def weights_of(model: StoredModel) -> dict[str, Weight]:
    """Returns the variables of a model by name, in TFC's order."""
    config, weights = model.config, {}
    if model.tables is not None and not config.stateless:
        for name, array in model.tables.raw.by_name().items():
            weights[name] = Weight(array, array.dtype.name)
        if model.tables.quantization_offset is not None:
            dtype = config.bottleneck_dtype
            offset = config.shaped_offset(model.tables.quantization_offset)
            weights["quantization_offset"] = Weight(narrowed(offset, dtype), dtype)
    if config.prior is not None:
        for name, array in config.prior.variables.items():
            weights[name] = Weight(array, array.dtype.name)
    return weights


def with_weights(model: StoredModel, arrays: dict[str, Array]) -> ModelConfig:
    """Returns the configuration of a model with other weights; its own if they are equal to the bit.

    Raises:
      InvalidTensorError: If `cdf` and `cdf_offset` are no tables of the model; names them as weights.
    """
    config = changed = model.config
    if config.prior is not None:
        prior = config.prior.with_variables({name: arrays[name] for name in arrays if name not in TABLES})
        changed = config.with_prior(prior) if prior != config.prior else config
    if "cdf" not in arrays or model.tables is None:
        return changed
    offset = arrays.get("quantization_offset")
    if offset is not None:
        offset = np.broadcast_to(offset, config.prior_shape).reshape(-1)
    with _named_as_weights():
        tables = CodingTables.parse(arrays["cdf"], arrays["cdf_offset"], offset)
    for number, (what, found, expected) in enumerate(
        (
            ("precision", tables.precision, config.range_coder_precision),
            ("rows", len(tables.cdf_offset), config.table_rows),
        )
    ):
        if found != expected:
            problem = f"({TABLES[number]}) has {what} {found}; expected {expected}"
            raise InvalidTensorError.at(f"weights[{number}]", problem)
    if changed is config and tables.digest == model.tables.digest:
        return config
    with _named_as_weights():
        return changed.with_tables(tables.raw)


@contextmanager
def _named_as_weights() -> Iterator[None]:
    """Says of weights what is wrong with the tables that they are."""
    fields = {name: f"weights[{position}]" for position, name in enumerate(TABLES)}
    try:
        yield
    except InvalidConfigError as error:
        problems = [
            Violation(fields.get(problem.field.removeprefix("tables."), "weights"), problem.description)
            for problem in error.violations
        ]
        raise InvalidTensorError.of(problems) from error
