"""Reads the variables of a model in TFC's order, and replaces them.

Invariant: a model whose own weights are set has the same configuration, and so the same id.

TFC's order is that of `tf.Module.variables`: cdf, cdf_offset, then the prior's own. Tables of a stateless
model are tensors, not variables, and are left out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from entropyd.contract.errors import InvalidConfigError, InvalidTensorError, Violation
from entropyd_server.coding.tables import CodingTables

if TYPE_CHECKING:
    from entropyd.contract.config import UniversalBatchedConfig
    from entropyd.contract.parameters import Array
    from entropyd_server.store.model_store import StoredModel

TABLES = ("cdf", "cdf_offset")


def weights_of(model: StoredModel) -> dict[str, Array]:
    """Returns the variables of a model by name, in TFC's order."""
    variables = dict(model.config.prior.variables)
    if model.tables is None or model.config.stateless:
        return variables
    return {"cdf": model.tables.cdf, "cdf_offset": model.tables.cdf_offset, **variables}


def with_weights(model: StoredModel, arrays: dict[str, Array]) -> UniversalBatchedConfig:
    """Returns the configuration of a model with other weights; its own if they are equal to the bit.

    Raises:
      InvalidTensorError: If `cdf` and `cdf_offset` are no tables of the model; names them as weights.
    """
    config = model.config
    prior = config.prior.with_variables({name: arrays[name] for name in arrays if name not in TABLES})
    changed = replace(config, prior=prior) if prior != config.prior else config
    if "cdf" not in arrays or model.tables is None:
        return changed
    try:
        tables = CodingTables.parse(arrays["cdf"], arrays["cdf_offset"])
    except InvalidConfigError as error:
        fields = {name: f"weights[{position}]" for position, name in enumerate(TABLES)}
        problems = [
            Violation(fields.get(problem.field, "weights"), problem.description)
            for problem in error.violations
        ]
        raise InvalidTensorError.of(problems) from error
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
    return replace(changed, tables=(tables.cdf, tables.cdf_offset))
