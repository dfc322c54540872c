"""Conversion between arrays, configurations and protobuf messages; the only place that does it.

Owns the byte layout of tensors and the meaning of unset fields. It must not know who sends or receives.
Invariant: what `*_from_message` returns is whole and consistent, and converting it back gives an equal
message; what it refuses, it refuses with the field, what was found and what was expected.

bfloat16 has no NumPy dtype, so inside entropyd such an array is the uint16 array of its bit patterns, and the
dtype's name travels beside it.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from entropyd.contract.config import UniversalBatchedConfig
from entropyd.contract.errors import InvalidConfigError, InvalidTensorError, Violation
from entropyd.contract.families import FAMILIES
from entropyd.contract.parameters import DTYPES, Array
from entropyd.contract.prior import MAX_DEPTH, Prior
from entropyd.v1 import types_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_RANK = 32
# Axes of length 0 aside, so that NumPy can hold any shape that is let in, and count its bytes in 63 bits.
MAX_ELEMENTS = 2**59

# Version of the layout of a CompressedTensor.
FORMAT_VERSION = 1

# name -> (enum value, little-endian NumPy dtype of the elements)
_DTYPES: dict[str, tuple[types_pb2.DType, np.dtype[Any]]] = {
    "float16": (types_pb2.D_TYPE_FLOAT16, np.dtype("<f2")),
    "bfloat16": (types_pb2.D_TYPE_BFLOAT16, np.dtype("<u2")),
    "float32": (types_pb2.D_TYPE_FLOAT32, np.dtype("<f4")),
    "float64": (types_pb2.D_TYPE_FLOAT64, np.dtype("<f8")),
    "int32": (types_pb2.D_TYPE_INT32, np.dtype("<i4")),
}
_NAMES: dict[int, str] = {number: name for name, (number, _) in _DTYPES.items()}


def dtype_number(name: str) -> types_pb2.DType:
    """The enum value of a dtype's name."""
    return _DTYPES[name][0]


def dtype_name(number: int) -> str | None:
    """The name of an enum value; None for one that is unset or unknown."""
    return _NAMES.get(number)


def tensor_to_message(array: Array, dtype: str | None = None) -> types_pb2.Tensor:
    """Renders an array; see `tensor_fields`."""
    return types_pb2.Tensor(**tensor_fields(array, dtype))


def tensor_fields(array: Array, dtype: str | None = None) -> dict[str, Any]:
    """Renders an array as the fields of a Tensor; see `tensor_parts`.

    For the constructor of a message that holds the Tensor: given a message, it would copy it.
    """
    fields, elements = tensor_parts(array, dtype)
    return {**fields, "data": elements.tobytes()}


def tensor_parts(array: Array, dtype: str | None = None) -> tuple[dict[str, Any], Array]:
    """Renders an array as the fields of a Tensor but for `data`, and the array whose bytes that is.

    The second one is C-contiguous and little-endian.

    Args:
      array: Any shape. A bfloat16 array is either one of the ml_dtypes package or uint16 bit patterns.
      dtype: Name of the dtype, needed for bit patterns; the array's own otherwise.

    Raises:
      InvalidTensorError: If the dtype has no place in a Tensor.
    """
    name = array.dtype.name if dtype is None else dtype
    if name not in _DTYPES:
        expected = ", ".join(_DTYPES)
        raise InvalidTensorError.at("tensor", f"has dtype {name}; expected one of {expected}")
    number, wire = _DTYPES[name]
    elements = array.view(np.uint16) if array.dtype.kind == "V" else array
    fields = {"dtype": number, "shape": array.shape}
    return fields, elements.astype(wire, order="C", copy=False)


def array_from_message(tensor: types_pb2.Tensor, field: str) -> tuple[str, Array]:
    """Reads an array.

    Args:
      tensor: The message.
      field: Its path, for error messages.

    Returns:
      The dtype's name and a read-only array; uint16 bit patterns for bfloat16.

    Raises:
      InvalidTensorError: If dtype, shape and data do not fit together.
    """
    name = _NAMES.get(tensor.dtype)
    if name is None:
        raise InvalidTensorError.of(
            [Violation(f"{field}.dtype", f"is {tensor.dtype}; expected a known dtype")]
        )
    shape = shape_from_message(tensor.shape, f"{field}.shape")
    wire = _DTYPES[name][1]
    expected_bytes = prod(shape) * wire.itemsize
    data = tensor.data  # protobuf copies a field of bytes each time that it is read
    if len(data) != expected_bytes:
        found = f"has {len(data)} bytes; expected {expected_bytes} for {name} of shape {shape}"
        raise InvalidTensorError.at(f"{field}.data", found)
    return name, np.frombuffer(data, wire).reshape(shape)


