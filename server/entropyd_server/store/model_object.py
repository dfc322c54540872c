"""One stored model as bytes: layout and verification.

Owns the layout. It must not know where objects are kept. Invariant: what `parse` returns has been checked
against its own digests, so a damaged object is an error and never other tables.

Layout: a safetensors file with the tensors `cdf` and `cdf_offset` (int32 vectors; absent for a model without
compression) and the metadata `entropyd.format`, `entropyd.config` (canonical JSON, whose SHA-256 is the model
id), `entropyd.tables_digest` (hex), `entropyd.built_with` (JSON), and `entropyd.seal`, the SHA-256 of the
other metadata in canonical JSON.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import rfc8785
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from entropyd.contract.config import UniversalBatchedConfig
from entropyd.contract.errors import EntropydError
from entropyd_server.coding.tables import CodingTables

if TYPE_CHECKING:
    from collections.abc import Mapping

_FORMAT = "1"


class ObjectError(Exception):
    """Bytes that are no model, or do not match their digests."""


def serialise(
    config: UniversalBatchedConfig, tables: CodingTables | None, built_with: Mapping[str, str]
) -> bytes:
    """Renders a model."""
    metadata = {
        "entropyd.format": _FORMAT,
        "entropyd.config": config.canonical_json.decode("ascii"),
        "entropyd.tables_digest": "" if tables is None else tables.digest.hex(),
        "entropyd.built_with": json.dumps(dict(built_with), sort_keys=True),
    }
    metadata["entropyd.seal"] = _seal(metadata)
    tensors = {} if tables is None else {"cdf": tables.cdf, "cdf_offset": tables.cdf_offset}
    return save_tensors(tensors, metadata)


def parse(blob: bytes) -> tuple[UniversalBatchedConfig, CodingTables | None, Mapping[str, str]]:
    """Reads a model: configuration, tables, and the versions that built them.

    Raises:
      ObjectError: If it is none, or does not match its digests.
    """
    try:
        return _parse(blob)
    except (ValueError, KeyError, TypeError, SafetensorError, EntropydError) as error:
        raise ObjectError(f"{type(error).__name__}: {error}") from error


def _parse(blob: bytes) -> tuple[UniversalBatchedConfig, CodingTables | None, Mapping[str, str]]:
    tensors = load_tensors(blob)
    header_bytes = int.from_bytes(blob[:8], "little")
    metadata = json.loads(blob[8 : 8 + header_bytes])["__metadata__"]
    if metadata.pop("entropyd.seal") != _seal(metadata):
        raise ValueError("metadata do not match their seal")
    if metadata["entropyd.format"] != _FORMAT:
        raise ValueError(f"format {metadata['entropyd.format']}, expected {_FORMAT}")
    config = UniversalBatchedConfig.from_dict(json.loads(metadata["entropyd.config"]))
    tables = CodingTables.parse(tensors["cdf"], tensors["cdf_offset"]) if config.compression else None
    digest = "" if tables is None else tables.digest.hex()
    if digest != metadata["entropyd.tables_digest"]:
        raise ValueError(f"tables hash to {digest}")
    return config, tables, json.loads(metadata["entropyd.built_with"])


def _seal(metadata: Mapping[str, str]) -> str:
    return hashlib.sha256(rfc8785.dumps(dict(metadata))).hexdigest()
