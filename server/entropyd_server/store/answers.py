"""What a backend does instead of answering, as errors that callers may see.

Owns the time that a backend gets, and the sentences for its failures. It must not know what is stored.
Invariant: no call waits longer than its time, and neither paths nor addresses of the backend reach a caller;
they go to the log.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

from entropyd.contract.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

log = logging.getLogger(__name__)

T = TypeVar("T")

_RETRY_AFTER_S = 1.0
# obstore has one exception for all failures of a file system; its text ends as Rust renders an errno.
_ERRNO = re.compile(r"\(os error (\d+)\)")
_FULL = {errno.ENOSPC, errno.EDQUOT}
_REFUSED = {errno.EROFS, errno.EACCES, errno.EPERM}


async def answer(asked: Awaitable[T], doing: str, timeout_s: float) -> T:
    """Awaits a backend.

    Args:
      asked: What was asked of it. Exceptions that are answers (no such object, it exists) must be caught
        inside.
      doing: What it was asked, worded to follow "could not": "read a model".
      timeout_s: Longest time for all of it, retries included.

    Raises:
      UnavailableError: STORE_UNAVAILABLE, if it fails or takes longer. With a time to come again where that
        may help: a store that is full or refuses access stays so until somebody acts.
    """
    with _told_apart(doing):
        try:
            return await asyncio.wait_for(asked, timeout_s)
        except asyncio.TimeoutError:  # not the built-in one before Python 3.11
            log.error("model store: no answer within %g s (%s)", timeout_s, doing)
            message = f"the model store did not answer within {timeout_s:g} s"
            raise unavailable(message, _RETRY_AFTER_S) from None


def unavailable(message: str, retry_after_s: float | None = None) -> UnavailableError:
    """The error for a store that cannot be used."""
    return UnavailableError(message, reason="STORE_UNAVAILABLE", retry_after_s=retry_after_s)


@contextmanager
def _told_apart(doing: str) -> Iterator[None]:
    try:
        yield
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise _logged(error, _refused(doing), None) from error
    except (BaseError, OSError) as error:
        named = _ERRNO.search(str(error))
        number = int(named[1]) if named else None
        if number in _FULL:
            raise _logged(error, f"the model store is full: it could not {doing}", None) from error
        if number in _REFUSED:
            raise _logged(error, _refused(doing), None) from error
        raise _logged(error, "the model store cannot be reached", _RETRY_AFTER_S) from error


def _refused(doing: str) -> str:
    return f"the model store refused to {doing}: it is read-only, or closed to this server's credentials"


def _logged(error: Exception, message: str, retry_after_s: float | None) -> UnavailableError:
    # The first line; what follows it is a debug print of the same.
    log.error("model store: %s: %s", type(error).__name__, str(error).partition("\n")[0])
    return unavailable(message, retry_after_s)
