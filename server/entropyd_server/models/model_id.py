"""Model ids as callers send them."""

from __future__ import annotations

import re

from entropyd.contract.errors import InvalidRequestError, Violation

_MODEL_ID = re.compile(r"[0-9a-f]{64}")


def checked_model_id(model_id: str) -> str:
    """A well-formed model id.

    Raises:
      InvalidRequestError: If it is not 64 lower-case hexadecimal digits.
    """
    if not _MODEL_ID.fullmatch(model_id):
        found = f"is {model_id!r:.80}; expected 64 lower-case hexadecimal digits"
        raise InvalidRequestError.of([Violation("model_id", found)])
    return model_id
