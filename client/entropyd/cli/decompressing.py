"""Restores the array of an archive, in parts.

Invariant: memory is that of a part, unless one item of the first batch axis is larger.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from math import prod
from typing import Any, Literal

import numpy as np

from entropyd import (
    Archive,
    Client,
    EmbeddedModel,
    InvalidRequestError,
    InvalidTensorError,
    Model,
    ModelNotFoundError,
)
from entropyd._target import Target
from entropyd.bounded import ErrorBound
from entropyd.cli.compressing import Advance, part_elements
from entropyd.cli.inputs import NO_INPUTS, CodingInputs
from entropyd.cli.npy import write_header
from entropyd.cli.sources import missing


@dataclass(frozen=True)
class Restored:
    """A restored array.

    Attributes:
      shape, dtype: Of the array.
      damaged_units: Numbers of the damaged coding units, which are NaN in the array.
      missing_units: Coding units that are known to be missing after the last one.
      complete: Whether these are all coding units of the archive.
      problems: What is missing of the selected items, one sentence each.
    """

    shape: tuple[int, ...]
    dtype: str
    damaged_units: list[int]
    missing_units: int
    complete: bool
    problems: list[str]

    @property
    def figures(self) -> dict[str, Any]:
        """All of it for JSON, but the problems, which are errors of the command."""
        return {name: value for name, value in asdict(self).items() if name != "problems"}

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"


def decompress_archive(
    client: Client,
    archive: Archive,
    target: Target,
    items: slice | None,
    *,
    skip_damaged: bool,
    advance: Advance,
    inputs: CodingInputs = NO_INPUTS,
) -> Restored:
    """Restores an archive, or some items of its first batch axis, into a `.npy` file.

    Indexes and location are those of all items, or of the ones to restore.
    """
    model, embedded = _model_of(client, archive)
    bound = ErrorBound.of(archive.metadata)
    dtype = np.dtype(bound.dtype) if bound is not None else model.bottleneck_dtype
    unit_shape = archive.broadcast_shape + model.config.unit_axes
    elements = part_elements(client, dtype, bounded=bound is not None)
    selections = _selections(archive, items, elements // (prod(unit_shape) or 1))
    chosen = (selections[-1].stop - selections[0].start,) if archive.batch_shape else ()
    shape = chosen + archive.batch_shape[1:] + unit_shape
    inputs = _of_items(inputs, model, archive, slice(selections[0].start, selections[-1].stop))
    damaged: list[int] = []
    on_error: Literal["raise", "skip"] = "skip" if skip_damaged else "raise"
    write_header(target, shape, dtype)
    for selection in selections:
        key = selection if archive.batch_shape else ...
        compressed = archive.read(key, on_error=on_error)
        if embedded is not None:
            compressed = embedded.standalone(compressed)
        indexes, loc = inputs.part(model.config, key)
        first_unit = selection.start * prod(archive.batch_shape[1:])
        if skip_damaged:
            restored, mask = model.decompress(compressed, indexes=indexes, loc=loc, on_error="skip")
            damaged += (first_unit + np.flatnonzero(mask)).tolist()
        else:
            restored = model.decompress(compressed, indexes=indexes, loc=loc, first_unit=first_unit)
        exact = archive.exact(key, on_error=on_error)
        target.write(exact.applied(restored if bound is None else bound.data(restored)).tobytes())
        advance(len(compressed.payload))
    problems = []
    if damaged:
        problems.append(f"{len(damaged)} damaged coding units are NaN: {_some(damaged)}")
    if not archive.complete and _asks_for_the_end(items):
        found = f"{archive.units:,} coding units were found, and {missing(archive)}"
        problems.append(f"{archive.name} is not complete: {found}")
    return Restored(shape, dtype.name, damaged, archive.missing_units, archive.complete, problems)


def _model_of(client: Client, archive: Archive) -> tuple[Model, EmbeddedModel | None]:
    """The model that decodes an archive; and the embedded model, if the server did not have it."""
    try:
        model = client.model(archive.model_id)
        if model.tables_digest == archive.tables_digest:
            return model, None
    except ModelNotFoundError:
        if archive.model is None:
            raise
    embedded = archive.model
    if embedded is None:
        return model, None  # the server answers TABLES_MISMATCH
    # The limit of the client is --timeout-s.
    return client.create_model(embedded.standalone_config, timeout_s=None), embedded


def _of_items(inputs: CodingInputs, model: Model, archive: Archive, items: slice) -> CodingInputs:
    """Inputs of all items of an archive as they are; those of some items with the number of the first."""
    shape = inputs.shape(model.config)
    if shape is None or not archive.batch_shape or shape[:1] == archive.batch_shape[:1]:
        return inputs
    if shape and shape[0] > len(archive) and not archive.complete:  # those of the missing items, too
        return inputs
    chosen = items.stop - items.start
    if shape[:1] != (chosen,):
        found = f"have shape {shape}" if not shape else f"are of {shape[0]:,} items"
        expected = f"{archive.name} holds {len(archive):,}, of which {chosen:,} are restored"
        raise InvalidTensorError.at("indexes", f"{found}; {expected}")
    return replace(inputs, first=items.start)


def _selections(archive: Archive, items: slice | None, units: int) -> list[slice]:
    """Runs of items of about `units` coding units; at least one run."""
    count = len(archive) if archive.batch_shape else 1
    start, stop = (0, count) if items is None else _within(items, count, archive)
    step = max(1, units // (prod(archive.batch_shape[1:]) or 1))
    return [slice(first, min(first + step, stop)) for first in range(start, max(stop, start + 1), step)]


def _within(items: slice, count: int, archive: Archive) -> tuple[int, int]:
    """The first item and the one after the last; negative numbers count from the end."""
    ends = [0 if items.start is None else items.start, count if items.stop is None else items.stop]
    start, stop = (end + count if end < 0 else end for end in ends)
    if not 0 <= start < stop <= count:
        units = "coding units" if len(archive.batch_shape) < 2 else "items of the first batch axis"
        found = f"are {ends[0]}:{ends[1]}; {archive.name} holds {count:,} {units}, 0:{count}"
        raise InvalidRequestError.at("units", found)
    return start, stop


def _asks_for_the_end(items: slice | None) -> bool:
    """Whether items count from the end, or reach to it."""
    return items is None or items.stop is None or min(items.start or 0, items.stop) < 0


def _some(units: list[int]) -> str:
    return ", ".join(map(str, units[:10])) + (", ..." if len(units) > 10 else "")
