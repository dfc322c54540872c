"""The coding units that an index into an archive selects.

Invariant: memory grows with the selected units, not with all, and the units and their shape are those that
NumPy selects from an array of all.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt


def selected_units(key: Any, items: int, item_shape: tuple[int, ...] | None) -> npt.NDArray[np.int64]:
    """Numbers of the selected coding units, in the shape of the selection.

    Args:
      key: An integer, a slice or `...` for each axis of the batch; on the first axis also a vector of
        integers or a mask.
      items: Length of the first batch axis.
      item_shape: The other batch axes; None for a single coding unit without batch axes.

    Raises:
      IndexError: If the key is anything else, has too many axes, or is out of bounds.
    """
    parts = key if isinstance(key, tuple) else (key,)
    axes = 0 if item_shape is None else 1 + len(item_shape)
    parts = _without_ellipsis(parts, axes)
    if item_shape is None:
        return np.zeros((), np.int64)
    others = np.arange(prod(item_shape)).reshape(item_shape)[parts[1:]]
    if not others.size and isinstance(parts[0], slice):
        # Items without units may be of any number.
        return np.empty((len(_range(parts[0], items)), *others.shape), np.int64)
    chosen = _along_first_axis(parts[0], items)
    starts = chosen * prod(item_shape)
    return starts.reshape(starts.shape + (1,) * others.ndim) + others


def _without_ellipsis(parts: tuple[Any, ...], axes: int) -> tuple[Any, ...]:
    places = [place for place, part in enumerate(parts) if part is Ellipsis]
    if len(parts) - len(places) > axes or len(places) > 1:
        raise IndexError(f"{len(parts)} indices for a batch of {axes} axes")
    place = places[0] if places else len(parts)
    missing = (slice(None),) * (axes - len(parts) + len(places))
    whole = parts[:place] + missing + parts[place + 1 :]
    for number, part in enumerate(whole):
        if not isinstance(part, (int, np.integer, slice)) and number > 0:
            raise IndexError("an axis after the first takes an integer or a slice")
    return whole


def _range(part: slice, items: int) -> range:
    try:
        return range(*part.indices(items))
    except TypeError as error:
        raise IndexError(str(error)) from error


def _along_first_axis(part: Any, items: int) -> npt.NDArray[np.int64]:
    if isinstance(part, slice):
        chosen = _range(part, items)
        return np.arange(chosen.start, chosen.stop, chosen.step)
    index = np.asarray(part)
    if index.dtype == np.bool_ and index.shape == (items,):
        return np.flatnonzero(index)
    if not index.size and index.ndim == 1:
        return np.empty(0, np.int64)
    if index.dtype.kind not in "iu" or index.ndim > 1:
        raise IndexError("the first axis takes an integer, a slice, a vector of integers, or a mask")
    if index.size and not (index.min() >= -items and index.max() < items):
        raise IndexError(f"index {part!r:.80} is out of bounds for {items} items")
    return np.where(index < 0, index + items, index).astype(np.int64)
