"""Compressed tensors, in memory and in files: `CompressedTensor`, `Archive`, `ArchiveWriter`.

docs/archive.md describes the format. tensor: the value; layout, heads and varints: the bytes of a file;
exact: elements that come back exactly; writer with pending, and reader with structure, blocks and selection:
files; recovery and verification: files that are damaged; embedded: a model inside a file; source: where bytes
are.
"""

from entropyd.archive.embedded import EmbeddedModel
from entropyd.archive.exact import ExactElements
from entropyd.archive.reader import Archive
from entropyd.archive.tensor import CompressedTensor, RateReport
from entropyd.archive.verification import Verification, verify
from entropyd.archive.writer import ArchiveWriter

__all__ = [
    "Archive",
    "ArchiveWriter",
    "CompressedTensor",
    "EmbeddedModel",
    "ExactElements",
    "RateReport",
    "Verification",
    "verify",
]
