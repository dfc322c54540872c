"""A model inside an archive: the configuration and the coding tables themselves.

Owns the bytes of the MODL chunk, and the digest that ties tables to what was coded with them. It must not
know a server. Invariant: an EmbeddedModel's id and digest follow from what it holds, so one that says it
belongs to an archive does.
"""

from __future__ import annotations

import dataclasses
import struct
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from entropyd.archive.layout import LayoutError
from entropyd.contract.by_value import ByValue
from entropyd.contract.errors import InvalidConfigError
from entropyd.contract.json_text import parse_json
from entropyd.contract.kinds import config_from_dict
from entropyd.contract.tables import RawTables

if TYPE_CHECKING:
    import numpy.typing as npt

    from entropyd.archive.tensor import CompressedTensor
    from entropyd.contract.config import ModelConfig

_HEAD = struct.Struct("<IQI")


@dataclass(frozen=True, eq=False)
class EmbeddedModel(ByValue):
    """All that decoding needs.

    Attributes:
      config: The configuration, whose hash is the model id.
      cdf: int32 [length], the quantized CDFs in TFC's flat layout.
      cdf_offset: int32 [rows], the smallest integer that each row covers.
    """

    config: ModelConfig
    cdf: npt.NDArray[np.int32] = dataclasses.field(repr=False)
    cdf_offset: npt.NDArray[np.int32] = dataclasses.field(repr=False)

    @classmethod
    def of(cls, model: Any) -> EmbeddedModel:
        """The same model as an `entropyd.Model`, whose tables this fetches."""
        return cls(model.config, model.cdf, model.cdf_offset)

    @property
    def model_id(self) -> str:
        """Config hash."""
        return self.config.model_id

    @cached_property
    def tables_digest(self) -> bytes:
        """SHA-256 of the tables in the layout of docs/identity.md, 32 bytes."""
        return RawTables(self.cdf, self.cdf_offset).digest

    @cached_property
    def standalone_config(self) -> ModelConfig:
        """A configuration that brings its tables along, for a server that does not have this model.

        Its id is another one, because tables that are supplied are part of the identity; its tables_digest
        is the same.
        """
        return self.config.with_tables(RawTables(self.cdf, self.cdf_offset))

    def standalone(self, tensor: CompressedTensor) -> CompressedTensor:
        """A tensor of this model, as one of the model that `standalone_config` makes."""
        return dataclasses.replace(tensor, model_id=self.standalone_config.model_id)

    def pack(self) -> tuple[bytes, bytes]:
        """Renders head and data of a MODL chunk."""
        document = self.config.canonical_json
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        data = deflate.compress(document + _int32(self.cdf) + _int32(self.cdf_offset)) + deflate.flush()
        return _HEAD.pack(len(document), len(self.cdf), len(self.cdf_offset)), data

    @classmethod
    def parse(cls, head: bytes, data: bytes) -> EmbeddedModel:
        """Reads a MODL chunk."""
        try:
            config_bytes, cdf_length, rows = _HEAD.unpack(head)
            raw_bytes = config_bytes + 4 * (cdf_length + rows)
            inflate = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
            raw = inflate.decompress(data, raw_bytes + 1)
            if len(raw) != raw_bytes or not inflate.eof or inflate.unused_data:
                raise LayoutError("has an embedded model that does not end where it should")
            config = config_from_dict(parse_json(raw[:config_bytes]))
        except (struct.error, zlib.error, ValueError, OverflowError, InvalidConfigError) as error:
            raise LayoutError(f"has an embedded model that cannot be read: {error}") from error
        tables = np.frombuffer(raw, "<i4", offset=config_bytes).astype(np.int32)
        return cls(config, tables[:cdf_length], tables[cdf_length:])


def _int32(values: npt.NDArray[np.int32]) -> bytes:
    return values.astype("<i4", copy=False).tobytes()
