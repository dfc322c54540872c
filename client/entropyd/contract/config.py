"""Configurations of entropy models, their canonical JSON, and the model id.

Owns what makes two models the same. It must not know how a model is built or stored. Invariant: equal
configurations have equal canonical bytes and so equal ids, whatever the client, the order of arguments or
the defaults that were left out; docs/identity.md has the rules and test vectors.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import rfc8785

from entropyd.contract.arrays import read_array
from entropyd.contract.by_value import ByValue
from entropyd.contract.errors import InvalidConfigError, InvalidTensorError, Violation
from entropyd.contract.families import FAMILIES
from entropyd.contract.prior import MAX_DEPTH, Prior

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from entropyd.contract.parameters import Array

BOTTLENECK_DTYPES = ("float16", "bfloat16", "float32", "float64")
MAX_CODING_RANK = 32
MAX_NOISE_LEVELS = 65535
_TENSOR_DTYPES = ("float32", "float64", "int32")


@dataclass(frozen=True)
class UniversalBatchedConfig(ByValue):
    """Constructor arguments of TFC's UniversalBatchedEntropyModel, each with its name.

    Defaults are TFC's too, but for `compression`, which is True here: a service that compresses would
    otherwise refuse to by default.

    Attributes:
      prior: Density of the noise-perturbed bottleneck.
      coding_rank: Number of innermost dimensions that make one coding unit.
      compression: Whether coding tables are built; without them a model only estimates bit costs.
      laplace_tail_mass: Weight of a Laplace mixture in bit costs, 0 <= x < 1; not used for the tables.
      expected_grads: Whether gradients with respect to the noise are analytical expectations.
      tail_mass: Approximate probability left to the escape, 0 < x < 1.
      range_coder_precision: Rows of the tables rise to 2^precision, 1 to 16.
      bottleneck_dtype: `float16`, `bfloat16`, `float32` or `float64`; anything with such a name will do.
        None means `float32`.
      num_noise_levels: Number of levels of the discretised dither.
      stateless: TFC's flag for tables that are not variables; implied by `compression=False`.
      decode_sanity_check: Whether decoding checks the decoder's state at the end of each bit string.
      tables: `(cdf, cdf_offset)` in TFC's layout, int32 vectors, to be used as they are; None means that
        they are built from the prior. They become part of the model's identity.

    Raises:
      InvalidConfigError: Naming every field that is wrong, what was found and what was expected.
    """

    prior: Prior
    coding_rank: int
    compression: bool = True
    laplace_tail_mass: float = 0.0
    expected_grads: bool = False
    tail_mass: float = 2**-8
    range_coder_precision: int = 12
    bottleneck_dtype: Any = None
    num_noise_levels: int = 15
    stateless: bool = False
    decode_sanity_check: bool = True
    tables: tuple[Array, Array] | None = None

    def __post_init__(self) -> None:
        violations = list(self._violations())
        if violations:
            raise InvalidConfigError.of(violations)
        normalised: dict[str, Any] = {
            "coding_rank": int(self.coding_rank),
            "compression": bool(self.compression),
            "laplace_tail_mass": float(self.laplace_tail_mass),
            "expected_grads": bool(self.expected_grads),
            "tail_mass": float(self.tail_mass),
            "range_coder_precision": int(self.range_coder_precision),
            "bottleneck_dtype": dtype_name(self.bottleneck_dtype),
            "num_noise_levels": int(self.num_noise_levels),
            "stateless": bool(self.stateless) or not self.compression,
            "decode_sanity_check": bool(self.decode_sanity_check),
        }
        if self.tables is not None:
            cdf, cdf_offset = self.tables
            normalised["tables"] = (_int32_vector(cdf), _int32_vector(cdf_offset))
        for name, value in normalised.items():
            object.__setattr__(self, name, value)

    def _violations(self) -> Iterator[Violation]:
        if not isinstance(self.prior, Prior):
            found = "is missing" if self.prior is None else f"is a {type(self.prior).__name__}"
            yield Violation("prior", f"{found}; expected one of entropyd.priors")
            least = 0
        else:
            least = len(self.prior.batch_shape)
            if not FAMILIES[self.prior.family].density:
                yield Violation("prior", f"is a {self.prior.family}, which has no density; add noise to it")
        yield from _integer("coding_rank", self.coding_rank, least, MAX_CODING_RANK)
        yield from _number("laplace_tail_mass", self.laplace_tail_mass, "0 <= x < 1", lambda x: 0 <= x < 1)
        yield from _number("tail_mass", self.tail_mass, "0 < x < 1", lambda x: 0 < x < 1)
        yield from _integer("range_coder_precision", self.range_coder_precision, 1, 16)
        yield from _integer("num_noise_levels", self.num_noise_levels, 1, MAX_NOISE_LEVELS)
        for field in ("compression", "expected_grads", "stateless", "decode_sanity_check"):
            value = getattr(self, field)
            if not isinstance(value, (bool, np.bool_)):
                yield Violation(field, f"is {value!r:.80}; expected True or False")
        if dtype_name(self.bottleneck_dtype) not in BOTTLENECK_DTYPES:
            expected = ", ".join(BOTTLENECK_DTYPES)
            yield Violation(
                "bottleneck_dtype", f"is {self.bottleneck_dtype!r:.80}; expected one of {expected}"
            )
        if self.tables is not None:
            if self.compression is False:
                yield Violation("tables", "are given, but compression is False")
            yield from _tables(self.tables)

    @property
    def prior_shape(self) -> tuple[int, ...]:
        """Batch shape of the prior."""
        return self.prior.batch_shape

    @property
    def table_rows(self) -> int:
        """Number of rows of the coding tables: num_noise_levels * product(prior_shape)."""
        return self.num_noise_levels * prod(self.prior_shape)

    @cached_property
    def canonical_json(self) -> bytes:
        """RFC 8785 canonical JSON of the configuration, every default filled in."""
        return rfc8785.dumps(self.to_dict())

    @cached_property
    def model_id(self) -> str:
        """The config hash: SHA-256 of `canonical_json`, 64 hexadecimal digits."""
        return hashlib.sha256(self.canonical_json).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable form; tensors as dtype, shape and base64 of their little-endian bytes."""
        config: dict[str, Any] = {
            "kind": "universal_batched",
            "prior": _prior_dict(self.prior),
            "coding_rank": self.coding_rank,
            "compression": self.compression,
            "laplace_tail_mass": self.laplace_tail_mass,
            "expected_grads": self.expected_grads,
            "tail_mass": self.tail_mass,
            "range_coder_precision": self.range_coder_precision,
            "bottleneck_dtype": self.bottleneck_dtype,
            "num_noise_levels": self.num_noise_levels,
            "stateless": self.stateless,
            "decode_sanity_check": self.decode_sanity_check,
        }
        if self.tables is not None:
            cdf, cdf_offset = self.tables
            config["tables"] = {"cdf": _tensor_dict(cdf), "cdf_offset": _tensor_dict(cdf_offset)}
        return config

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> UniversalBatchedConfig:
        """Restores a configuration from what `to_dict` made.

        Raises:
          InvalidConfigError: If it is not such a dictionary, or describes no model.
        """
        if not isinstance(config, dict) or config.get("kind") != "universal_batched":
            raise InvalidConfigError.at("config.kind", "is missing or not universal_batched")
        fields = {name: value for name, value in config.items() if name != "kind"}
        problems: list[Violation] = []
        try:
            prior = fields.pop("prior")
            if (tables := fields.pop("tables", None)) is not None:
                fields["tables"] = (_tensor_from_dict(tables["cdf"]), _tensor_from_dict(tables["cdf_offset"]))
            try:
                fields["prior"] = _prior_from_dict(prior)
            except InvalidConfigError as error:
                problems += error.violations
            return cls.collecting(problems, fields)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            cause = f"{type(error).__name__}: {error!s:.200}"
            message = f"is no dictionary of a universal_batched configuration ({cause})"
            raise InvalidConfigError.at("config", message) from error

    @classmethod
    def collecting(cls, problems: Sequence[Violation], fields: Mapping[str, Any]) -> UniversalBatchedConfig:
        """Makes a configuration of fields that were read from a document.

        Args:
          problems: What was wrong with fields that could not be read and so are not in `fields`.
          fields: Constructor arguments.

        Raises:
          InvalidConfigError: Naming `problems` and every other field that is missing or wrong.
        """
        unread = {problem.field.partition(".")[0] for problem in problems}
        try:
            config = cls(**{"prior": None, "coding_rank": None, **fields})
        except InvalidConfigError as error:
            others = [violation for violation in error.violations if violation.field not in unread]
            raise InvalidConfigError.of([*problems, *others]) from error
        if problems:
            raise InvalidConfigError.of(problems)
        return config

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UniversalBatchedConfig) and self.canonical_json == other.canonical_json

    def __hash__(self) -> int:
        return hash(self.canonical_json)


