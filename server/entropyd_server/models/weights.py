"""The variables of a model, in TFC's order, and the model that has other ones.

Owns that order and the checks of what is set. It must not know where models live. Invariant: the weights of a
model set on itself give the same configuration, and so the same id.

TFC's order is that of `tf.Module.variables`: cdf, cdf_offset, then the prior's own. Tables of a stateless
model are tensors, not variables, and do not count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from entropyd.contract.errors import InvalidConfigError, InvalidTensorError, Violation
from entropyd.contract.tables import RawTables
from entropyd.contract.wire import array_from_message
from entropyd_server.coding.tables import CodingTables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from entropyd.contract.config import ModelConfig
    from entropyd.contract.parameters import Array
    from entropyd.v1 import types_pb2
    from entropyd_server.store.model_store import StoredModel

TABLES = ("cdf", "cdf_offset")


def weights_of(model: StoredModel) -> dict[str, Array]:
    """The variables of a model by name, in TFC's order."""
    variables = dict(model.config.prior.variables) if model.config.prior is not None else {}
    if model.tables is None or model.config.stateless:
        return variables
    return {"cdf": model.tables.cdf, "cdf_offset": model.tables.cdf_offset, **variables}


def parse_weights(tensors: Sequence[types_pb2.Tensor], model: StoredModel) -> dict[str, Array]:
    """Reads the weights to set on a model.

    Returns:
      Arrays by name, in TFC's order.

    Raises:
      InvalidTensorError: Naming every weight of wrong dtype or shape; or `weights`, if their number is wrong.
    """
    current = weights_of(model)
    if len(tensors) != len(current):
        names = ", ".join(current) or "none"
        found = f"has {len(tensors)} tensors; expected {len(current)}: {names}"
        raise InvalidTensorError.of([Violation("weights", found)])
    problems: list[Violation] = []
    arrays: dict[str, Array] = {}
    for number, (name, tensor) in enumerate(zip(current, tensors, strict=True)):
        field = f"weights[{number}]"
        dtype, array = array_from_message(tensor, field)
        expected = current[name]
        if dtype != expected.dtype.name:
            problems.append(Violation(field, f"({name}) has dtype {dtype}; expected {expected.dtype.name}"))
        # As in TFC, tables may have another length: those of another density usually do.
        elif array.shape != expected.shape if name not in TABLES else array.ndim != 1:
            wanted = "a vector" if name in TABLES else expected.shape
            problems.append(Violation(field, f"({name}) has shape {array.shape}; expected {wanted}"))
        elif not np.isfinite(array).all():
            problems.append(Violation(field, f"({name}) holds NaN or infinities; expected finite numbers"))
        arrays[name] = array
    if problems:
        raise InvalidTensorError.of(problems)
    return arrays


def with_weights(model: StoredModel, arrays: dict[str, Array]) -> ModelConfig:
    """The configuration of a model with other weights: its own where they are equal to the bit.

    Raises:
      InvalidTensorError: If the tables are none; names them as weights.
    """
    config = model.config
    changed = config
    if config.prior is not None:
        prior = config.prior.with_variables({name: arrays[name] for name in arrays if name not in TABLES})
        changed = config.with_prior(prior) if prior != config.prior else config
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
            raise InvalidTensorError.of([Violation(f"weights[{number}]", problem)])
    if changed is config and tables.digest == model.tables.digest:
        return config
    return changed.with_tables(RawTables(tables.cdf, tables.cdf_offset))
