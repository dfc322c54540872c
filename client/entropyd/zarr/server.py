"""The server that zarr's configuration names, and its models.

A program that has a model already gives it to the codec with `serving`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from typing import Any

import zarr

from entropyd._client import Client
from entropyd._connection import Connection
from entropyd._model import Model

DEFAULT_SERVER = "127.0.0.1:7070"

_given: ContextVar[Model | None] = ContextVar("given", default=None)


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


@contextmanager
def serving(model: Model) -> Iterator[None]:
    """Codes chunks of that model with it, and not with the configured server's.

    zarr runs codecs on its own event loop and threads, with the context of the thread that called it.
    """
    token = _given.set(model)
    try:
        yield
    finally:
        _given.reset(token)


def served_model(model_id: str) -> Model:
    """The model that `serving` gave, else one of the configured server, looked up once.

    Errors as `Client.model`.
    """
    given = _given.get()
    if given is not None and given.id == model_id:
        return given
    return _model(configured_server(), model_id)


@lru_cache(maxsize=8)
def _client(server: Connection) -> Client:
    """One connection for all chunks, which the end of the process closes."""
    return server.client()


@lru_cache(maxsize=64)
def _model(server: Connection, model_id: str) -> Model:
    return _client(server).model(model_id)
