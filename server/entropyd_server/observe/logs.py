"""Sets up the format of log lines.

Invariant: in the format `json`, each line is one JSON object, even with tracebacks and line breaks.
"""

from __future__ import annotations

import logging
import sys

from pythonjsonlogger.json import JsonFormatter

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")


def configure(log_format: str, level: str) -> None:
    """Sends log lines of `level` and above to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    if log_format == "json":
        names = {"levelname": "level", "name": "logger", "exc_info": "traceback"}
        fields = "%(levelname)s %(name)s %(message)s"
        handler.setFormatter(JsonFormatter(fields, rename_fields=names, timestamp="time"))
    logging.basicConfig(level=level.upper(), handlers=[handler])
