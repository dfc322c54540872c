"""Elias gamma codes of run lengths and magnitudes, without tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn

from google.protobuf.message import Message

from entropyd.contract.config import MAX_CODING_RANK, ModelConfig
from entropyd.contract.errors import ModelStateError
from entropyd.contract.fields import BOTTLENECK_DTYPE, Field, integer, number
from entropyd.contract.tables import RawTables
from entropyd.v1 import types_pb2


@dataclass(frozen=True, eq=False)
class PowerLawConfig(ModelConfig):
    """Constructor arguments of TFC's PowerLawEntropyModel, each with its name and default.

    Attributes:
      coding_rank: Number of innermost dimensions that make one coding unit.
      alpha: Keeps the gradient of the penalty finite around 0, x > 0.
      bottleneck_dtype: `float16`, `bfloat16`, `float32` or `float64`; anything with such a name will do.
        None means `float32`. Quantization and penalty are computed in it.

    Raises:
      InvalidConfigError: Naming every field that is wrong, what was found and what was expected.
    """

    kind: ClassVar[str] = "power_law"
    message: ClassVar[type[Message]] = types_pb2.PowerLawConfig
    fields: ClassVar[Mapping[str, Field]] = {
        "coding_rank": integer(0, MAX_CODING_RANK),
        "alpha": number("a finite number x > 0", lambda x: 0 < x < float("inf")),
        "bottleneck_dtype": BOTTLENECK_DTYPE,
    }
    required: ClassVar[tuple[str, ...]] = ("coding_rank",)
    class_name: ClassVar[str] = "power_law_entropy_model"

    coding_rank: int
    alpha: float = 0.01
    bottleneck_dtype: Any = None

    # What the other kinds have as arguments.
    prior = None
    compression = True

    @property
    def prior_shape(self) -> tuple[int, ...]:
        return ()

    @property
    def bits_dtype(self) -> str:
        """That of the penalty, which takes the place of the bits."""
        return str(self.bottleneck_dtype)

    @property
    def needed_prior(self) -> NoReturn:
        message = "a power_law model has no prior, so it has no density"
        raise ModelStateError(message, reason="MODEL_WITHOUT_PRIOR")

    @property
    def has_tables(self) -> bool:
        return False

    @property
    def table_rows(self) -> int:
        return 0

    @property
    def rows_in_words(self) -> str:
        return "no tables"

    @property
    def supplied_tables(self) -> None:
        return None

    def with_tables(self, tables: RawTables) -> NoReturn:
        del tables
        raise ModelStateError("a power_law model has no coding tables", reason="MODEL_WITHOUT_TABLES")
