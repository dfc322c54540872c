"""Names of models: what may be one.

Invariant: no name is a model id or the beginning of one.
"""

from __future__ import annotations

import re
from typing import Any

from entropyd.contract.errors import InvalidRequestError

RULE = (
    "1 to 64 of a-z, 0-9, '.', '_' and '-', the first a letter or a digit, and at least one that is no "
    "hexadecimal digit"
)
_NAME = re.compile(r"(?=.*[^0-9a-f])[a-z0-9][a-z0-9._-]{0,63}")


def is_name(found: Any) -> bool:
    return isinstance(found, str) and _NAME.fullmatch(found) is not None


def checked_name(name: Any, field: str = "name") -> str:
    """Returns a well-formed name.

    Raises:
      InvalidRequestError: If it is none.
    """
    if not is_name(name):
        raise InvalidRequestError.at(field, f"is {name!r:.80}; expected {RULE}")
    return str(name)
