"""Converts exceptions to the errors that callers get."""

from __future__ import annotations

from entropyd.contract.errors import EntropydError, InternalError, OverloadedError

_NO_MEMORY_RETRY_S = 1.0


def as_error(raised: Exception) -> EntropydError:
    """Returns the error that a caller gets for an exception; nothing internal is in it."""
    if isinstance(raised, EntropydError):
        return raised
    if isinstance(raised, MemoryError):
        return OverloadedError("the server is out of memory", retry_after_s=_NO_MEMORY_RETRY_S)
    return InternalError("internal error; the server's log has the cause under the request id")
