"""What surrounds every call of a client, blocking or asynchronous: token, time limit, spans and errors.

Invariant: a gRPC failure leaves a call as an entropyd error, and the call's span sees that one.
"""

from __future__ import annotations

import numbers
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc

from entropyd._channel import to_error
from entropyd._credentials import current
from entropyd._tracing import spans
from entropyd.contract.errors import CancelledError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from entropyd._credentials import Token

# gRPC counts the nanoseconds of a deadline in 64 bits, which hold 292 years; 95 years are no limit.
_UNLIMITED_S = 3e9


class Caller:
    """What a client shows and allows in each of its calls.

    Args:
      target: Where the calls go, for messages.
      token: Bearer token, or a function that gives the one to show in a call; None without one.
      timeout_s: Longest time for a call, in seconds, where the call names none; None for no limit.
      tracing: Whether each call is a span; see `entropyd.Client`.

    Raises:
      ValueError: If `timeout_s` is no time.
    """

    def __init__(self, target: str, token: Token, timeout_s: float | None, *, tracing: bool) -> None:
        self._target = target
        self._token = token
        self._timeout_s = _time_limit(timeout_s)
        self._spans = spans(tracing=tracing)
        self._closed = False

    def close(self) -> None:
        """Has every further call end with CancelledError."""
        self._closed = True

    @contextmanager
    def call(
        self, method: str, model_id: str | None, timeout_s: float | None
    ) -> Iterator[Callable[[], dict[str, Any]]]:
        """A context for one call, however many messages it takes.

        Args:
          method: As in `Compress`.
          model_id: Model that it is about, for proxies that route by it.
          timeout_s: Longest time for all of it, in seconds; infinity for no limit, None for the client's own.

        Yields:
          A function that gives the options to send a message with: `metadata`, and the time that is left as
          `timeout`, None where there is no limit.

        Raises:
          OSError, ValueError: If the token cannot be read or sent, or `timeout_s` is no time.
          CancelledError: If the client was closed.
        """
        limit_s = self._timeout_s if timeout_s is None else _time_limit(timeout_s)
        until = None if limit_s is None else time.monotonic() + limit_s
        if self._closed:
            raise closed()
        token = current(self._token)
        shown = [] if token is None else [("authorization", f"Bearer {token}")]
        routing = [] if model_id is None else [("entropyd-model", model_id)]
        with self._spans.around(method, shown + routing) as metadata:
            try:
                yield lambda: {
                    "timeout": None if until is None else until - time.monotonic(),
                    "metadata": metadata,
                }
            except grpc.RpcError as failure:
                raise to_error(failure, self._target, limit_s) from None
            except (ValueError, grpc.aio.UsageError):
                if self._closed:  # by another thread or task, after it was asked above
                    raise closed() from None
                raise


def closed() -> CancelledError:
    """The error of a call of a client that was closed."""
    return CancelledError("the client is closed; make another one")


def _time_limit(timeout_s: float | None) -> float | None:
    """Seconds, or None for no limit.

    Raises:
      ValueError: If it is no time.
    """
    if timeout_s is None:
        return None
    if not isinstance(timeout_s, numbers.Real) or isinstance(timeout_s, bool) or not timeout_s >= 0:
        raise ValueError(f"timeout_s is {timeout_s!r}; expected seconds from 0 up, or None for no limit")
    return None if timeout_s > _UNLIMITED_S else float(timeout_s)
