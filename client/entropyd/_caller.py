"""Token, deadline, span and errors of every call, blocking or asynchronous.

Invariant: a call raises an entropyd error for a gRPC failure, and its span records that error.
"""

from __future__ import annotations

import numbers
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from entropyd._channel import to_error
from entropyd._credentials import Token, current
from entropyd._tracing import spans
from entropyd.contract.errors import CancelledError, EntropydError

# gRPC counts the nanoseconds of a deadline in 64 bits, which is 292 years; 95 years are as good as no limit.
_UNLIMITED_S = 3e9


class Caller:
    """Gives each call its metadata and deadline, and translates errors; arguments as `entropyd.Client`."""

    def __init__(self, target: str, token: Token, timeout_s: float | None, *, tracing: bool) -> None:
        self._target = target
        self._token = token
        self._timeout_s = time_limit(timeout_s)
        self._span_of = spans(tracing=tracing)
        self._closed = False

    def close(self) -> None:
        """Makes further calls raise CancelledError."""
        self._closed = True

    @contextmanager
    def call(
        self, method: str, model_id: str | None, timeout_s: float | None
    ) -> Iterator[Callable[[], dict[str, Any]]]:
        """A context for one call of a client, which may take several gRPC calls.

        Args:
          method: As in `Compress`.
          model_id: Model of the call, for proxies that route by it.
          timeout_s: Longest time for all of it, in seconds; infinity for no limit, None for the client's own.

        Yields:
          A function that returns the options of a gRPC call: `metadata`, and `timeout`, the seconds that are
          left or None for no limit.
        """
        limit_s = self._timeout_s if timeout_s is None else time_limit(timeout_s)
        until = None if limit_s is None else time.monotonic() + limit_s
        if self._closed:
            raise closed()
        token = current(self._token)
        credentials = [] if token is None else [("authorization", f"Bearer {token}")]
        routing = [] if model_id is None else [("entropyd-model", model_id)]
        with self._span_of(method, credentials + routing) as metadata:
            try:
                yield lambda: {
                    "timeout": None if until is None else until - time.monotonic(),
                    "metadata": metadata,
                }
            except grpc.RpcError as failure:
                raise to_error(failure, self._target, limit_s) from None
            except (ValueError, grpc.aio.UsageError):
                if self._closed:  # by another thread or task, since the check above
                    raise closed() from None
                raise


def closed() -> CancelledError:
    return CancelledError("the client is closed; make another one")


def without_calls(error: EntropydError) -> EntropydError:
    """The error, without gRPC's in its contexts.

    Those hold locks and cannot be pickled, and programs that send errors from one process to another, such as
    Dask, pickle an error with its contexts.
    """
    at: BaseException | None = error
    while at is not None:
        while isinstance(at.__context__, grpc.RpcError):
            at.__context__ = at.__context__.__context__
        at = at.__context__
    return error


def time_limit(timeout_s: float | None) -> float | None:
    """Seconds, or None for no limit."""
    if timeout_s is None:
        return None
    if not isinstance(timeout_s, numbers.Real) or isinstance(timeout_s, bool) or not timeout_s >= 0:
        raise ValueError(f"timeout_s is {timeout_s!r}; expected seconds from 0 up, or None for no limit")
    return None if timeout_s > _UNLIMITED_S else float(timeout_s)
