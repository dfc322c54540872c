"""What a backend does instead of answering, as errors that callers may see, and how often.

Owns the time that a backend gets, the sentences for its failures and the count of them. It must not know what
is stored. Invariant: no call waits longer than its time, and neither paths nor addresses of the backend reach
a caller; they go to the log.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import re
from itertools import product
from typing import TYPE_CHECKING, TypeVar

from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

from entropyd.contract.errors import EntropydError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable

log = logging.getLogger(__name__)

T = TypeVar("T")

OPERATIONS = ("read", "write", "list", "delete")
OK = "ok"
# By result. Those that stay so until somebody acts come without a time after which to try again.
_FAILURES = {
    "silent": "the model store did not answer within {timeout_s:g} s",
    "unreachable": "the model store cannot be reached",
    "gone": "the model store's folder is gone",
    "full": "the model store is full: it could not {doing}",
    "refused": "the model store refused to {doing}: it is read-only, or closed to this server's credentials",
}
_LASTING = {"full", "refused"}
_RETRY_AFTER_S = 1.0
# obstore has one exception for all failures of a file system; its text ends as Rust renders an errno.
_ERRNO = re.compile(r"\(os error (\d+)\)")
_FULL = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = {errno.EROFS, errno.EACCES, errno.EPERM}


class GoneError(OSError):
    """The folder of a backend is not there."""


class Answers:
    """Awaits a backend.

    Args:
      timeout_s: Longest time for one answer, retries included.

    Attributes:
      counts: How many operations ended, by operation and result; every pair is there from the start.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self.counts = dict.fromkeys(product(OPERATIONS, (OK, *_FAILURES)), 0)

    async def of(self, asked: Awaitable[T], operation: str, what: str) -> T:
        """Awaits and counts one operation.

        Args:
          asked: What was asked of the backend. Exceptions of its that are answers (no such object, it exists)
            must be caught inside; an entropyd error counts as an answer.
          operation: One of `OPERATIONS`.
          what: What it is done to, worded to follow "could not read": "a model".

        Raises:
          UnavailableError: STORE_UNAVAILABLE, if the backend fails or takes longer. With a time to come again
            where that may help.
        """
        try:
            answered = await asyncio.wait_for(asked, self._timeout_s)
        except (BaseError, OSError, asyncio.TimeoutError) as error:
            result, doing = _result(error), f"{operation} {what}"
            self.counts[operation, result] += 1
            # The first line; what follows it is a debug print of the same.
            cause, _, _ = str(error).partition("\n")
            log.error("model store: could not %s: %s: %s: %s", doing, result, type(error).__name__, cause)
            message = _FAILURES[result].format(doing=doing, timeout_s=self._timeout_s)
            raise unavailable(message, None if result in _LASTING else _RETRY_AFTER_S) from error
        except EntropydError:
            self.counts[operation, OK] += 1
            raise
        self.counts[operation, OK] += 1
        return answered


def unavailable(message: str, retry_after_s: float | None) -> UnavailableError:
    """The error for a store that cannot be used."""
    return UnavailableError(message, reason="STORE_UNAVAILABLE", retry_after_s=retry_after_s)


def _result(error: Exception) -> str:
    if isinstance(error, asyncio.TimeoutError):  # not the built-in one before Python 3.11
        return "silent"
    if isinstance(error, GoneError):
        return "gone"
    named = _ERRNO.search(str(error))
    number = int(named[1]) if named else None
    if number in _FULL:
        return "full"
    if number in _REFUSED or isinstance(error, (PermissionDeniedError, UnauthenticatedError)):
        return "refused"
    return "unreachable"
