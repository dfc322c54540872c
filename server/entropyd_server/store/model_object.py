"""Serialises and parses a stored model.

Invariant: what `parse` returns matches its own digests, so a damaged object is an error and never other
tables.

Layout: a safetensors file. Its tensors are `cdf` and `cdf_offset` (int32 vectors; absent for a model without
any) and `quantization_offset` (float32 or float64 vector, a number for each row; absent without any).
Its metadata are `entropyd.format`, `entropyd.config` (canonical JSON, whose SHA-256 is the model id),
`entropyd.tables_digest` (hex), `entropyd.built_with` (JSON), `entropyd.tables_origin` (`built` or
`imported`, where tables are neither supplied nor absent; objects of older versions have none), and
`entropyd.seal`, the SHA-256 of the other metadata in canonical JSON.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import rfc8785
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from entropyd.contract.config import ModelConfig
from entropyd.contract.errors import EntropydError, InvalidConfigError, LimitExceededError, Violation
from entropyd.contract.json_text import parse_json
from entropyd.contract.kinds import config_from_dict
from entropyd_server.coding.tables import CodingTables

_FORMAT = "1"
_MAX_LIBRARIES = 64
_MAX_VERSION_CHARACTERS = 256


class ObjectError(Exception):
    """Bytes that are no model or do not match their digests."""


class TablesOrigin(Enum):
    """Where coding tables came from."""

    UNKNOWN = ""
    BUILT = "built"
    SUPPLIED = "supplied"
    IMPORTED = "imported"


@dataclass(frozen=True, eq=False)
class ModelObject:
    """A model as its object describes it.

    Attributes:
      config: Its configuration, with every default filled in.
      tables: Its coding tables; None for a model without any.
      built_with: Versions of the libraries that built the tables, by name.
      tables_origin: Where the tables came from; UNKNOWN without tables, or if the object does not say.
    """

    config: ModelConfig
    tables: CodingTables | None
    built_with: Mapping[str, str]
    tables_origin: TablesOrigin


def serialise(
    config: ModelConfig, tables: CodingTables | None, built_with: Mapping[str, str], *, imported: bool = False
) -> bytes:
    """Serialises a model. `imported` says that its tables come from another store."""
    metadata = {
        "entropyd.format": _FORMAT,
        "entropyd.config": config.canonical_json.decode("ascii"),
        "entropyd.tables_digest": "" if tables is None else tables.digest.hex(),
        "entropyd.built_with": json.dumps(dict(built_with), sort_keys=True),
    }
    if builds_tables(config):
        origin = TablesOrigin.IMPORTED if imported else TablesOrigin.BUILT
        metadata["entropyd.tables_origin"] = origin.value
    metadata["entropyd.seal"] = _seal(metadata)
    tensors = {} if tables is None else tables.raw.by_name()
    return save_tensors(tensors, metadata)


def parse(blob: bytes, max_table_bytes: int | None = None) -> ModelObject:
    """Parses and checks a model.

    Args:
      blob: The whole object.
      max_table_bytes: Most bytes of its coding tables.

    Raises:
      ObjectError: If it is no model or does not match its digests.
      LimitExceededError: If its tables are larger.
    """
    try:
        return _parse(blob, max_table_bytes)
    except LimitExceededError:
        raise
    except (ValueError, KeyError, TypeError, SafetensorError, EntropydError) as error:
        raise ObjectError(f"{type(error).__name__}: {error}") from error


def builds_tables(config: ModelConfig) -> bool:
    """Whether the tables of a model are built from its prior, so that its id alone does not fix them."""
    return config.has_tables and config.supplied_tables is None


def check_fit(config: ModelConfig, tables: CodingTables) -> None:
    """Checks that tables have the rows and the precision of their configuration.

    Raises:
      InvalidConfigError: Names the fields that contradict one another.
    """
    violations = []
    rows = len(tables.cdf_offset)
    if rows != config.table_rows:
        found = f"has {rows} rows; expected {config.table_rows}, {config.rows_in_words}"
        violations.append(Violation("tables", found))
    if tables.precision != config.range_coder_precision:
        found = f"is {config.range_coder_precision}; the tables have {tables.precision}"
        violations.append(Violation("range_coder_precision", found))
    if not config.allows_offset(tables.quantization_offset):
        violations.append(Violation("quantization_offset", "is not that of the configuration"))
    if violations:
        raise InvalidConfigError.of(violations)


def _parse(blob: bytes, max_table_bytes: int | None) -> ModelObject:
    tensors = load_tensors(blob)
    metadata = _metadata(blob)
    config = config_from_dict(parse_json(metadata["entropyd.config"]))
    if not config.has_tables and tensors:
        raise ValueError(f"holds {len(tensors)} tensors; expected none")
    tables = None
    if config.has_tables:
        tables = CodingTables.parse(**tensors, max_bytes=max_table_bytes)
        check_fit(config, tables)
        supplied = config.supplied_tables
        if supplied is not None and supplied.digest != tables.digest:
            raise ValueError("tables are not those of the configuration")
    digest = "" if tables is None else tables.digest.hex()
    if digest != metadata["entropyd.tables_digest"]:
        raise ValueError(f"tables hash to {digest}")
    built_with = _built_with(parse_json(metadata["entropyd.built_with"]))
    return ModelObject(config, tables, built_with, _origin(config, metadata))


def _metadata(blob: bytes) -> dict[str, str]:
    """Returns the metadata after checking their seal."""
    header_bytes = int.from_bytes(blob[:8], "little")
    metadata = parse_json(blob[8 : 8 + header_bytes])["__metadata__"]
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("metadata are not strings")
    if metadata.pop("entropyd.seal") != _seal(metadata):
        raise ValueError("metadata do not match their seal")
    if metadata["entropyd.format"] != _FORMAT:
        raise ValueError(f"format {metadata['entropyd.format']:.80}, expected {_FORMAT}")
    return metadata


def _built_with(versions: Any) -> Mapping[str, str]:
    if not isinstance(versions, dict) or len(versions) > _MAX_LIBRARIES:
        raise ValueError(f"built_with is not a map of at most {_MAX_LIBRARIES} libraries")
    for text in (*versions.keys(), *versions.values()):
        if not isinstance(text, str) or len(text) > _MAX_VERSION_CHARACTERS:
            found = f"built_with holds more than texts of at most {_MAX_VERSION_CHARACTERS} characters"
            raise ValueError(found)
    return versions


def _origin(config: ModelConfig, metadata: Mapping[str, str]) -> TablesOrigin:
    if config.supplied_tables is not None:
        return TablesOrigin.SUPPLIED
    return TablesOrigin(metadata.get("entropyd.tables_origin", "") if config.has_tables else "")


def _seal(metadata: Mapping[str, str]) -> str:
    return hashlib.sha256(rfc8785.dumps(dict(metadata))).hexdigest()
