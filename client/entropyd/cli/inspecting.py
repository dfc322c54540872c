"""`entropyd inspect`: shows the content of an archive."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from entropyd import Archive, Bundle, DataLossError
from entropyd.cli.paths import FILE
from entropyd.cli.session import Session
from entropyd.cli.sources import opened_file

_BARS = 12
_BAR_WIDTH = 40


@dataclass(frozen=True)
class _Strings:
    """Lengths of the bit strings of an archive, and the number of its exact elements.

    Attributes:
      values: int64 [distinct], lengths in bytes, ascending.
      units: int64 [distinct], bit strings of each length.
      exact_elements: Number of exact elements.
    """

    values: npt.NDArray[np.int64]
    units: npt.NDArray[np.int64]
    exact_elements: int

    @classmethod
    def of(cls, archive: Archive, *, recover: bool) -> _Strings:
        counts: Counter[int] = Counter()
        exact_elements = 0
        for header in archive.block_headers(on_error="skip" if recover else "raise"):
            values, units = np.unique(header.lengths, return_counts=True)
            counts.update(dict(zip(values.tolist(), units.tolist(), strict=True)))
            exact_elements += header.exact_elements
        ascending = sorted(counts)
        of_each = [counts[value] for value in ascending]
        return cls(np.array(ascending, np.int64), np.array(of_each, np.int64), exact_elements)

    @property
    def total_bytes(self) -> int:
        return int(self.values @ self.units)

    def statistics(self) -> dict[str, Any]:
        if not len(self.values):
            return {}
        below = np.cumsum(self.units)
        mean = round(self.total_bytes / int(below[-1]), 2)
        median, p99 = (int(self.values[np.searchsorted(below, part * below[-1])]) for part in (0.5, 0.99))
        least, most = int(self.values[0]), int(self.values[-1])
        return {"least": least, "mean": mean, "median": median, "p99": p99, "most": most}

    def histogram(self) -> tuple[list[int], list[int]]:
        """Bit strings per range of lengths, and the ranges' borders in bytes."""
        if not len(self.values):
            return [], []
        least, most = int(self.values[0]), int(self.values[-1])
        width = -(-(most - least + 1) // _BARS)
        bars = -(-(most - least + 1) // width)
        counts = np.bincount((self.values - least) // width, self.units, bars).astype(int)
        return counts.tolist(), [least + width * bar for bar in range(bars + 1)]


@click.command()
@click.argument("file", type=FILE)
@click.option("--recover", is_flag=True, help="Read an archive that lost its end, its index or blocks.")
@click.pass_obj
def inspect(session: Session, /, file: Path, *, recover: bool) -> None:
    """Show the content of the archive FILE: model, shapes, rate, and lengths of its bit strings.

    Of a bundle, shows each part. FILE may be a pipe, or - for standard input. Needs no server, and does not
    read the bit strings.

    \b
    Examples:
      entropyd inspect latents.entropyd
      entropyd --json inspect latents.entropyd | jq .bits_per_symbol
    """
    with opened_file(file, recover=recover) as opened:
        if isinstance(opened, Archive):
            found = _found(opened, recover=recover)
            session.show(found, lambda: _say(found))
        else:
            of_bundle = _found_in_bundle(opened, recover=recover)
            session.show(of_bundle, lambda: _say_bundle(of_bundle))


def _found_in_bundle(bundle: Bundle, *, recover: bool) -> dict[str, Any]:
    parts = {name: _found(part, recover=recover) for name, part in bundle.items()}
    payload_bytes = sum(part["payload_bytes"] for part in parts.values())
    of_file = ("file", "file_bytes", "overhead", "metadata")
    return {
        "file": bundle.name,
        "file_bytes": bundle.file_bytes,
        "payload_bytes": payload_bytes,
        "overhead": _overhead(bundle.file_bytes, payload_bytes),
        "metadata": dict(bundle.metadata),
        "parts": {
            part: {name: value for name, value in found.items() if name not in of_file}
            for part, found in parts.items()
        },
    }


def _found(archive: Archive, *, recover: bool) -> dict[str, Any]:
    strings = _Strings.of(archive, recover=recover)
    counts, edges = strings.histogram()
    payload_bytes = strings.total_bytes
    per_unit, found_units = archive.symbols_per_unit, int(strings.units.sum())
    symbols = None if per_unit is None else per_unit * found_units
    embedded, has_model = None, None
    try:
        embedded = archive.model
        has_model = embedded is not None
    except DataLossError:
        if not recover:
            raise
    return {
        "file": archive.name,
        "model_id": archive.model_id,
        "tables_digest": archive.tables_digest.hex(),
        "prior": None if embedded is None else embedded.config.family,
        "model_embedded": has_model,
        "dtype": archive.dtype,
        "batch_shape": list(archive.batch_shape),
        "broadcast_shape": list(archive.broadcast_shape),
        "coding_units": archive.units,
        "symbols_per_unit": per_unit,
        "bits_per_symbol": round(8 * payload_bytes / symbols, 4) if symbols else None,
        "file_bytes": archive.file_bytes,
        "payload_bytes": payload_bytes,
        "overhead": _overhead(archive.file_bytes, payload_bytes),
        "exact_elements": strings.exact_elements,
        "index_checksums": archive.index_checksums,
        "unit_numbers": archive.unit_numbers,
        "complete": archive.complete,
        "missing_units": archive.missing_units,
        "metadata": dict(archive.metadata),
        "lengths": {**strings.statistics(), "histogram": {"edges_bytes": edges, "units": counts}},
    }


def _overhead(file_bytes: int, payload_bytes: int) -> float | None:
    return round(file_bytes / payload_bytes - 1, 5) if payload_bytes else None


def _say(found: dict[str, Any]) -> None:
    for name, value in found.items():
        if name != "lengths":
            click.echo(f"{name:18} {value}")
    histogram = found["lengths"]["histogram"]
    if histogram["units"]:
        click.echo(f"\nlengths of bit strings: {_spread(found['lengths'])} bytes")
        _draw(histogram["units"], histogram["edges_bytes"])


def _say_bundle(found: dict[str, Any]) -> None:
    for name, value in found.items():
        click.echo(f"{name:18} {', '.join(value) if name == 'parts' else value}")
    for name, part in found["parts"].items():
        click.echo(f"\npart {name}\n")
        _say(part)


def _spread(statistics: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in statistics.items() if name != "histogram")


def _draw(counts: list[int], edges: list[int]) -> None:
    digits = len(str(edges[-1]))
    for count, first, end in zip(counts, edges, edges[1:], strict=False):
        bar = "█" * -(-_BAR_WIDTH * count // max(counts))
        span = f"{first:{digits}}" if end == first + 1 else f"{first:{digits}} to {end - 1:{digits}}"
        click.echo(f"  {span}  {bar} {count:,}")