def dtype_name(dtype: Any) -> str:
    """Name of a dtype given as a name, a NumPy dtype or scalar type, or another library's dtype."""
    if dtype is None:
        return "float32"
    if isinstance(dtype, str):
        return dtype
    name = getattr(dtype, "name", None)
    if isinstance(name, str):
        return name
    try:
        return np.dtype(dtype).name
    except TypeError:
        return str(dtype)


def _integer(field: str, value: Any, least: int, most: int) -> Iterator[Violation]:
    good = isinstance(value, (int, np.integer)) and not isinstance(value, bool) and least <= value <= most
    if not good:
        found = "is missing" if value is None else f"is {value!r:.80}"
        yield Violation(field, f"{found}; expected an integer from {least} to {most}")


def _number(field: str, value: Any, expected: str, good: Any) -> Iterator[Violation]:
    if not isinstance(value, (int, float, np.integer, np.floating)) or not good(value):
        yield Violation(field, f"is {value!r:.80}; expected {expected}")


def _tables(tables: Any) -> Iterator[Violation]:
    if not isinstance(tables, (tuple, list)) or len(tables) != 2:
        yield Violation("tables", f"are {tables!r:.80}; expected (cdf, cdf_offset)")
        return
    for field, table in zip(("tables.cdf", "tables.cdf_offset"), tables, strict=True):
        try:
            array, _ = read_array(field, table)
        except InvalidTensorError as error:
            yield from error.violations
            continue
        if array.ndim != 1 or array.dtype.kind not in "iu":
            found = f"{array.dtype.name} of rank {array.ndim}"
            yield Violation(field, f"is {found}; expected a vector of int32")
        elif array.size and (array.min() < -(2**31) or array.max() >= 2**31):
            yield Violation(field, f"has values from {array.min()} to {array.max()}; expected int32")


