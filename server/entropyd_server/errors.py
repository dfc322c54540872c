"""Makes the errors that callers get."""

from __future__ import annotations

from entropyd.contract.errors import (
    EntropydError,
    InternalError,
    LimitExceededError,
    OverloadedError,
    RoleMissingError,
)
from entropyd_server.installation import MODELING, modeling_obstacle

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


def role_missing(role: str, method: str, what: str | None = None) -> RoleMissingError:
    """Makes the error for calls that need a role which this server lacks.

    Args:
      role: The role.
      method: Name of the called method.
      what: What of the call needs the role; None for all of it.
    """
    obstacle = modeling_obstacle() if role == MODELING else None
    message = (
        f"{what or method} needs the {role} role, which this server does not have; start one with "
        f"--role {role}{f' ({obstacle})' if obstacle else ''}"
    )
    return RoleMissingError(message, metadata={"role": role, "method": method})
