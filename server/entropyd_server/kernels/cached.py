"""Where compiled kernels are kept, and when they are out of date.

Owns the stamp that Numba compares. It must not know what a kernel computes. Invariant: machine code that is
loaded was compiled from the sources that are there now, those of inlined steps and constants among them.

Numba's own stamp is the file of the entry point alone, so that an update of what it calls would go on running
the old code from a cache that outlives it, with whatever layout of tables that code knows.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from numba import config
from numba.core.caching import InTreeCacheLocator, UserProvidedCacheLocator, UserWideCacheLocator

if TYPE_CHECKING:
    from collections.abc import Iterator


@cache
def _stamp() -> bytes:
    """Digest of all modules of this package."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.digest()


class _OfThePackage:
    def get_source_stamp(self) -> bytes:
        """What the cache must have been made from."""
        return _stamp()


class InConfiguredFolder(_OfThePackage, UserProvidedCacheLocator):  # type: ignore[misc]  # Numba has no types
    """NUMBA_CACHE_DIR."""


class BesideSource(_OfThePackage, InTreeCacheLocator):  # type: ignore[misc]
    """`__pycache__`."""


class InHome(_OfThePackage, UserWideCacheLocator):  # type: ignore[misc]
    """The user's cache folder."""


_LOCATORS = ",".join(
    f"{kind.__module__}.{kind.__name__}" for kind in (InConfiguredFolder, BesideSource, InHome)
)


@contextmanager
def stamped_by_package() -> Iterator[None]:
    """Has what is decorated here cached under our stamp; other users of Numba in the process keep theirs."""
    others = config.CACHE_LOCATOR_CLASSES
    config.CACHE_LOCATOR_CLASSES = _LOCATORS
    try:
        yield
    finally:
        config.CACHE_LOCATOR_CLASSES = others
