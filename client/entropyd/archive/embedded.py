"""A model inside an archive: the configuration and the coding tables themselves.

Invariant: id and digest are computed from the content, so a model whose id and digest are those of an archive
decodes it.
"""

from __future__ import annotations

import dataclasses
import struct
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from entropyd.archive.layout import LayoutError
from entropyd.archive.units import CompressedUnits
from entropyd.contract.by_value import ByValue
from entropyd.contract.config import ModelConfig
from entropyd.contract.dtypes import coding_dtype
from entropyd.contract.errors import InvalidConfigError
from entropyd.contract.json_text import parse_json
from entropyd.contract.kinds import config_from_dict
from entropyd.contract.table_checks import MAX_CDF_LENGTH
from entropyd.contract.tables import RawTables

_Units = TypeVar("_Units", bound=CompressedUnits)

_HEAD = struct.Struct("<IQI")
# Follows where there is a quantization offset: how many numbers it has.
_OFFSETS = struct.Struct("<I")
# More than the JSON of any model: the largest tables take 683 MiB in base64. A small file can hold a stream
# that inflates to a thousand times its size, and must not take all memory.
_MAX_CONFIG_BYTES = 1 << 30


@dataclass(frozen=True, eq=False)
class EmbeddedModel(ByValue):
    """Everything that decoding needs.

    Attributes:
      config: The configuration, whose hash is the model id.
      cdf: int32 [length], the quantized CDFs in TFC's flat layout; empty for a model without tables.
      cdf_offset: int32 [rows], the smallest integer that each row covers; likewise.
      quantization_offset: float32 or float64 [rows], what is subtracted before a symbol of each row is
        rounded; None without any.
    """

    config: ModelConfig
    cdf: npt.NDArray[np.int32] = dataclasses.field(repr=False)
    cdf_offset: npt.NDArray[np.int32] = dataclasses.field(repr=False)
    quantization_offset: npt.NDArray[Any] | None = dataclasses.field(default=None, repr=False)

    @classmethod
    def of(cls, model: Any) -> EmbeddedModel:
        """The same model as an `entropyd.Model`, whose tables this fetches."""
        if not model.config.has_tables:
            return cls(model.config, np.empty(0, np.int32), np.empty(0, np.int32))
        return cls(model.config, *model._tables)  # noqa: SLF001 - no caller needs them in this form

    @property
    def _tables(self) -> RawTables:
        return RawTables(self.cdf, self.cdf_offset, self.quantization_offset)

    @property
    def model_id(self) -> str:
        """Config hash."""
        return self.config.model_id

    @cached_property
    def tables_digest(self) -> bytes:
        """SHA-256 of the tables in the layout of docs/identity.md, 32 bytes; empty without tables."""
        return self._tables.digest if self.config.has_tables else b""

    @cached_property
    def standalone_config(self) -> ModelConfig:
        """A configuration that includes the tables, if any, for a server that does not have this model.

        Its id differs, because supplied tables are part of the identity; its tables_digest is the same.
        """
        return self.config.with_tables(self._tables) if self.config.has_tables else self.config

    def standalone(self, tensor: _Units) -> _Units:
        """A tensor of this model, as one of the model that `standalone_config` makes."""
        return dataclasses.replace(tensor, model_id=self.standalone_config.model_id)

    def pack(self) -> tuple[bytes, bytes]:
        """Renders header and data of a MODL chunk."""
        document = self.config.canonical_json
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        head = _HEAD.pack(len(document), len(self.cdf), len(self.cdf_offset))
        raw = document + _int32(self.cdf) + _int32(self.cdf_offset)
        if self.quantization_offset is not None:
            head += _OFFSETS.pack(len(self.quantization_offset))
            raw += self.quantization_offset.astype("<f8").tobytes()
        return head, deflate.compress(raw) + deflate.flush()

    @classmethod
    def parse(cls, header: bytes, data: bytes) -> EmbeddedModel:
        """Reads a MODL chunk."""
        try:
            config_bytes, cdf_length, rows = _HEAD.unpack(header[: _HEAD.size])
            (offsets,) = _OFFSETS.unpack(header[_HEAD.size :]) if len(header) > _HEAD.size else (0,)
            if not offsets <= rows <= cdf_length <= MAX_CDF_LENGTH or config_bytes > _MAX_CONFIG_BYTES:
                found = f"{config_bytes} bytes of configuration, {cdf_length} entries of tables, {rows} rows"
                raise ValueError(f"it states {found} and {offsets} quantization offsets")
            first_offset = config_bytes + 4 * (cdf_length + rows)
            raw_bytes = first_offset + 8 * offsets
            inflate = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
            raw = inflate.decompress(data, raw_bytes + 1)
            if len(raw) != raw_bytes or not inflate.eof or inflate.unused_data:
                raise LayoutError("has an embedded model that does not end where it should")
            config = config_from_dict(parse_json(raw[:config_bytes]))
        except (struct.error, zlib.error, ValueError, OverflowError, InvalidConfigError) as error:
            raise LayoutError(f"has an embedded model that cannot be read: {error}") from error
        tables = np.frombuffer(raw[config_bytes:first_offset], "<i4").astype(np.int32)
        dtype = coding_dtype(config.bottleneck_dtype)
        floats = np.frombuffer(raw, "<f8", offset=first_offset).astype(dtype) if offsets else None
        return cls(config, tables[:cdf_length], tables[cdf_length:], floats)


def _int32(values: npt.NDArray[np.int32]) -> bytes:
    return values.astype("<i4", copy=False).tobytes()
