"""Finds a model's id by its first digits or its name."""

from __future__ import annotations

import re
from typing import Any

from entropyd._messages import Call
from entropyd.contract.errors import InvalidRequestError, ModelNotFoundError
from entropyd.contract.names import RULE, is_name
from entropyd.v1 import model_pb2
from entropyd.v1.model_pb2 import ListModelsResponse, ResolveModelNameResponse

_LEAST_DIGITS = 6
_ID_DIGITS = 64
_DIGITS = re.compile(f"[0-9a-f]{{{_LEAST_DIGITS},{_ID_DIGITS}}}")
# Ids that an error names; a page has one more, so that it is known whether there are others.
_NAMED_IDS = 10


class IdSearch:
    """Finds the id that has a name, or the only one that begins with some digits, page by page.

    Args:
      text: A whole id, which is not searched for, its first 6 to 63 digits, or a name.

    Raises:
      InvalidRequestError: If it is none of these.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._is_name = is_name(text)
        if not self._is_name and not (isinstance(text, str) and _DIGITS.fullmatch(text)):
            expected = f"an id, at least its first {_LEAST_DIGITS} digits, or a name: {RULE}"
            raise InvalidRequestError.at("model_id", f"is {text!r:.80}; expected {expected}")
        self._ended = not self._is_name and len(text) == _ID_DIGITS
        self._found = [text] if self._ended else []
        # A page begins after its token, and any id can be one.
        first = 0 if self._is_name else int(text.ljust(_ID_DIGITS, "0"), 16)
        self._page_token = f"{first - 1:0{_ID_DIGITS}x}" if first else ""

    def call(self) -> Call[Any] | None:
        """The next call to make; None when there is nothing more to ask."""
        if self._ended:
            return None
        request: Any
        if self._is_name:
            request = model_pb2.ResolveModelNameRequest(name=self._text)
        else:
            request = model_pb2.ListModelsRequest(page_size=_NAMED_IDS + 1, page_token=self._page_token)
        return Call(request, lambda response: response)

    def add(self, response: ListModelsResponse | ResolveModelNameResponse) -> None:
        """Adds the response to `call`. A page may hold fewer models than it was asked for, or none."""
        if isinstance(response, ResolveModelNameResponse):
            self._found, self._ended = [response.model_id], True
            return
        ids = [*(model.model_id for model in response.models), *response.damaged_model_ids]
        self._found += sorted(model_id for model_id in ids if model_id.startswith(self._text))
        self._page_token = response.next_page_token
        passed = self._page_token >= self._text.ljust(_ID_DIGITS, "f")
        self._ended = not self._page_token or passed or len(self._found) > _NAMED_IDS

    def model_id(self) -> str:
        """The whole id; ModelNotFoundError if there is none, InvalidRequestError if there are several."""
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
