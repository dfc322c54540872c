"""How log lines look.

Owns the format of every line that the process writes. It must not know what is logged. Invariant: with the
format `json`, each line is one JSON object, tracebacks and line breaks in messages included.
"""

from __future__ import annotations

import logging
import sys

from pythonjsonlogger.json import JsonFormatter

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")


def configure(log_format: str, level: str) -> None:
    """Sends the lines of all loggers to standard error, in one of FORMATS, from one of LEVELS on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_json() if log_format == "json" else _text())
    logging.basicConfig(level=level.upper(), handlers=[handler])


def _text() -> logging.Formatter:
    return logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")


def _json() -> logging.Formatter:
    return JsonFormatter(
        "%(levelname)s %(name)s %(message)s",
        rename_fields={"levelname": "level", "name": "logger", "exc_info": "traceback"},
        timestamp="time",
    )
