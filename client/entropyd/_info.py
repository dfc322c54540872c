"""Descriptions of models and servers."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass

from entropyd.contract.config import ModelConfig
from entropyd.contract.kinds import config_from_message
from entropyd.v1 import info_pb2, model_pb2

_ORIGINS: dict[int, str] = {
    model_pb2.TABLES_ORIGIN_BUILT: "built",
    model_pb2.TABLES_ORIGIN_SUPPLIED: "supplied",
    model_pb2.TABLES_ORIGIN_IMPORTED: "imported",
}


@dataclass(frozen=True)
class ModelInfo:
    """Description of a stored model.

    Attributes:
      id: Config hash.
      config: Configuration, every default filled in.
      tables_digest: SHA-256 of the coding tables, 32 bytes; empty without compression.
      table_rows: Rows of the coding tables.
      table_bytes: Bytes of the coding tables.
      built_with: Versions of the libraries that built the tables.
      created_at: When the model was stored.
      tables_origin: Where the coding tables came from: `built` from the prior by a server of the store,
        `supplied` with the configuration, or `imported`; "" without tables, or if that was not recorded.
    """

    id: str
    config: ModelConfig
    tables_digest: bytes
    table_rows: int
    table_bytes: int
    built_with: Mapping[str, str]
    created_at: datetime.datetime
    tables_origin: str = ""


@dataclass(frozen=True)
class ServerInfo:
    """Description of a server.

    Attributes:
      version: As in `0.1.0`.
      roles: Some of `coding`, `modeling`, `registry`.
      devices: Devices with a modeling worker.
      max_message_bytes: Largest message, and largest array that decoding may make.
      max_model_bytes: Largest coding tables of one model.
      max_units: Most coding units in one call.
      max_build_seconds: Longest time for building one model's tables.
      max_concurrent_calls: Most calls in flight at a time, of all callers.
      max_models_per_caller: Most models that one caller may make; 0 for any number.
      symbols: Whether arrays may travel as symbols.
    """

    version: str
    roles: tuple[str, ...]
    devices: tuple[str, ...]
    max_message_bytes: int
    max_model_bytes: int
    max_units: int
    max_build_seconds: float
    max_concurrent_calls: int
    max_models_per_caller: int
    symbols: bool = False


def model_info(message: model_pb2.Model) -> ModelInfo:
    return ModelInfo(
        message.model_id,
        config_from_message(message.config),
        message.tables_digest,
        message.table_rows,
        message.table_bytes,
        dict(message.built_with),
        message.create_time.ToDatetime(datetime.timezone.utc),
        _ORIGINS.get(message.tables_origin, ""),
    )


def server_info(response: info_pb2.GetServerInfoResponse) -> ServerInfo:
    limits = response.limits
    return ServerInfo(
        response.version,
        tuple(response.roles),
        tuple(response.devices),
        limits.max_message_bytes,
        limits.max_model_bytes,
        limits.max_units,
        limits.max_build_seconds,
        limits.max_concurrent_calls,
        limits.max_models_per_caller,
        response.symbols,
    )
