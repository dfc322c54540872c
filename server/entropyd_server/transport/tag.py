"""What gRPC's core hands back with the end of an operation.

Invariant: of each operation's end its owner is told once: by the event, or, where that could not be read, by
the tag's being among the lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    class Owner(Protocol):
        """What begins operations.

        Attributes:
          lost: Gets the tags whose events could not be read; for whoever reads events to `lose` them.
        """

        lost: list[Tag]

        def failed(self, then: Callable[[Any, Any], object], error: BaseException) -> None:
            """Deals with what `then` raised, or with its having got no event."""


class Tag:
    """Passes an operation's event on to its owner.

    gRPC drops a tag whose event it cannot read, as for want of memory, and does not say whose it was.

    Args:
      owner: What began the operation; what its event leads to is the owner's concern alone.
      then: Takes the owner and the event.
    """

    __slots__ = ("_owner", "_then")

    def __init__(self, owner: Owner, then: Callable[[Any, Any], object]) -> None:
        self._owner: Owner | None = owner
        self._then = then

    def __call__(self, event: Any) -> None:
        """Takes the operation's event."""
        owner, self._owner = self._owner, None
        if owner is None:
            return
        try:
            self._then(owner, event)
        except Exception as error:  # noqa: BLE001 - whatever it is, others' events are still to be read
            owner.failed(self._then, error)

    def lose(self) -> None:
        """Tells the owner that no event will come."""
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.failed(self._then, MemoryError())

    def drop(self) -> None:
        """Takes the tag back from an operation that was not begun."""
        self._owner = None

    def __del__(self) -> None:
        if self._owner is not None:
            self._owner.lost.append(self)
