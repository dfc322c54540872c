"""What the configurations of all kinds of model share: checks, canonical JSON, message, and the model id.

Invariant: equal configurations have equal canonical bytes and so equal ids, whatever the client, the order of
arguments or the defaults that were left out; docs/identity.md has the rules and test vectors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import rfc8785
from google.protobuf.message import Message

from entropyd.contract.by_value import ByValue
from entropyd.contract.dtypes import Array
from entropyd.contract.errors import InvalidConfigError, ModelStateError, Violation
from entropyd.contract.fields import BOTTLENECK_DTYPE, FLAG, PRIOR, Field, integer, number
from entropyd.contract.prior import Prior
from entropyd.contract.tables import RawTables

if TYPE_CHECKING:
    from typing_extensions import Self

MAX_CODING_RANK = 32

# Constructor arguments that all of TFC's continuous entropy models have.
CONTINUOUS: Mapping[str, Field] = MappingProxyType(
    {
        "prior": PRIOR,
        "coding_rank": integer(0, MAX_CODING_RANK),
        "compression": FLAG,
        "laplace_tail_mass": number("0 <= x < 1", lambda x: 0 <= x < 1),
        "expected_grads": FLAG,
        "tail_mass": number("0 < x < 1", lambda x: 0 < x < 1),
        "range_coder_precision": integer(1, 16),
        "bottleneck_dtype": BOTTLENECK_DTYPE,
        "stateless": FLAG,
        "decode_sanity_check": FLAG,
    }
)


class ModelConfig(ByValue):
    """A configuration of any kind; each kind is a frozen dataclass that derives from this.

    Its fields, the members of its JSON and the fields of its message are the constructor arguments of TFC's
    class.

    Attributes:
      kind: Name of the kind in JSON, and of its field in the message ModelConfig.
      fields: What each constructor argument may be.
      required: Names of the arguments without a default.
      class_name: TFC's class in snake case, as that class names itself.
    """

    kind: ClassVar[str]
    message: ClassVar[type[Message]]
    fields: ClassVar[Mapping[str, Field]]
    required: ClassVar[tuple[str, ...]] = ("prior", "coding_rank")
    class_name: ClassVar[str]

    prior: Prior | None
    coding_rank: int
    compression: bool
    laplace_tail_mass: float
    expected_grads: bool
    tail_mass: float
    range_coder_precision: int
    bottleneck_dtype: Any
    stateless: bool
    decode_sanity_check: bool

    def __post_init__(self) -> None:
        violations = list(self._violations())
        if violations:
            raise InvalidConfigError.of(violations)
        for name, field in self.fields.items():
            object.__setattr__(self, name, field.normalised(getattr(self, name)))
        if "stateless" in self.fields:
            object.__setattr__(self, "stateless", self.stateless or not self.compression)

    def _violations(self) -> Iterator[Violation]:
        rank = integer(self._least_coding_rank, MAX_CODING_RANK)
        for name, field in self.fields.items():
            yield from (rank if name == "coding_rank" else field).problems(name, getattr(self, name))

    @property
    def _least_coding_rank(self) -> int:
        """Rank of what the caller gave for a prior; 0 for anything else."""
        return len(self.prior.batch_shape) if isinstance(self.prior, Prior) else 0

    @property
    def prior_shape(self) -> tuple[int, ...]:
        return self.needed_prior.batch_shape

    @property
    def bits_dtype(self) -> str:
        """Name of the dtype of bit costs; raises ModelStateError for a model without a density."""
        return self.needed_prior.dtype

    @property
    def unit_axes(self) -> tuple[int, ...]:
        """Innermost axes of every coding unit that the model fixes."""
        return self.prior_shape

    @property
    def index_ranges(self) -> tuple[int, ...] | None:
        """Number of values of each index of an element; None for a model without indexes."""
        return None

    @property
    def numbers_units(self) -> bool:
        """Whether decoding depends on the numbers of the coding units."""
        return False

    @property
    def has_tables(self) -> bool:
        """Whether the model has coding tables."""
        return self.compression

    @property
    def family(self) -> str | None:
        return None if self.prior is None else self.prior.family

    @property
    def needed_prior(self) -> Prior:
        """The prior; raises ModelStateError without one."""
        if self.prior is None:
            message = "the model was made of tables without a prior, so it has no density"
            raise ModelStateError(message, reason="MODEL_WITHOUT_PRIOR")
        return self.prior

    @property
    def table_rows(self) -> int:
        raise NotImplementedError

    @property
    def rows_in_words(self) -> str:
        """How `table_rows` follows from the arguments, for messages."""
        raise NotImplementedError

    @property
    def supplied_tables(self) -> RawTables | None:
        """Tables to be used as they are, which are part of the identity; None if they are built."""
        raise NotImplementedError

    def with_tables(self, tables: RawTables) -> Self:
        raise NotImplementedError

    def allows_offset(self, offset: Array | None) -> bool:
        """Whether tables of this configuration may have a quantization offset, one for each row or None."""
        return offset is None

    def shaped_offset(self, offset: Array) -> Array:
        """The quantization offset of the tables, one for each row, in the shape of TFC's variable."""
        return offset.reshape(self.prior_shape)

    def with_fixed_offset(self, tables: RawTables) -> Self:
        """A copy for which TFC need not compute the quantization offset that is in the tables."""
        del tables
        return self

    def with_prior(self, prior: Prior | None) -> Self:
        return replace(self, prior=prior)  # type: ignore[type-var]  # each kind is a dataclass

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
        given = {name: field.to_json(value) for name, field, value in self._given()}
        return {"kind": self.kind, **given}

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Self:
        """Restores what `to_dict` made; raises InvalidConfigError for anything else."""
        if not isinstance(document, dict) or document.get("kind") != cls.kind:
            raise InvalidConfigError.at("config.kind", f"is missing or not {cls.kind}")
        problems: list[Violation] = []
        try:
            given = {
                name: cls.fields[name].from_json(name, value, problems) if name in cls.fields else value
                for name, value in document.items()
                if name != "kind"
            }
            return cls._collecting(problems, given)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            cause = f"{type(error).__name__}: {error!s:.200}"
            message = f"is no dictionary of a {cls.kind} configuration ({cause})"
            raise InvalidConfigError.at("config", message) from error

    def to_message(self) -> Any:
        """The kind's message, every default filled in."""
        return self.message(**{name: field.to_message(value) for name, field, value in self._given()})

    @classmethod
    def from_message(cls, message: Any) -> Self:
        """Reads the kind's message; unset fields take their defaults.

        Raises:
          InvalidConfigError: Naming every field that is wrong.
        """
        problems: list[Violation] = []
        given = cls._read_message(message, problems)
        return cls._collecting(problems, given)

    @classmethod
    def _read_message(cls, message: Any, problems: list[Violation]) -> dict[str, Any]:
        """Reads the fields of the kind's message that are set; adds to `problems` what cannot be read."""
        return {
            name: field.from_message(name, getattr(message, name), problems)
            for name, field in cls.fields.items()
            if message.HasField(name)
        }

    @classmethod
    def _of_fields(cls, given: Mapping[str, Any]) -> Self:
        """Makes a configuration of the members of its JSON."""
        return cls(**given)

    @classmethod
    def _collecting(cls, problems: Sequence[Violation], read: Mapping[str, Any]) -> Self:
        """Makes a configuration of the arguments that were `read`, None for those with `problems`.

        Raises:
          InvalidConfigError: Naming `problems` and every other argument that is missing or wrong.
        """
        unread = {problem.field.partition(".")[0] for problem in problems}
        given: dict[str, Any] = dict.fromkeys(cls.required)
        given.update((name, value) for name, value in read.items() if name not in unread)
        try:
            config = cls._of_fields(given)
        except InvalidConfigError as error:
            others = [violation for violation in error.violations if violation.field not in unread]
            raise InvalidConfigError.of([*problems, *others]) from error
        if problems:
            raise InvalidConfigError.of(problems)
        return config

    def _given(self) -> Iterator[tuple[str, Field, Any]]:
        for name, field in self.fields.items():
            value = getattr(self, name)
            if value is not None:
                yield name, field, value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ModelConfig) and self.canonical_json == other.canonical_json

    def __hash__(self) -> int:
        return hash(self.canonical_json)
