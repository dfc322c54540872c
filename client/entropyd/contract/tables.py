"""The coding tables of a model as they travel, and their digest."""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_DIGEST_NAME = b"entropyd tables"


class RawTables(NamedTuple):
    """Tables in TFC's flat layout, unchecked.

    Attributes:
      cdf: int32 [length], the rows one after the other, each `-precision, 0, ..., 2^precision`.
      cdf_offset: int32 [rows], the smallest integer that each row covers.
      quantization_offset: [rows], what is subtracted before a symbol of each row is rounded, a number that
        the bottleneck's dtype has; float64 for such a bottleneck, else float32. None without any.
    """

    cdf: npt.NDArray[np.int32]
    cdf_offset: npt.NDArray[np.int32]
    quantization_offset: npt.NDArray[Any] | None = None

    @property
    def digest(self) -> bytes:
        """SHA-256 of the tables in the layout of docs/identity.md, 32 bytes."""
        version = b"\x01" if self.quantization_offset is None else b"\x02"
        content = hashlib.sha256(_DIGEST_NAME + version)
        content.update(struct.pack("<IQ", len(self.cdf_offset), len(self.cdf)))
        for vector in (self.cdf, self.cdf_offset):
            content.update(vector.astype("<i4", copy=False).tobytes())
        if self.quantization_offset is not None:
            content.update(self.quantization_offset.astype("<f8", copy=False).tobytes())
        return content.digest()

    def by_name(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays that there are, by name."""
        return {name: array for name, array in self._asdict().items() if array is not None}
