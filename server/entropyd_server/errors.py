"""Makes the errors that callers get."""

from __future__ import annotations

from entropyd.contract.errors import EntropydError, InternalError, LimitExceededError, OverloadedError

_NO_MEMORY_RETRY_S = 1.0


def as_error(raised: Exception) -> EntropydError:
    """Returns the error that a caller gets for an exception; nothing internal is in it."""
    if isinstance(raised, EntropydError):
        return raised
    if isinstance(raised, MemoryError):
        return OverloadedError("the server is out of memory", retry_after_s=_NO_MEMORY_RETRY_S)
    return InternalError("internal error; the server's log has the cause under the request id")


def limit_exceeded(found: str, limit: str, value: float, advice: str = "") -> LimitExceededError:
    """Makes the error for what exceeds a limit.

    Args:
      found: What was found, with its verb: "5 coding units exceed".
      limit: Name of the limit, as in `max_units`.
      value: Its value.
      advice: What to change, from its separator on: "; send fewer".
    """
    shown = f"{value:.15g}"
    message = f"{found} the server's {limit} of {shown}{advice}"
    return LimitExceededError(message, metadata={"limit": limit, "value": shown})
