"""What is told of calls that failed: a line in the log, and the last few of these for people.

Owns the wording and the fields of such lines. It must not know statuses or how a call is answered. Invariant:
nothing that a caller sent is written but a request id and the first digits of a model id, both checked; no
flood of failing calls floods the log, or drives the others out of what is remembered.
"""

from __future__ import annotations

import logging
import random
import re
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from entropyd_server.observe.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Iterable

    from entropyd.contract.errors import EntropydError

log = logging.getLogger("entropyd_server.calls")

REQUEST_ID_KEY = "entropyd-request-id"
_REQUEST_ID_KEYS = (REQUEST_ID_KEY, "x-request-id")
_MODEL_KEY = "entropyd-model"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,64}")
_MODEL_ID = re.compile(r"[0-9a-f]{64}")
_MODEL_DIGITS = 12
# Lines of one method and reason in a second.
_BURST = 10
_REMEMBERED = 20
# What the server is to blame for, or what it could not do; the others are the caller's mistakes.
_SERVER_CODES = {"RESOURCE_EXHAUSTED", "UNAVAILABLE", "DEADLINE_EXCEEDED", "DATA_LOSS"}


@dataclass(frozen=True)
class Failure:
    """A call that ended with an error.

    Attributes:
      at: When it ended, in seconds since the epoch.
      method: As in `Compress`.
      code: Name of the gRPC status code.
      reason: Of the error catalog.
      request_id: The caller's, or made for it.
      model: First digits of the model id; empty where the caller named none.
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
    """Logs failures, and remembers those that it logged.

    Attributes:
      last: The newest of them, newest first.
    """

    def __init__(self) -> None:
        self.last: deque[Failure] = deque(maxlen=_REMEMBERED)
        self._throttle: Throttle[tuple[str, str]] = Throttle(_BURST)
        # Asked once: a successful call must not pay for a question whose answer is no.
        self.logs_successes = log.isEnabledFor(logging.DEBUG)

    def succeeded(self, method: str, milliseconds: float) -> None:
        """Logs a call that was answered; for where `logs_successes`."""
        log.debug(
            "%s answered in %.1f ms",
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
        """Takes note of a call that ends with an error.

        Args:
          method: As in `Compress`.
          metadata: The caller's, as names and values.
          error: What the caller is told.
          cause: What was raised; its traceback is logged where the error is INTERNAL.
          milliseconds: How long the call took.

        Returns:
          The request id that the caller is to be told.
        """
        sent = [(name, value) for name, value in metadata if isinstance(value, str)]
        request_id = _first(sent, _REQUEST_ID_KEYS, _REQUEST_ID) or _new_request_id()
        left_out = self._throttle.admit((method, error.reason), time.monotonic())
        if left_out is not None:
            model = model_id_of(sent)[:_MODEL_DIGITS]
            failure = Failure(
                time.time(), method, error.code, error.reason, request_id, model, round(milliseconds, 3)
            )
            self.last.appendleft(failure)
            _write(failure, cause, left_out)
        return request_id


def model_id_of(sent: list[tuple[str, str]]) -> str:
    """The model that the metadata of a call names; empty where they name none."""
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
        f" ({left_out} more like it were left out)" if left_out else "",
        extra=fields,
        exc_info=cause if internal else None,
    )


def _new_request_id() -> str:
    # Nobody gains by guessing one, and the system's randomness was half of what it takes to refuse a call.
    return f"{random.getrandbits(64):016x}"


def _first(sent: list[tuple[str, str]], keys: Iterable[str], well_formed: re.Pattern[str]) -> str:
    """The first value of these keys that is well-formed; empty without one."""
    for key in keys:
        for name, value in sent:
            if name == key and well_formed.fullmatch(value):
                return value
    return ""
