"""How many files and connections the process may have open."""

from __future__ import annotations

import logging
import resource

log = logging.getLogger(__name__)

# Where the hard limit is higher, or there is none: some libraries go through all descriptors that may be.
_MOST = 1 << 20
# Each connection takes one, and each worker and the store some more.
_FEW = 4096


def raise_limit() -> None:
    """Raises the limit to the hard one, and warns where that is low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    if soft != resource.RLIM_INFINITY and soft < _FEW:
        log.warning(
            "this process may open %d files and connections, which is few: past them no caller is let in "
            "(ulimit -n, LimitNOFILE)",
            soft,
        )
