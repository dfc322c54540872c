"""What a server's log and metrics tell of it."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from pathlib import Path


class Workers:
    """Which process each worker is now, as the server's log tells."""

    def __init__(self, log: Path) -> None:
        self._log = log.open()
        self._lines = threading.Lock()
        self._pids: dict[str, int] = {}

    def pid(self, name: str) -> int:
        with self._lines:
            for line in self._log:
                if started := re.search(r"worker (\w+) started as process (\d+)", line):
                    self._pids[started[1]] = int(started[2])
        return self._pids[name]

    def close(self) -> None:
        self._log.close()


def metric_of(address: str, name: str) -> float:
    """The sum of a metric's samples."""
    with urlopen(f"http://{address}/metrics") as reply:
        families = text_string_to_metric_families(reply.read().decode())
    return sum(sample.value for family in families for sample in family.samples if sample.name == name)
