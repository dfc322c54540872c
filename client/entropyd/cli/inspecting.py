"""`entropyd inspect` and `entropyd verify`: archives without a server.

Owns what is shown of an archive. It must not connect to anything.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from entropyd import Archive
from entropyd.archive import verify as verify_file
from entropyd.cli.progress import progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from entropyd.archive import Verification
    from entropyd.cli.session import Session

_BARS = 12
_BAR_WIDTH = 40
_NAMED_RUNS = 20


@dataclass(frozen=True)
class _Lengths:
    """How long the bit strings of an archive are, in memory of the distinct lengths.

    Attributes:
      values: int64 [distinct], lengths in bytes, rising.
      units: int64 [distinct], bit strings of each length.
    """

    values: npt.NDArray[np.int64]
    units: npt.NDArray[np.int64]

    @classmethod
    def of(cls, archive: Archive) -> _Lengths:
        counts: Counter[int] = Counter()
        for lengths in archive.lengths():
            values, units = np.unique(lengths, return_counts=True)
            counts.update(dict(zip(values.tolist(), units.tolist(), strict=True)))
        rising = sorted(counts)
        return cls(np.array(rising, np.int64), np.array([counts[value] for value in rising], np.int64))

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
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--recover", is_flag=True, help="Look into an archive that lost its end or its index.")
@click.pass_obj
def inspect(session: Session, /, file: Path, *, recover: bool) -> None:
    """Show what the archive FILE holds: model, shapes, rate, and how long its bit strings are.

    Needs no server, and does not read the bit strings.

    \b
    Examples:
      entropyd inspect latents.entropyd
      entropyd --json inspect latents.entropyd | jq .bits_per_symbol
    """  # noqa: D301 - \b is click's mark for text to leave as it is
    with Archive.open(file, recover=recover) as archive:
        lengths = _Lengths.of(archive)
        found = _found(archive, lengths)
    counts, edges = lengths.histogram()
    found["lengths"]["histogram"] = {"edges_bytes": edges, "units": counts}

    def text() -> None:
        for name, value in found.items():
            if name != "lengths":
                click.echo(f"{name:18} {value}")
        if counts:
            click.echo(f"\nlengths of bit strings: {_spread(found['lengths'])} bytes")
            _draw(counts, edges)

    session.show(found, text)


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.pass_obj
def verify(session: Session, /, files: tuple[Path, ...]) -> None:
    """Check every byte of archives, and name the coding units that are damaged.

    FILES are archives, or folders, of which all .entropyd files are checked. Needs no server. Exits with 0
    only if all of them are good.

    \b
    Examples:
      entropyd verify latents.entropyd
      entropyd --json verify archives/
    """  # noqa: D301 - \b is click's mark for text to leave as it is
    paths = [
        path for file in files for path in (sorted(file.rglob("*.entropyd")) if file.is_dir() else [file])
    ]
    shown, good = [], True
    total_bytes = sum(path.stat().st_size for path in paths)
    for path, report in _verified_one_by_one(paths, total_bytes, quiet=session.as_json):
        good &= report.good
        if session.as_json:
            shown.append(_for_programs(path, report))
        else:
            _say(path, report)
    session.show({"good": good, "files": shown}, lambda: click.echo(f"{len(paths)} files checked"))
    if not good:
        raise click.exceptions.Exit(1)


def _archives(file: Path) -> list[Path]:
    return sorted(file.rglob("*.entropyd")) if file.is_dir() else [file]


def _verified_one_by_one(
    paths: list[Path], total_bytes: int, *, quiet: bool
) -> Iterator[tuple[Path, Verification]]:
    with progress("verifying", total_bytes, quiet=quiet) as advance:
        for path in paths:
            yield path, verify_file(path, progress=advance)


def _found(archive: Archive, lengths: _Lengths) -> dict[str, Any]:
    payload_bytes = lengths.total_bytes
    per_unit = archive.symbols_per_unit
    symbols = None if per_unit is None else per_unit * archive.units
    embedded = archive.model
    return {
        "file": archive.name,
        "model_id": archive.model_id,
        "tables_digest": archive.tables_digest.hex(),
        "prior": None if embedded is None else embedded.config.prior.family,
        "model_embedded": embedded is not None,
        "dtype": archive.dtype,
        "batch_shape": list(archive.batch_shape),
        "broadcast_shape": list(archive.broadcast_shape),
        "coding_units": archive.units,
        "symbols_per_unit": per_unit,
        "bits_per_symbol": round(8 * payload_bytes / symbols, 4) if symbols else None,
        "file_bytes": archive.file_bytes,
        "payload_bytes": payload_bytes,
        "overhead": round(archive.file_bytes / payload_bytes - 1, 5) if payload_bytes else None,
        "complete": archive.complete,
        "metadata": dict(archive.metadata),
        "lengths": lengths.statistics(),
    }


def _spread(statistics: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in statistics.items() if name != "histogram")


def _draw(counts: list[int], edges: list[int]) -> None:
    digits = len(str(edges[-1]))
    for count, first, end in zip(counts, edges, edges[1:], strict=False):
        bar = "█" * -(-_BAR_WIDTH * count // max(counts))
        span = f"{first:{digits}}" if end == first + 1 else f"{first:{digits}} to {end - 1:{digits}}"
        click.echo(f"  {span}  {bar} {count:,}")


def _say(path: Path, report: Verification) -> None:
    if report.good:
        click.echo(f"{path}: good, {report.units:,} coding units")
        return
    click.echo(f"{path}: DAMAGED, {report.damaged_units:,} of {report.units:,} coding units lost")
    for problem in report.problems:
        click.echo(f"  {problem}")
    for first, last, why in report.damaged[:_NAMED_RUNS]:
        click.echo(f"  coding units {first} to {last}: {why}")
    if len(report.damaged) > _NAMED_RUNS:
        click.echo(f"  and {len(report.damaged) - _NAMED_RUNS} more runs; --json names all")


def _for_programs(path: Path, report: Verification) -> dict[str, Any]:
    return {
        "file": str(path),
        "good": report.good,
        "file_bytes": report.file_bytes,
        "coding_units": report.units,
        "damaged": [{"first": first, "last": last, "why": why} for first, last, why in report.damaged],
        "problems": list(report.problems),
    }
