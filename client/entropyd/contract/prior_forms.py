"""Priors as JSON and as protobuf messages."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from entropyd.contract.errors import InvalidConfigError, InvalidTensorError, Violation
from entropyd.contract.families import FAMILIES
from entropyd.contract.index_functions import IndexFunction
from entropyd.contract.parameters import DTYPES, Array
from entropyd.contract.prior import MAX_DEPTH, Prior
from entropyd.contract.wire import array_from_message, tensor_to_message
from entropyd.v1 import types_pb2

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
    """Restores what `tensor_to_dict` made; raises ValueError, KeyError or TypeError for anything else."""
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
        elif isinstance(value, IndexFunction):
            parameters[name] = _function_to_dict(value)
        else:
            parameters[name] = tensor_to_dict(value) if isinstance(value, np.ndarray) else list(value)
    ranges = {} if prior.index_ranges is None else {"index_ranges": list(prior.index_ranges)}
    return {"family": prior.family, "parameters": parameters, **ranges}


def _function_to_dict(function: IndexFunction) -> dict[str, Any]:
    arguments = {name: tensor_to_dict(value) for name, value in function.arguments.items()}
    return {"function": function.name, "arguments": arguments, "axis": function.axis}


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
        elif isinstance(value, dict) and "function" in value:
            parameters[name] = _function_from_dict(name, value)
        else:
            parameters[name] = tensor_from_dict(value) if isinstance(value, dict) else tuple(value)
    return Prior(prior["family"], parameters, prior.get("index_ranges"))


def _function_from_dict(parameter: str, function: dict[str, Any]) -> IndexFunction:
    arguments = {name: tensor_from_dict(value) for name, value in function["arguments"].items()}
    try:
        return IndexFunction(function["function"], arguments, function["axis"])
    except InvalidConfigError as error:
        raise InvalidConfigError.of(_inside(f"prior.{parameter:.80}", error.violations)) from error


def _inside(field: str, problems: Iterable[Violation]) -> list[Violation]:
    """What is wrong with a function, said of the parameter that it is."""
    return [Violation(f"{field}.{problem.field}", problem.description) for problem in problems]


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
    ranges = prior.index_ranges
    return types_pb2.Prior(
        family=prior.family,
        parameters={name: _parameter_to_message(value) for name, value in prior.parameters.items()},
        index_ranges=None if ranges is None else types_pb2.Integers(values=ranges),
    )


def _parameter_to_message(value: Array | tuple[int, ...] | Prior | IndexFunction) -> types_pb2.PriorParameter:
    if isinstance(value, IndexFunction):
        arguments = {name: tensor_to_message(array) for name, array in value.arguments.items()}
        function = types_pb2.IndexFunction(name=value.name, arguments=arguments, axis=value.axis)
        return types_pb2.PriorParameter(function=function)
    if isinstance(value, Prior):
        return types_pb2.PriorParameter(prior=prior_to_message(value))
    if isinstance(value, tuple):
        return types_pb2.PriorParameter(integers=types_pb2.Integers(values=value))
    return types_pb2.PriorParameter(tensor=tensor_to_message(value))


def prior_from_message(
    message: types_pb2.Prior, path: str, problems: list[Violation], depth: int = 1
) -> Prior | None:
    """Reads a prior of a field `path`, as `prior.base`; None if it adds to `problems` why there is none."""
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
        ranges = tuple(message.index_ranges.values) if message.HasField("index_ranges") else None
        prior = Prior(message.family, parameters, ranges)
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
    """Reads one parameter of a prior; None if it adds to `problems` why it cannot be read."""
    field = f"{path}.{name:.80}"
    kind = parameter.WhichOneof("value")
    known = FAMILIES.get(family)
    wanted: tuple[str, ...] = ("tensor", "number")
    if known is not None and name == known.nested:
        wanted = ("prior",)
    elif known is not None and known.network and name == "batch_shape":
        wanted = ("integers",)
    elif kind == "function":  # whether a function may stand here is said of the whole prior
        return _function_from_message(parameter.function, field, problems)
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


def _function_from_message(
    message: types_pb2.IndexFunction, field: str, problems: list[Violation]
) -> IndexFunction | None:
    """Reads a function of the index; None if it adds to `problems` why there is none."""
    known = len(problems)
    arguments: dict[str, Any] = {
        name: read_tensor(tensor, f"{field}.{name:.80}", DTYPES, problems)
        for name, tensor in sorted(message.arguments.items())
    }
    if len(problems) > known:
        return None
    try:
        return IndexFunction(message.name, arguments, message.axis)
    except InvalidConfigError as error:
        problems += _inside(field, error.violations)
        return None
