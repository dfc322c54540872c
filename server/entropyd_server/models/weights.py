"""The variables of a model, in TFC's order, and the model that has other ones.

TFC's order is that of `tf.Module.variables`: cdf, cdf_offset, quantization_offset if there is one, then the
prior's own. Tables of a stateless model are tensors, not variables, and do not count.

Invariant: the weights of a model set on itself give the same configuration, and so the same id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from entropyd.contract.dtypes import are_finite, narrowed, widened
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

TABLES = RawTables._fields
# As in TFC, tables may have another length: those of another density usually do.
_RESIZABLE = ("cdf", "cdf_offset")


class Weight(NamedTuple):
    """A variable.

    Attributes:
      elements: Its value; uint16 bit patterns for bfloat16.
      dtype: Name of its dtype.
    """

    elements: Array
    dtype: str


def weights_of(model: StoredModel) -> dict[str, Weight]:
    """The variables of a model by name, in TFC's order."""
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


def parse_weights(tensors: Sequence[types_pb2.Tensor], model: StoredModel) -> dict[str, Array]:
    """Reads the weights to set on a model.

    Returns:
      Arrays by name, in TFC's order; 16-bit ones widened to float32.

    Raises:
      InvalidTensorError: Naming every weight of wrong dtype or shape; or `weights`, if their number is wrong.
    """
    current = weights_of(model)
    if len(tensors) != len(current):
        expected = f"expected {len(current)}: {', '.join(current) or 'none'}"
        raise InvalidTensorError.at("weights", f"has {len(tensors)} tensors; {expected}")
    problems: list[Violation] = []
    arrays: dict[str, Array] = {}
    for number, ((name, known), tensor) in enumerate(zip(current.items(), tensors, strict=True)):
        field = f"weights[{number}]"
        dtype, array = array_from_message(tensor, field)
        shape = known.elements.shape
        if dtype != known.dtype:
            problems.append(Violation(field, f"({name}) has dtype {dtype}; expected {known.dtype}"))
        elif array.ndim != 1 if name in _RESIZABLE else array.shape != shape:
            wanted = "a vector" if name in _RESIZABLE else shape
            problems.append(Violation(field, f"({name}) has shape {array.shape}; expected {wanted}"))
        elif not are_finite(array, dtype).all():
            problems.append(Violation(field, f"({name}) holds NaN or infinities; expected finite numbers"))
        arrays[name] = widened(array, dtype)
    if problems:
        raise InvalidTensorError.of(problems)
    return arrays


def with_weights(model: StoredModel, arrays: dict[str, Array]) -> ModelConfig:
    """The configuration of a model with other weights: its own where they are equal to the bit.

    Raises:
      InvalidTensorError: If the tables are none; names them as weights.
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
    try:
        tables = CodingTables.parse(arrays["cdf"], arrays["cdf_offset"], offset)
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
    return changed.with_tables(tables.raw)
