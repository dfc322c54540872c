"""Finds a running server's pages, and waits for conditions with a limit."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from entropyd_server.local import LocalServer


def status_page_of(server: LocalServer) -> str:
    """The URL of a server's status page; it was started with a --metrics-listen, perhaps of port 0."""
    found = re.search(r"status page on (http://\S+/),", server.log_path.read_text())
    assert found is not None
    return found[1]


def until(condition: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
    """Waits for a condition, and fails naming it if it does not come."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)