def shape_from_message(axes: Sequence[int], field: str) -> tuple[int, ...]:
    """Reads a shape.

    Raises:
      InvalidTensorError: If it has too many axes, a negative one, or too large ones.
    """
    shape = tuple(axes[:])  # protobuf's containers are slow to iterate over
    if len(shape) > MAX_RANK:
        raise InvalidTensorError.at(field, f"has {len(shape)} axes; expected at most {MAX_RANK}")
    if shape and min(shape) < 0:
        raise InvalidTensorError.at(field, f"is {shape}; expected no negative axis")
    if (prod(shape) or prod(axis or 1 for axis in shape)) > MAX_ELEMENTS:
        raise InvalidTensorError.at(field, f"is {shape}; expected at most 2^59 elements")
    return shape


def config_to_message(config: UniversalBatchedConfig) -> types_pb2.ModelConfig:
    """Renders a configuration, every default filled in."""
    message = types_pb2.UniversalBatchedConfig(
        prior=_prior_to_message(config.prior),
        coding_rank=config.coding_rank,
        compression=config.compression,
        laplace_tail_mass=config.laplace_tail_mass,
        expected_grads=config.expected_grads,
        tail_mass=config.tail_mass,
        range_coder_precision=config.range_coder_precision,
        bottleneck_dtype=dtype_number(config.bottleneck_dtype),
        num_noise_levels=config.num_noise_levels,
        stateless=config.stateless,
        decode_sanity_check=config.decode_sanity_check,
    )
    if config.tables is not None:
        cdf, cdf_offset = config.tables
        message.tables.CopyFrom(
            types_pb2.Tables(cdf=tensor_to_message(cdf), cdf_offset=tensor_to_message(cdf_offset))
        )
    return types_pb2.ModelConfig(universal_batched=message)


def config_from_message(message: types_pb2.ModelConfig) -> UniversalBatchedConfig:
    """Reads a configuration; unset fields take their defaults.

    Raises:
      InvalidConfigError: If it cannot make a model; names every field that is wrong.
    """
    if message.WhichOneof("kind") != "universal_batched":
        raise InvalidConfigError.at("config", "has no kind; expected universal_batched")
    universal = message.universal_batched
    given: dict[str, Any] = {
        field: getattr(universal, field)
        for field in (
            "coding_rank",
            "compression",
            "laplace_tail_mass",
            "expected_grads",
            "tail_mass",
            "range_coder_precision",
            "num_noise_levels",
            "stateless",
            "decode_sanity_check",
        )
        if universal.HasField(field)
    }
    if universal.HasField("bottleneck_dtype"):
        number = universal.bottleneck_dtype
        given["bottleneck_dtype"] = _NAMES.get(number, str(number))
    problems: list[Violation] = []
    if universal.HasField("tables"):
        cdf = _read(universal.tables.cdf, "tables.cdf", ("int32",), problems)
        cdf_offset = _read(universal.tables.cdf_offset, "tables.cdf_offset", ("int32",), problems)
        if not problems:
            given["tables"] = (cdf, cdf_offset)
    if universal.HasField("prior"):
        prior = _prior_from_message(universal.prior, "prior", problems)
        if prior is not None:
            given["prior"] = prior
    return UniversalBatchedConfig.collecting(problems, given)


def _prior_to_message(prior: Prior) -> types_pb2.Prior:
    return types_pb2.Prior(
        family=prior.family,
        parameters={name: _parameter_to_message(value) for name, value in prior.parameters.items()},
    )


def _parameter_to_message(value: Array | tuple[int, ...] | Prior) -> types_pb2.PriorParameter:
    if isinstance(value, Prior):
        return types_pb2.PriorParameter(prior=_prior_to_message(value))
    if isinstance(value, tuple):
        return types_pb2.PriorParameter(integers=types_pb2.Integers(values=value))
    return types_pb2.PriorParameter(tensor=tensor_to_message(value))


def _prior_from_message(
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
        return _prior_from_message(parameter.prior, field, problems, depth + 1)
    if kind == "integers":
        return tuple(parameter.integers.values)
    if kind == "number":
        return parameter.number
    return _read(parameter.tensor, field, DTYPES, problems)


def _read(
    tensor: types_pb2.Tensor, field: str, dtypes: Sequence[str], problems: list[Violation]
) -> Array | None:
    """Reads an array of a configuration; one that cannot be read is added to `problems`."""
    try:
        dtype, array = array_from_message(tensor, field)
    except InvalidTensorError as error:  # inside a configuration, a bad tensor is a bad configuration
        problems += error.violations
        return None
    if dtype in dtypes:
        return array
    problems.append(Violation(f"{field}.dtype", f"is {dtype}; expected {' or '.join(dtypes)}"))
    return None
