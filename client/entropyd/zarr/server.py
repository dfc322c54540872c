"""The server that zarr's configuration names, and its models."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import zarr

from entropyd._client import Client
from entropyd._connection import Connection
from entropyd._model import Model

DEFAULT_SERVER = "127.0.0.1:7070"


def configured_server() -> Connection:
    """The server and its credentials, read anew from zarr's configuration, which may change between calls."""
    files: dict[str, Any] = {
        name: Path(path)
        for name in ("tls_ca", "tls_cert", "tls_key", "token_file")
        if (path := zarr.config.get(f"entropyd.{name}", None)) is not None
    }
    return Connection(
        str(zarr.config.get("entropyd.server", DEFAULT_SERVER)),
        bool(zarr.config.get("entropyd.tls", default=False)),
        **files,
    )


def served_model(model_id: str) -> Model:
    """A model of the configured server, looked up once; errors as `Client.model`."""
    return _model(configured_server(), model_id)


@lru_cache(maxsize=8)
def _client(server: Connection) -> Client:
    """One connection for all chunks, which the end of the process closes."""
    return server.client()


@lru_cache(maxsize=64)
def _model(server: Connection, model_id: str) -> Model:
    return _client(server).model(model_id)
