"""Models by the first digits of their ids: what to ask the server for, and what its answer means."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from entropyd.contract.errors import InvalidRequestError, ModelNotFoundError, Violation
from entropyd.v1 import model_pb2

if TYPE_CHECKING:
    from entropyd.v1.model_pb2 import ListModelsRequest, ListModelsResponse

_LEAST_DIGITS = 6
_ID_DIGITS = 64
# Ids that an error names; a page has one more, so that it is known whether there are others.
_NAMED_IDS = 10


def is_prefix(model_id: str) -> bool:
    """Whether a text is the beginning of an id: 6 to 63 lower-case hexadecimal digits.

    Raises:
      InvalidRequestError: If it has fewer digits, or is no text.
    """
    if not isinstance(model_id, str):
        found = f"is {model_id!r:.80}; expected the text of an id"
        raise InvalidRequestError.of([Violation("model_id", found)])
    digits = len(model_id) if re.fullmatch("[0-9a-f]+", model_id) else 0
    if 0 < digits < _LEAST_DIGITS:
        found = f"is {model_id!r}; expected an id, or at least its first {_LEAST_DIGITS} digits"
        raise InvalidRequestError.of([Violation("model_id", found)])
    return _LEAST_DIGITS <= digits < _ID_DIGITS


class Search:
    """Finds the ids that begin with a prefix, page by page.

    Args:
      prefix: 6 to 63 hexadecimal digits.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        # A page begins after its token, and any id can be one.
        first = int(prefix.ljust(_ID_DIGITS, "0"), 16)
        self._page_token = f"{first - 1:0{_ID_DIGITS}x}" if first else ""
        self._found: list[str] = []
        self._ended = False

    def request(self) -> ListModelsRequest | None:
        """What to ask the server next; None where nothing is left to ask."""
        if self._ended:
            return None
        return model_pb2.ListModelsRequest(page_size=_NAMED_IDS + 1, page_token=self._page_token)

    def add(self, reply: ListModelsResponse) -> None:
        """Takes the answer to `request`. A page may hold fewer models than it was asked for, or none."""
        ids = [*(model.model_id for model in reply.models), *reply.damaged_model_ids]
        self._found += sorted(model_id for model_id in ids if model_id.startswith(self._prefix))
        self._page_token = reply.next_page_token
        passed = self._page_token >= self._prefix.ljust(_ID_DIGITS, "f")
        self._ended = not self._page_token or passed or len(self._found) > _NAMED_IDS

    def model_id(self) -> str:
        """The only id that begins with the prefix.

        Raises:
          ModelNotFoundError: If none does.
          InvalidRequestError: If several do; names them.
        """
        if not self._found:
            raise ModelNotFoundError(
                f"no model in the store has an id that begins with {self._prefix}",
                metadata={"model_id": self._prefix},
            )
        if len(self._found) > 1:
            others = ", and others" if len(self._found) > _NAMED_IDS else ""
            named = ", ".join(self._found[:_NAMED_IDS]) + others
            several = (
                f"is {self._prefix}, with which several ids begin; expected more digits of one of {named}"
            )
            raise InvalidRequestError.of([Violation("model_id", several)])
        return self._found[0]
