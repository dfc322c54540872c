"""A value that is parsed from files, again whenever they change.

Invariant: `value` is parsed from the whole contents of files that match. Changed files that cannot be parsed
are logged once, and the value stays.

Contents are compared rather than times of change: the files are small, and neither a volume that Kubernetes
rotates nor a clock that jumps can hide a change.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")


class FilesError(Exception):
    """Files that cannot be used; the message names them with their flags."""


class Reloaded(Generic[T]):
    """The newest value that could be parsed from files.

    Args:
      what: Names the value in the log and in metrics.
      paths: The files by the flag that names them.
      parse: Parses the files' contents, by flag; raises FilesError or ValueError.
      reloads: Counts reloads, by (what, result).

    Raises:
      FilesError: If the first value cannot be parsed.
    """

    def __init__(
        self,
        what: str,
        paths: Mapping[str, Path],
        parse: Callable[[Mapping[str, bytes]], T],
        reloads: MutableMapping[tuple[str, str], int],
    ) -> None:
        self._what = what
        self._paths = paths
        self._parse = parse
        self._reloads = reloads
        self._seen = self._read(first=True)
        self.value = self._parsed(self._seen)

    async def refresh(self) -> None:
        """Parses the files again if they have changed."""
        found = await asyncio.to_thread(self._read, first=False)
        if found == self._seen:
            return
        self._seen = found
        try:
            self.value = self._parsed(found)
        except FilesError as error:
            self._reloads[self._what, "failed"] += 1
            log.error("%s changed and cannot be used; the previous ones stay in use: %s", self._what, error)
        except Exception:
            self._reloads[self._what, "failed"] += 1
            log.exception("%s changed and cannot be read; the previous ones stay in use", self._what)
        else:
            self._reloads[self._what, "ok"] += 1
            log.info("%s reloaded", self._what)

    def _read(self, *, first: bool) -> dict[str, bytes | str]:
        """Returns the contents by flag, or a text that says why a file cannot be read.

        After the first time, only regular files are read, because reading a pipe or a device may never end.
        """
        found: dict[str, bytes | str] = {}
        for flag, path in self._paths.items():
            try:
                regular = first or path.is_file() or not path.exists()
                found[flag] = path.read_bytes() if regular else "is no regular file any more"
            except OSError as error:
                found[flag] = error.strerror or type(error).__name__
        return found

    def _parsed(self, found: Mapping[str, bytes | str]) -> T:
        contents: dict[str, bytes] = {}
        for flag, content in found.items():
            if isinstance(content, str):
                raise FilesError(f"{flag} {self._paths[flag]}: {content}")
            contents[flag] = content
        try:
            return self._parse(contents)
        except (ValueError, OSError) as error:
            named = " and ".join(f"{flag} {path}" for flag, path in self._paths.items())
            raise FilesError(f"{named}: {error}") from error
