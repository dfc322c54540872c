"""Attributes of models that need no call, for the blocking and the asynchronous model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from entropyd._html import described
from entropyd._info import ModelInfo
from entropyd._symbols import Symbols
from entropyd.contract.config import ModelConfig
from entropyd.contract.dtypes import numpy_dtype
from entropyd.contract.prior import Prior
from entropyd.contract.tables import RawTables

# Attributes of TFC's classes that not every kind has, and that are no arguments of configurations.
_OF_SOME_KINDS = ("channel_axis", "num_scales")


class ModelBase:
    """The attributes of TFC's classes that need no call.

    Constructor arguments that only some kinds have, such as num_noise_levels, are attributes of their models.

    Attributes:
      info: What the server said of the model.
    """

    def __init__(self, session: Any, info: ModelInfo) -> None:
        self._session = session
        self.info = info
        # What the session's `symbols` returned, once that was needed.
        self._asked: list[Symbols | None] = []

    def __reduce__(self) -> tuple[Any, ...]:
        # The copy has the info, so that it needs no call for it.
        return type(self), (self._session, self.info)

    def __getattr__(self, name: str) -> Any:
        info = vars(self).get("info")
        if info is None or name not in {*info.config.fields, *_OF_SOME_KINDS}:
            what = f"{type(self).__name__!r} object has no attribute {name!r}"
            raise AttributeError(what, name=name, obj=self)
        return getattr(info.config, name)

    def _offset_of(self, tables: RawTables) -> npt.NDArray[Any] | None:
        """The quantization offset in the model's tables, in bottleneck_dtype; None without any."""
        if tables.quantization_offset is None:
            return None
        offset = self.config.shaped_offset(tables.quantization_offset)
        return offset.astype(self.bottleneck_dtype, copy=False)

    def _decompress_inputs(self, inputs: tuple[Any, ...], given: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of `decompress` after the strings, by name."""
        return _by_name(inputs, self._coding_inputs or ("broadcast_shape",), given)

    def _call_inputs(self, inputs: tuple[Any, ...], given: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of calling the model after the bottleneck, by name."""
        return _by_name(inputs, (*self._coding_inputs, "training"), given)

    @property
    def _coding_inputs(self) -> tuple[str, ...]:
        """What the methods of TFC's class take beside the bottleneck or the strings, in its order."""
        if self.config.index_ranges is None:
            return ()
        return ("indexes", "loc") if self.config.kind == "location_scale_indexed" else ("indexes",)

    def __repr__(self) -> str:
        indexed = self.config.index_ranges is not None
        shape = f"index_ranges={self.index_ranges}" if indexed else f"prior_shape={self.prior_shape}"
        what = self.config.family or self.config.kind
        return f"<Model {self.id[:12]} {what} {shape} coding_rank={self.coding_rank}>"

    def _repr_html_(self) -> str:
        properties = {
            "id": self.id,
            "prior": self.config.family,
            "prior_shape": self.prior_shape if self.index_ranges is None else None,
            "index_ranges": self.index_ranges,
            "coding_rank": self.coding_rank,
            "bottleneck_dtype": self.bottleneck_dtype,
            "table_rows": self.info.table_rows,
            "tables_origin": self.info.tables_origin or None,
        }
        return described(f"{type(self).__name__}, {self.config.kind}", properties)

    def get_config(self) -> dict[str, Any]:
        """The configuration as a JSON-serialisable dictionary; see ModelConfig.from_dict.

        Raises:
          RuntimeError: As TFC's class does, with compression=False or stateless=True.
        """
        if not self.compression or getattr(self.config, "stateless", False):
            raise RuntimeError("a model with compression=False or stateless=True has no config to serialise")
        return self.config.to_dict()

    @property
    def name(self) -> str:
        """TFC's name of such a model."""
        return self.config.class_name

    @property
    def id(self) -> str:
        """Config hash: SHA-256 of the canonical configuration, in hex."""
        return self.info.id

    @property
    def config(self) -> ModelConfig:
        """The configuration, every default filled in."""
        return self.info.config

    @property
    def tables_digest(self) -> bytes:
        """SHA-256 of the coding tables, 32 bytes; empty without compression."""
        return self.info.tables_digest

    @property
    def built_with(self) -> Mapping[str, str]:
        """Versions of the libraries that built the tables."""
        return self.info.built_with

    @property
    def prior(self) -> Prior:
        """Prior distribution, used for deriving the coding tables."""
        return self.config.needed_prior

    @property
    def prior_shape(self) -> tuple[int, ...]:
        """Batch shape of the prior: dimensions that are not assumed i.i.d."""
        return self.config.prior_shape

    @property
    def index_ranges(self) -> tuple[int, ...] | None:
        """Number of values of each index of an element, noise levels aside; None for a model without them."""
        return self.config.index_ranges

    @property
    def prior_shape_tensor(self) -> npt.NDArray[np.int32]:
        """prior_shape as an int32 vector."""
        return np.array(self.prior_shape, np.int32)

    @property
    def coding_rank(self) -> int:
        """Number of innermost dimensions that make one coding unit."""
        return self.config.coding_rank

    @property
    def bottleneck_dtype(self) -> np.dtype[Any]:
        """Data type of the bottleneck."""
        return numpy_dtype(self.config.bottleneck_dtype)

    @property
    def compression(self) -> bool:
        """Whether the model has coding tables."""
        return self.config.compression

    @property
    def expected_grads(self) -> bool:
        """Whether gradients with respect to the noise are analytical expectations."""
        return self.config.expected_grads

    @property
    def laplace_tail_mass(self) -> float:
        """Weight of the Laplace mixture in bit costs."""
        return self.config.laplace_tail_mass

    @property
    def range_coder_precision(self) -> int:
        """Rows of the coding tables rise to 2^precision."""
        return self.config.range_coder_precision

    @property
    def tail_mass(self) -> float:
        """Approximate probability left to the escape."""
        return self.config.tail_mass

    @property
    def stateless(self) -> bool:
        """TFC's flag for tables that are not variables."""
        return self.config.stateless

    @property
    def decode_sanity_check(self) -> bool:
        """Whether decoding checks the decoder's state at the end of each bit string."""
        return self.config.decode_sanity_check


def _by_name(inputs: tuple[Any, ...], names: tuple[str, ...], given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by place, with their names, and those that were given by name."""
    if len(inputs) > len(names):
        raise TypeError(f"takes at most {', '.join(names)} by place; {len(inputs)} arguments were given")
    placed = dict(zip(names, inputs, strict=False))
    twice = [name for name in placed if name != "training" and given[name] is not None]
    if twice:
        raise TypeError(f"got {twice[0]} by place and by name")
    return {**given, **placed}
