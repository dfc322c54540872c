"""Logs failed calls, and remembers the last ones for the status page.

Invariants: of what a caller sent, only a request id and the first digits of a model id are written, both
checked; many failures of one kind neither flood the log nor displace the others on the status page.
"""

from __future__ import annotations

import logging
import random
import re
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from entropyd.contract.errors import EntropydError
from entropyd_server.observe.throttle import Throttle

log = logging.getLogger("entropyd_server.calls")

_REQUEST_ID_KEYS = ("entropyd-request-id", "x-request-id")
_MODEL_KEY = "entropyd-model"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,64}")
_MODEL_ID = re.compile(r"[0-9a-f]{64}")
_MODEL_DIGITS = 12
# Lines per second of one method and reason.
_BURST = 10
_REMEMBERED = 20
# Failures of the server; the others are mistakes of the caller.
_SERVER_CODES = {"RESOURCE_EXHAUSTED", "UNAVAILABLE", "DEADLINE_EXCEEDED", "DATA_LOSS"}


@dataclass(frozen=True)
class Failure:
    """A call that ended with an error.

    Attributes:
      at: When it ended, in seconds since 1970.
      method: As in `Compress`.
      request_id: The caller's, or one made for the call.
      model: First digits of the model id; empty if the caller named none.
      milliseconds: How long the call took.
    """

    at: float
    method: str
    code: str
    reason: str
    request_id: str
    model: str
    milliseconds: float


class CallLog:
    """Logs failures, and remembers the last ones.

    Attributes:
      last: The last failures that were logged, newest first.
      logs_successes: Whether calls that succeed are logged, too.
    """

    def __init__(self) -> None:
        self.last: deque[Failure] = deque(maxlen=_REMEMBERED)
        self._throttle: Throttle[tuple[str, str]] = Throttle(_BURST)
        # Evaluated once, so that a successful call costs no look-up.
        self.logs_successes = log.isEnabledFor(logging.DEBUG)

    def succeeded(self, method: str, milliseconds: float) -> None:
        log.debug(
            "%s succeeded after %.1f ms",
            method,
            milliseconds,
            extra={"method": method, "code": "OK", "milliseconds": round(milliseconds, 3)},
        )

    def failed(
        self,
        method: str,
        metadata: Iterable[Any],
        error: EntropydError,
        cause: Exception,
        milliseconds: float,
    ) -> str:
        """Records a call that ends with an error; returns the request id for the caller.

        Args:
          method: As in `Compress`.
          metadata: The call's request metadata, as names and values.
          error: The error that the caller gets.
          cause: The exception behind it; its traceback is logged if the error is INTERNAL.
          milliseconds: How long the call took.
        """
        sent = [(name, value) for name, value in metadata if isinstance(value, str)]
        request_id = _first(sent, _REQUEST_ID_KEYS, _REQUEST_ID) or _new_request_id()
        left_out = self._throttle.admit((method, error.reason), time.monotonic())
        if left_out is not None:
            model = model_id_of(sent)[:_MODEL_DIGITS]
            took = round(milliseconds, 3)
            failure = Failure(time.time(), method, error.code, error.reason, request_id, model, took)
            self.last.appendleft(failure)
            _write(failure, cause, left_out)
        return request_id


def model_id_of(sent: list[tuple[str, str]]) -> str:
    """Returns the model id in the metadata of a call; empty if there is none."""
    return _first(sent, (_MODEL_KEY,), _MODEL_ID)


def _write(failure: Failure, cause: Exception, left_out: int) -> None:
    internal = failure.code == "INTERNAL"
    level = logging.ERROR if internal else logging.INFO
    if failure.code in _SERVER_CODES:
        level = logging.WARNING
    fields = {name: value for name, value in vars(failure).items() if value and name != "at"}
    if left_out:
        fields["left_out"] = left_out
    log.log(
        level,
        "%s failed: %s %s after %.1f ms, model %s, request %s%s",
        failure.method,
        failure.code,
        failure.reason,
        failure.milliseconds,
        failure.model or "not named",
        failure.request_id,
        f" ({left_out} similar lines left out)" if left_out else "",
        extra=fields,
        exc_info=cause if internal else None,
    )


def _new_request_id() -> str:
    # Need not be secret; the system's random source would take half of the time of a refused call.
    return f"{random.getrandbits(64):016x}"


def _first(sent: list[tuple[str, str]], keys: Iterable[str], well_formed: re.Pattern[str]) -> str:
    """Returns the first well-formed value of these keys; empty if there is none."""
    for key in keys:
        for name, value in sent:
            if name == key and well_formed.fullmatch(value):
                return value
    return ""
