"""Reads untrusted JSON: bounded in depth, with finite numbers and strings that are Unicode text."""

from __future__ import annotations

import json
import math
import re
from typing import Any

# A configuration whose priors nest as deeply as they may has 13 levels.
MAX_DEPTH = 32
_SURROGATE = re.compile("[\ud800-\udfff]")
_TOO_DEEP = f"nests more than {MAX_DEPTH} levels"


def parse_json(text: str | bytes) -> Any:
    """Reads a document.

    Raises:
      ValueError: If it is not JSON, nests more than `MAX_DEPTH` levels of lists and objects, has a number
        that is not finite, or a string with a lone surrogate, which has no bytes in UTF-8.
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
            elif isinstance(value, str) and _SURROGATE.search(value):
                raise ValueError("has a string with a lone surrogate")
            elif isinstance(value, float) and not math.isfinite(value):
                # Python reads NaN and Infinity, which JSON lacks, and 1e999 as infinity.
                raise ValueError(f"has the number {value}; JSON has finite ones alone")
        if not below:
            return document
        level = below
    raise ValueError(_TOO_DEEP)
