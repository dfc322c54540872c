"""Finds a model's id by its first digits."""

from __future__ import annotations

import re
from typing import Any

from entropyd._messages import Call
from entropyd.contract.errors import InvalidRequestError, ModelNotFoundError
from entropyd.v1 import model_pb2
from entropyd.v1.model_pb2 import ListModelsResponse

_LEAST_DIGITS = 6
_ID_DIGITS = 64
# Ids that an error names; a page has one more, so that it is known whether there are others.
_NAMED_IDS = 10


class IdSearch:
    """Finds the only id that begins with some digits, page by page.

    Args:
      text: A whole id, which is not searched for, or its first 6 to 63 digits.

    Raises:
      InvalidRequestError: If it has fewer digits, or is no text.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._is_prefix = _is_prefix(text)
        self._ended = not self._is_prefix
        # A page begins after its token, and any id can be one.
        first = int(text.ljust(_ID_DIGITS, "0"), 16) if self._is_prefix else 0
        self._page_token = f"{first - 1:0{_ID_DIGITS}x}" if first else ""
        self._found: list[str] = []

    def call(self) -> Call[ListModelsResponse] | None:
        """The next call to make; None when there is nothing more to ask."""
        if self._ended:
            return None
        request = model_pb2.ListModelsRequest(page_size=_NAMED_IDS + 1, page_token=self._page_token)
        return Call(request, lambda response: response)

    def add(self, response: ListModelsResponse) -> None:
        """Adds the response to `call`. A page may hold fewer models than it was asked for, or none."""
        ids = [*(model.model_id for model in response.models), *response.damaged_model_ids]
        self._found += sorted(model_id for model_id in ids if model_id.startswith(self._text))
        self._page_token = response.next_page_token
        passed = self._page_token >= self._text.ljust(_ID_DIGITS, "f")
        self._ended = not self._page_token or passed or len(self._found) > _NAMED_IDS

    def model_id(self) -> str:
        """The whole id; ModelNotFoundError if there is none, InvalidRequestError if there are several."""
        if not self._is_prefix:
            return self._text
        if not self._found:
            raise ModelNotFoundError(
                f"no model in the store has an id that begins with {self._text}",
                metadata={"model_id": self._text},
            )
        if len(self._found) > 1:
            others = ", and others" if len(self._found) > _NAMED_IDS else ""
            named = ", ".join(self._found[:_NAMED_IDS]) + others
            found = f"is {self._text}, which several ids begin with; expected more digits of one of {named}"
            raise InvalidRequestError.at("model_id", found)
        return self._found[0]


def _is_prefix(model_id: Any) -> bool:
    """Whether a text is the beginning of an id: 6 to 63 lower-case hexadecimal digits. Errors as IdSearch."""
    if not isinstance(model_id, str):
        raise InvalidRequestError.at("model_id", f"is {model_id!r:.80}; expected the text of an id")
    digits = len(model_id) if re.fullmatch("[0-9a-f]+", model_id) else 0
    if 0 < digits < _LEAST_DIGITS:
        found = f"is {model_id!r}; expected an id, or at least its first {_LEAST_DIGITS} digits"
        raise InvalidRequestError.at("model_id", found)
    return _LEAST_DIGITS <= digits < _ID_DIGITS
