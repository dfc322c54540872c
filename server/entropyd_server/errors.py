"""The error that a caller is told in place of any exception."""

from __future__ import annotations

from entropyd.contract.errors import EntropydError, InternalError, OverloadedError

_NO_MEMORY_RETRY_S = 1.0


def as_error(raised: Exception) -> EntropydError:
    """The entropyd error that a caller is told instead of an exception."""
    if isinstance(raised, EntropydError):
        return raised
    if isinstance(raised, MemoryError):
        return OverloadedError("the server is out of memory", retry_after_s=_NO_MEMORY_RETRY_S)
    return InternalError("internal error; the server's log has the cause under the request id")
