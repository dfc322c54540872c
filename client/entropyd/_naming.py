"""Errors of calls that name models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy

from entropyd.contract.errors import EntropydError, UnimplementedError


@contextmanager
def naming(made: str | None = None) -> Iterator[None]:
    """Says in an error that the server is too old for names, and which model was made to be named, if any."""
    try:
        yield
    except EntropydError as raised:
        error = copy(raised)
        if type(raised) is UnimplementedError:
            error.message = "this server is too old for names of models; use the id"
        if made is not None:
            error.message += f"; model {made} was made, and is not named"
            error.metadata = {**error.metadata, "model_id": made}
        error.args = (error.message,)
        raise error from None
