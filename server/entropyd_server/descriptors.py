"""The limit on open files and connections of the process."""

from __future__ import annotations

import logging
import resource

log = logging.getLogger(__name__)

# Above this, some libraries are slow: they loop over all possible descriptors.
_MOST = 1 << 20
# Each connection takes one descriptor; workers and the store take a few.
_FEW = 4096


def raise_limit() -> None:
    """Raises the soft limit to the hard one, and warns if that is low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    if soft != resource.RLIM_INFINITY and soft < _FEW:
        log.warning(
            "this process may open only %d files and connections, and further clients cannot connect: raise "
            "LimitNOFILE or ulimit -n",
            soft,
        )
