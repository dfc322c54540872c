"""Calls of a store's backend, with a time limit, counted, and with errors that callers may see.

Invariant: no path or address of the backend reaches a caller; they go to the log.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import re
from collections.abc import Awaitable
from itertools import product
from typing import TypeVar

from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

from entropyd.contract.errors import EntropydError, UnavailableError

log = logging.getLogger(__name__)

T = TypeVar("T")

OPERATIONS = ("read", "write", "list", "delete")
OK = "ok"
# Messages by result. Those of _LASTING last until an operator acts, so their errors name no time to retry.
_FAILURES = {
    "silent": "the model store did not answer within {timeout_s:g} s",
    "unreachable": "the model store cannot be reached",
    "gone": "the model store's folder is gone",
    "full": "the model store is full: it could not {doing}",
    "refused": "the model store refused to {doing}: it is read-only, or closed to this server's credentials",
}
_LASTING = {"full", "refused"}
_RETRY_AFTER_S = 1.0
# obstore has one exception for all failures of a file system; its text ends with Rust's rendering of errno.
_ERRNO = re.compile(r"\(os error (\d+)\)")
# S3's word for a missing object in a bucket that is there.
_NO_OBJECT = "<Code>NoSuchKey</Code>"
_FULL = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = {errno.EROFS, errno.EACCES, errno.EPERM}


class GoneError(OSError):
    """The folder of a backend is missing."""


class BackendCalls:
    """Awaits and counts the calls of a backend.

    Args:
      timeout_s: Longest time for one call, in seconds, retries included.

    Attributes:
      counts: Number of calls that ended, by operation and result; it has every pair from the start.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self.counts = dict.fromkeys(product(OPERATIONS, (OK, *_FAILURES)), 0)

    async def run(self, call: Awaitable[T], operation: str, what: str) -> T:
        """Awaits one call.

        Args:
          call: The call. It must catch the backend's exceptions that are results, as for a missing object; an
            entropyd error counts as a result.
          operation: One of `OPERATIONS`.
          what: What the operation is applied to, as in "could not read a model".

        Raises:
          UnavailableError: STORE_UNAVAILABLE, if the backend fails or takes longer; with a time to retry if a
            retry may help.
        """
        try:
            returned = await asyncio.wait_for(call, self._timeout_s)
        except (BaseError, OSError, asyncio.TimeoutError) as error:
            result, doing = _result(error), f"{operation} {what}"
            self.counts[operation, result] += 1
            # The first line; a debug rendering of the same follows it.
            cause, _, _ = str(error).partition("\n")
            log.error("the model store could not %s (%s): %s: %s", doing, result, type(error).__name__, cause)
            message = _FAILURES[result].format(doing=doing, timeout_s=self._timeout_s)
            raise unavailable(message, None if result in _LASTING else _RETRY_AFTER_S) from error
        except EntropydError:
            self.counts[operation, OK] += 1
            raise
        self.counts[operation, OK] += 1
        return returned


def says_store_is_there(error: FileNotFoundError) -> bool:
    """Whether the error for a missing object says that its store is there, so that no listing has to."""
    return _NO_OBJECT in str(error)


def unavailable(message: str, retry_after_s: float | None) -> UnavailableError:
    return UnavailableError(message, reason="STORE_UNAVAILABLE", retry_after_s=retry_after_s)


def _result(error: Exception) -> str:
    if isinstance(error, asyncio.TimeoutError):  # not the built-in one before Python 3.11
        return "silent"
    if isinstance(error, GoneError):
        return "gone"
    named = _ERRNO.search(str(error))
    number = int(named[1]) if named else getattr(error, "errno", None)
    if number in _FULL:
        return "full"
    if number in _REFUSED or isinstance(error, (PermissionDeniedError, UnauthenticatedError)):
        return "refused"
    return "unreachable"
