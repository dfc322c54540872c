"""Checks model ids."""

from __future__ import annotations

import re

from entropyd.contract.errors import InvalidRequestError

_MODEL_ID = re.compile(r"[0-9a-f]{64}")


def checked_model_id(model_id: str) -> str:
    """Returns a well-formed model id.

    Raises:
      InvalidRequestError: If it is not 64 lower-case hexadecimal digits.
    """
    if not _MODEL_ID.fullmatch(model_id):
        found = f"is {model_id!r:.80}; expected 64 lower-case hexadecimal digits"
        raise InvalidRequestError.at("model_id", found)
    return model_id
