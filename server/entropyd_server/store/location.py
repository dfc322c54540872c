"""Opens the folder or object store that an operator names."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from obstore.exceptions import BaseError
from obstore.store import LocalStore, MemoryStore, from_url

if TYPE_CHECKING:
    from obstore.store import BackoffConfig, ObjectStore, RetryConfig

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


class StoreError(Exception):
    """A store that cannot be opened: its name or its settings in the environment are wrong."""


def open_backend(name: str, timeout_s: float, *, make_folder: bool) -> ObjectStore:
    """Opens a store.

    Args:
      name: A folder's path, absolute or relative to the working directory; or a URL: `file:///folder`,
        `memory:///`, or what obstore opens (`s3://`, `gs://`, `az://`). URLs are percent-encoded, paths are
        not.
      timeout_s: Longest time for one operation, in seconds, retries included.
      make_folder: Whether to make a missing folder.

    Raises:
      StoreError: If it cannot be opened; names the store.
    """
    try:
        return _open(name, timeout_s, make_folder=make_folder)
    except (BaseError, OSError, ValueError) as error:
        # The first line; a debug rendering of the same follows it.
        cause, _, _ = str(getattr(error, "strerror", None) or error).partition("\n")
        raise StoreError(f"{name}: {cause}") from error


def _open(name: str, timeout_s: float, *, make_folder: bool) -> ObjectStore:
    if not _SCHEME.match(name):
        return _folder(name, make_folder=make_folder)
    url = urlsplit(name)
    if "#" in name or "?" in name:
        raise ValueError("# and ? have no meaning in a store's URL; write %23 and %3F for them")
    if url.scheme == "file":
        if url.netloc not in {"", "localhost"} or not url.path.startswith("/"):
            raise ValueError("expected file:///folder or a path")
        return _folder(unquote(url.path), make_folder=make_folder)
    if url.scheme == "memory":
        return MemoryStore()
    # Few and quick retries, because a caller waits. No `client_options`: as of obstore 0.12 they replace
    # those of the environment (AWS_ALLOW_HTTP, AWS_CONNECT_TIMEOUT).
    first, longest = timedelta(milliseconds=100), timedelta(seconds=1)
    backoff: BackoffConfig = {"init_backoff": first, "max_backoff": longest, "base": 2}
    limit = timedelta(seconds=timeout_s)
    retries: RetryConfig = {"max_retries": 3, "retry_timeout": limit, "backoff": backoff}
    return from_url(name, retry_config=retries)


def _folder(path: str, *, make_folder: bool) -> LocalStore:
    if not path:
        raise ValueError("expected a folder's path or a URL")
    folder = Path(path).absolute()
    if make_folder:
        folder.mkdir(parents=True, exist_ok=True)
    if not folder.is_dir():
        raise ValueError("is no folder")
    return LocalStore(folder)
