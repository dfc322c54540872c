"""The integer tables of a model as they travel, and their digest."""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_DIGEST_TAG = b"entropyd tables\x01"


class RawTables(NamedTuple):
    """Tables in TFC's flat layout, unchecked.

    Attributes:
      cdf: int32 [length], the rows one after the other, each `-precision, 0, ..., 2^precision`.
      cdf_offset: int32 [rows], the smallest integer that each row covers.
    """

    cdf: npt.NDArray[np.int32]
    cdf_offset: npt.NDArray[np.int32]

    @property
    def digest(self) -> bytes:
        """SHA-256 of the tables in the layout of docs/identity.md, 32 bytes."""
        content = hashlib.sha256(_DIGEST_TAG)
        content.update(struct.pack("<IQ", len(self.cdf_offset), len(self.cdf)))
        for vector in (self.cdf, self.cdf_offset):
            content.update(vector.astype("<i4", copy=False).tobytes())
        return content.digest()
