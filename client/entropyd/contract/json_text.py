"""Reads untrusted JSON: bounded in depth, with strings that are Unicode text."""

from __future__ import annotations

import json
from typing import Any

# A configuration whose priors nest as deeply as they may has 12 levels.
MAX_DEPTH = 32
_TOO_DEEP = f"nests more than {MAX_DEPTH} levels"


def parse_json(text: str | bytes) -> Any:
    """Reads a document.

    Raises:
      ValueError: If it is not JSON, nests more than `MAX_DEPTH` levels of lists and objects, or has a string
        with a lone surrogate, which has no bytes in UTF-8.
    """
    try:
        document = json.loads(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    level = [document]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below += value.keys()
                below += value.values()
            elif isinstance(value, list):
                below += value
            elif isinstance(value, str):
                _check_text(value)
        if not below:
            return document
        level = below
    raise ValueError(_TOO_DEEP)


def _check_text(value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("has a string with a lone surrogate") from None
