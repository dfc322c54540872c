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
# Ids that an error names; the page has one more, so that it is known whether there are others.
_NAMED_IDS = 10


def is_prefix(model_id: str) -> bool:
    """Whether a text is the beginning of an id: 6 to 63 lower-case hexadecimal digits.

    Raises:
      InvalidRequestError: If it has fewer digits.
    """
    digits = len(model_id) if re.fullmatch("[0-9a-f]+", model_id) else 0
    if 0 < digits < _LEAST_DIGITS:
        found = f"is {model_id!r}; expected an id, or at least its first {_LEAST_DIGITS} digits"
        raise InvalidRequestError.of([Violation("model_id", found)])
    return _LEAST_DIGITS <= digits < _ID_DIGITS


def request_for(prefix: str) -> ListModelsRequest:
    """Asks for the models from the first one on that can begin with a prefix."""
    first = int(prefix.ljust(_ID_DIGITS, "0"), 16)
    # A page begins after its token, and any id can be one.
    page_token = f"{first - 1:0{_ID_DIGITS}x}" if first else ""
    return model_pb2.ListModelsRequest(page_size=_NAMED_IDS + 1, page_token=page_token)


def whole_id(prefix: str, reply: ListModelsResponse) -> str:
    """The only id that begins with a prefix, by the answer to `request_for`.

    Raises:
      ModelNotFoundError: If none does.
      InvalidRequestError: If several do; names them.
    """
    ids = sorted([*(model.model_id for model in reply.models), *reply.damaged_model_ids])
    found = [model_id for model_id in ids if model_id.startswith(prefix)]
    if not found:
        raise ModelNotFoundError(
            f"no model in the store has an id that begins with {prefix}", metadata={"model_id": prefix}
        )
    if len(found) > 1:
        named = ", ".join(found[:_NAMED_IDS]) + (", and others" if len(found) > _NAMED_IDS else "")
        several = f"is {prefix}, with which several ids begin; expected more digits of one of {named}"
        raise InvalidRequestError.of([Violation("model_id", several)])
    return found[0]
