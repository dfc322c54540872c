"""Compressed tensors, in memory and in files: `CompressedTensor`, `Archive`, `ArchiveWriter`.

docs/archive.md describes the format. The modules, from the bytes up:

- layout, varints, chunk_headers: the bytes of a file; source: where they are
- units, exact: bit strings and exact elements of coding units; embedded: a model inside a file
- blocks, structure, selection: reading parts; recovery, verification: damaged files
- reader, pending, writer: reading and writing whole files
- tensor, archive: the public values
"""

from entropyd.archive.archive import Archive
from entropyd.archive.embedded import EmbeddedModel
from entropyd.archive.exact import ExactElements
from entropyd.archive.tensor import CompressedTensor, MeasuredTensor
from entropyd.archive.units import RateReport
from entropyd.archive.verification import Verification, verify
from entropyd.archive.writer import ArchiveWriter

__all__ = [
    "Archive",
    "ArchiveWriter",
    "CompressedTensor",
    "EmbeddedModel",
    "ExactElements",
    "MeasuredTensor",
    "RateReport",
    "Verification",
    "verify",
]
