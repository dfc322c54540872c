"""A model inside an archive: the configuration and the coding tables themselves.

Invariant: id and digest are computed from the content, so a model whose id and digest are those of an archive
decodes it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import struct
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from entropyd.archive.layout import LayoutError
from entropyd.archive.units import CompressedUnits
from entropyd.contract.by_value import ByValue
from entropyd.contract.config import UniversalBatchedConfig
from entropyd.contract.errors import InvalidConfigError
from entropyd.contract.json_text import parse_json

if TYPE_CHECKING:
    import numpy.typing as npt

_Units = TypeVar("_Units", bound=CompressedUnits)

_HEAD = struct.Struct("<IQI")
_DIGEST_TAG = b"entropyd tables\x01"


@dataclass(frozen=True, eq=False)
class EmbeddedModel(ByValue):
    """Everything that decoding needs.

    Attributes:
      config: The configuration, whose hash is the model id.
      cdf: int32 [length], the quantized CDFs in TFC's flat layout.
      cdf_offset: int32 [rows], the smallest integer that each row covers.
    """

    config: UniversalBatchedConfig
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
        content = hashlib.sha256(_DIGEST_TAG)
        content.update(struct.pack("<IQ", len(self.cdf_offset), len(self.cdf)))
        content.update(_int32(self.cdf))
        content.update(_int32(self.cdf_offset))
        return content.digest()

    @cached_property
    def standalone_config(self) -> UniversalBatchedConfig:
        """A configuration that includes the tables, for a server that does not have this model.

        Its id differs, because supplied tables are part of the identity; its tables_digest is the same.
        """
        return dataclasses.replace(self.config, tables=(self.cdf, self.cdf_offset))

    def standalone(self, tensor: _Units) -> _Units:
        """A tensor of this model, as one of the model that `standalone_config` makes."""
        return dataclasses.replace(tensor, model_id=self.standalone_config.model_id)

    def pack(self) -> tuple[bytes, bytes]:
        """Renders header and data of a MODL chunk."""
        document = self.config.canonical_json
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        data = deflate.compress(document + _int32(self.cdf) + _int32(self.cdf_offset)) + deflate.flush()
        return _HEAD.pack(len(document), len(self.cdf), len(self.cdf_offset)), data

    @classmethod
    def parse(cls, header: bytes, data: bytes) -> EmbeddedModel:
        """Reads a MODL chunk."""
        try:
            config_bytes, cdf_length, rows = _HEAD.unpack(header)
            raw_bytes = config_bytes + 4 * (cdf_length + rows)
            inflate = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
            raw = inflate.decompress(data, raw_bytes + 1)
            if len(raw) != raw_bytes or not inflate.eof or inflate.unused_data:
                raise LayoutError("has an embedded model that does not end where it should")
            config = UniversalBatchedConfig.from_dict(parse_json(raw[:config_bytes]))
        except (struct.error, zlib.error, ValueError, OverflowError, InvalidConfigError) as error:
            raise LayoutError(f"has an embedded model that cannot be read: {error}") from error
        tables = np.frombuffer(raw, "<i4", offset=config_bytes).astype(np.int32)
        return cls(config, tables[:cdf_length], tables[cdf_length:])


def _int32(values: npt.NDArray[np.int32]) -> bytes:
    return values.astype("<i4", copy=False).tobytes()
