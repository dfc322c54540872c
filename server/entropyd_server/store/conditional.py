"""Writes objects on a condition.

Invariant: the writer whose object is in the store hears so, also if the store obeyed its request and answered
with an error. obstore then repeats the request, and the writer's own object fails the condition.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError, PreconditionError
from obstore.store import LocalStore

if TYPE_CHECKING:
    from obstore import PutMode
    from obstore.store import ObjectStore

# Metadata of an object: a random number, by which its writer knows it. Azure takes no hyphens in its name.
_WRITER = "writer"


async def put_if(backend: ObjectStore, path: str, blob: bytes, mode: PutMode) -> bool:
    """Writes an object if it is absent ("create") or still has a version; returns whether this call did.

    A caller that is told False may still have written the object, if another replaced it at once.
    """
    if isinstance(backend, LocalStore):  # it takes no metadata, and nothing is repeated
        return await _put(backend, path, blob, mode, {})
    writer = {_WRITER: secrets.token_hex(16)}
    return await _put(backend, path, blob, mode, writer) or await _is_from(backend, path, writer[_WRITER])


async def _put(
    backend: ObjectStore, path: str, blob: bytes, mode: PutMode, attributes: dict[str, str]
) -> bool:
    try:
        await obstore.put_async(backend, path, blob, mode=mode, attributes=attributes or None)
    except (AlreadyExistsError, PreconditionError):
        return False
    return True


async def _is_from(backend: ObjectStore, path: str, writer: str) -> bool:
    try:
        found = await obstore.get_async(backend, path, options={"head": True})
    except FileNotFoundError:
        return False
    return found.attributes.get(_WRITER) == writer
