"""Priors as JSON and as protobuf messages."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np

from entropyd.contract.errors import InvalidConfigError, InvalidTensorError, Violation
from entropyd.contract.families import FAMILIES
from entropyd.contract.parameters import DTYPES, Array
from entropyd.contract.prior import MAX_DEPTH, Prior
from entropyd.contract.wire import array_from_message, tensor_to_message
from entropyd.v1 import types_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

_JSON_DTYPES = ("float32", "float64", "int32")


def tensor_to_dict(array: Array) -> dict[str, Any]:
    """A tensor of a configuration: dtype, shape, and base64 of its little-endian bytes."""
    little_endian = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return {
        "dtype": array.dtype.name,
        "shape": list(array.shape),
        "data": base64.b64encode(little_endian.tobytes()).decode("ascii"),
    }


def tensor_from_dict(tensor: dict[str, Any]) -> Array:
    """Restores what `tensor_to_dict` made.

    Raises:
      ValueError, KeyError, TypeError: If it is not such a dictionary.
    """
    if tensor["dtype"] not in _JSON_DTYPES:
        raise ValueError(f"dtype {tensor['dtype']!r:.80}")
    dtype = np.dtype(tensor["dtype"]).newbyteorder("<")
    data = base64.b64decode(tensor["data"], validate=True)
    return np.frombuffer(data, dtype).astype(dtype.newbyteorder("=")).reshape(tensor["shape"])


def prior_to_dict(prior: Prior) -> dict[str, Any]:
    """The family's name and the parameters of a prior, JSON-serialisable."""
    parameters: dict[str, Any] = {}
    for name, value in prior.parameters.items():
        if isinstance(value, Prior):
            parameters[name] = prior_to_dict(value)
        else:
            parameters[name] = tensor_to_dict(value) if isinstance(value, np.ndarray) else list(value)
    return {"family": prior.family, "parameters": parameters}


def prior_from_dict(prior: dict[str, Any], depth: int = 1) -> Prior:
    """Restores what `prior_to_dict` made.

    Raises:
      InvalidConfigError: Naming every parameter that is wrong.
      ValueError, KeyError, TypeError, AttributeError: If it is not such a dictionary.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"priors nest more than {MAX_DEPTH} deep")
    parameters: dict[str, Any] = {}
    for name, value in prior["parameters"].items():
        if isinstance(value, dict) and "family" in value:
            parameters[name] = prior_from_dict(value, depth + 1)
        else:
            parameters[name] = tensor_from_dict(value) if isinstance(value, dict) else tuple(value)
    return Prior(prior["family"], parameters)


def read_tensor(
    tensor: types_pb2.Tensor, field: str, dtypes: Sequence[str], problems: list[Violation]
) -> Array | None:
    """Reads an array of a configuration; adds to `problems` why it cannot be read."""
    try:
        dtype, array = array_from_message(tensor, field)
    except InvalidTensorError as error:  # inside a configuration, a bad tensor is a bad configuration
        problems += error.violations
        return None
    if dtype in dtypes:
        return array
    problems.append(Violation(f"{field}.dtype", f"is {dtype}; expected {' or '.join(dtypes)}"))
    return None


def prior_to_message(prior: Prior) -> types_pb2.Prior:
    """Renders a prior."""
    return types_pb2.Prior(
        family=prior.family,
        parameters={name: _parameter_to_message(value) for name, value in prior.parameters.items()},
    )


def _parameter_to_message(value: Array | tuple[int, ...] | Prior) -> types_pb2.PriorParameter:
    if isinstance(value, Prior):
        return types_pb2.PriorParameter(prior=prior_to_message(value))
    if isinstance(value, tuple):
        return types_pb2.PriorParameter(integers=types_pb2.Integers(values=value))
    return types_pb2.PriorParameter(tensor=tensor_to_message(value))


def prior_from_message(
    message: types_pb2.Prior, path: str, problems: list[Violation], depth: int = 1
) -> Prior | None:
    """Reads a prior; None where `problems` says why there is none.

    Args:
      message: The message.
      path: Its field, as in `prior.base`.
      problems: Where problems are added.
      depth: 1, and 1 for each prior around it.
    """
    if depth > MAX_DEPTH:
        problems.append(Violation(path, f"nests more than {MAX_DEPTH} priors"))
        return None
    parameters: dict[str, Any] = {}
    unread: set[str] = set()
    for name, parameter in sorted(message.parameters.items()):
        known = len(problems)
        value = _parameter_from_message(message.family, name, parameter, path, problems=problems, depth=depth)
        if value is not None:
            parameters[name] = value
        if len(problems) > known:
            unread.add(f"prior.{name:.80}")
    try:
        prior = Prior(message.family, parameters)
    except InvalidConfigError as error:
        # A prior names its own fields `prior...`, wherever it stands.
        problems += [
            Violation(path + problem.field.removeprefix("prior"), problem.description)
            for problem in error.violations
            if problem.field not in unread
        ]
        return None
    return None if unread else prior


def _parameter_from_message(
    family: str,
    name: str,
    parameter: types_pb2.PriorParameter,
    path: str,
    *,
    problems: list[Violation],
    depth: int,
) -> Any:
    """Reads one parameter of a prior; None where `problems` says why it cannot be read."""
    field = f"{path}.{name:.80}"
    kind = parameter.WhichOneof("value")
    known = FAMILIES.get(family)
    wanted: tuple[str, ...] = ("tensor", "number")
    if known is not None and name == known.nested:
        wanted = ("prior",)
    elif known is not None and known.network and name == "batch_shape":
        wanted = ("integers",)
    if kind not in wanted:
        problems.append(Violation(field, f"is given as {kind or 'nothing'}; expected {' or '.join(wanted)}"))
        return None
    if kind == "prior":
        return prior_from_message(parameter.prior, field, problems, depth + 1)
    if kind == "integers":
        return tuple(parameter.integers.values)
    if kind == "number":
        return parameter.number
    return read_tensor(parameter.tensor, field, DTYPES, problems)
