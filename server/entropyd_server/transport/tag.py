"""What gRPC's core hands back with the end of an operation.

Invariant: each is told once of its operation's end: by the event, or, where that could not be read, by being
in `lost`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

Failed: TypeAlias = "Callable[[BaseException], object]"


class Tag:
    """Passes an operation's event on.

    gRPC drops a tag whose event it cannot read, as for want of memory, and does not say whose it was.

    Args:
      then: Takes the event.
      failed: Takes what `then` raises, which is the concern of the operation's call alone.
      lost: Gets `failed` where gRPC drops the tag unseen; for whoever reads events to call.
    """

    __slots__ = ("_failed", "_lost", "_then")

    def __init__(self, then: Callable[[Any], object], failed: Failed, lost: list[Failed]) -> None:
        self._then: Callable[[Any], object] | None = then
        self._failed = failed
        self._lost = lost

    def __call__(self, event: Any) -> None:
        """Takes the operation's event."""
        then, self._then = self._then, None
        if then is None:
            return
        try:
            then(event)
        except Exception as error:  # noqa: BLE001 - whatever it is, others' events are still to be read
            self._failed(error)

    def drop(self) -> None:
        """Takes the tag back from an operation that was not begun."""
        self._then = None

    def __del__(self) -> None:
        if self._then is not None:
            self._lost.append(self._failed)
