"""Who makes a client's calls: with which token, in what time, and under which spans.

Owns what surrounds every call, for the blocking and the asynchronous client alike. It must not know messages
or channels. Invariant: a gRPC failure leaves a call as an entropyd error, and the call's span sees that one.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import grpc

from entropyd._channel import to_error
from entropyd._credentials import current
from entropyd._tracing import spans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from entropyd._credentials import Token


class Caller:
    """What a client shows and allows in each of its calls.

    Args:
      token: Bearer token, or a function that gives the one to show in a call; None without one.
      timeout_s: Longest time for a call, in seconds, where the call names none.
      tracing: Whether each call is a span; see `entropyd.Client`.
    """

    def __init__(self, token: Token, timeout_s: float, *, tracing: bool) -> None:
        self._token = token
        self._timeout_s = timeout_s
        self._spans = spans(tracing=tracing)

    @contextmanager
    def call(
        self, method: str, model_id: str | None, timeout_s: float | None
    ) -> Iterator[Callable[[], dict[str, Any]]]:
        """A context for one call, however many messages it takes.

        Args:
          method: As in `Compress`.
          model_id: Model that it is about, for proxies that route by it.
          timeout_s: Longest time for all of it, in seconds; None for the client's own.

        Yields:
          A function that gives the options to send a message with: `metadata`, and the time that is left as
          `timeout`.

        Raises:
          ValueError: If the token cannot be sent.
        """
        token = current(self._token)
        shown = [] if token is None else [("authorization", f"Bearer {token}")]
        until = time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        routing = [] if model_id is None else [("entropyd-model", model_id)]
        with self._spans.around(method, shown + routing) as metadata:
            try:
                yield lambda: {"timeout": until - time.monotonic(), "metadata": metadata}
            except grpc.RpcError as failure:
                raise to_error(failure) from None