def _int32_vector(values: Any) -> Array:
    vector = np.array(values, np.int32)
    vector.setflags(write=False)
    return vector


def _prior_dict(prior: Prior) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    for name, value in prior.parameters.items():
        if isinstance(value, Prior):
            parameters[name] = _prior_dict(value)
        else:
            parameters[name] = _tensor_dict(value) if isinstance(value, np.ndarray) else list(value)
    return {"family": prior.family, "parameters": parameters}


def _prior_from_dict(prior: dict[str, Any], depth: int = 1) -> Prior:
    if depth > MAX_DEPTH:
        raise ValueError(f"priors nest more than {MAX_DEPTH} deep")
    parameters: dict[str, Any] = {}
    for name, value in prior["parameters"].items():
        if isinstance(value, dict) and "family" in value:
            parameters[name] = _prior_from_dict(value, depth + 1)
        else:
            parameters[name] = _tensor_from_dict(value) if isinstance(value, dict) else tuple(value)
    return Prior(prior["family"], parameters)


def _tensor_dict(array: Array) -> dict[str, Any]:
    little_endian = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return {
        "dtype": array.dtype.name,
        "shape": list(array.shape),
        "data": base64.b64encode(little_endian.tobytes()).decode("ascii"),
    }


def _tensor_from_dict(tensor: dict[str, Any]) -> Array:
    if tensor["dtype"] not in _TENSOR_DTYPES:
        raise ValueError(f"dtype {tensor['dtype']!r:.80}")
    dtype = np.dtype(tensor["dtype"]).newbyteorder("<")
    data = base64.b64decode(tensor["data"], validate=True)
    return np.frombuffer(data, dtype).astype(dtype.newbyteorder("=")).reshape(tensor["shape"])
