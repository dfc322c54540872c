"""A value that is read from files, and read anew when they change.

Owns when files are read and what becomes of a change that makes no sense. It must not know what is in them.
Invariant: `value` was read whole, from files that belong together; a change that cannot be used leaves the
value before it in use, and is told once.

Contents are compared rather than times of change: the files are small, and a volume that Kubernetes rotates
or a clock that jumps cannot hide a change.
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
    """What `parse` makes of files, by flag.

    Args:
      what: Names the value in the log and in metrics.
      paths: The files by the flag that names them.
      parse: Makes the value of the files' contents, by flag; raises FilesError or ValueError.
      reloads: Where reloads are counted, by (what, result).

    Attributes:
      value: The newest value that could be made.

    Raises:
      FilesError: If no value can be made to begin with.
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
        self.value = self._made(self._seen)

    async def refresh(self) -> None:
        """Makes the value anew if the files have changed."""
        found = await asyncio.to_thread(self._read, first=False)
        if found == self._seen:
            return
        self._seen = found
        try:
            self.value = self._made(found)
        except FilesError as error:
            self._reloads[self._what, "failed"] += 1
            log.error("%s changed and cannot be used; those before stay in use: %s", self._what, error)
        except Exception:
            self._reloads[self._what, "failed"] += 1
            log.exception("%s changed and cannot be read; those before stay in use", self._what)
        else:
            self._reloads[self._what, "ok"] += 1
            log.info("%s reloaded", self._what)

    def _read(self, *, first: bool) -> dict[str, bytes | str]:
        """The contents by flag; of a file that cannot be read, why.

        After the first time, only regular files are read: to read a pipe or a device may never end.
        """
        found: dict[str, bytes | str] = {}
        for flag, path in self._paths.items():
            try:
                regular = first or path.is_file() or not path.exists()
                found[flag] = path.read_bytes() if regular else "is no regular file any more"
            except OSError as error:
                found[flag] = error.strerror or type(error).__name__
        return found

    def _made(self, found: Mapping[str, bytes | str]) -> T:
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
