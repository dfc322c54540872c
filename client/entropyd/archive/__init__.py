"""Compressed tensors, in memory and in files: `CompressedTensor`, `Archive`, `ArchiveWriter`; bundles.

docs/archive.md describes the format. The modules, from the bytes up:

- layout, varints, chunk_headers, file_header: the bytes of a file; source: where they are
- units, exact: bit strings and exact elements of coding units; embedded: a model inside a file
- blocks, structure, selection: reading parts; recovery, verification: damaged files
- reader, pending, file_writer, writer: reading and writing whole files
- tensor, archive, bundle, compressed_bundle: the public values
"""

from entropyd.archive.archive import Archive
from entropyd.archive.bundle import Bundle
from entropyd.archive.compressed_bundle import CompressedBundle, pack
from entropyd.archive.embedded import EmbeddedModel
from entropyd.archive.exact import ExactElements
from entropyd.archive.tensor import CompressedTensor, MeasuredTensor
from entropyd.archive.units import RateReport
from entropyd.archive.verification import Verification, VerifiedUnits, verify
from entropyd.archive.writer import ArchiveWriter

__all__ = [
    "Archive",
    "ArchiveWriter",
    "Bundle",
    "CompressedBundle",
    "CompressedTensor",
    "EmbeddedModel",
    "ExactElements",
    "MeasuredTensor",
    "RateReport",
    "Verification",
    "VerifiedUnits",
    "pack",
    "verify",
]
