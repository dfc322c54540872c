"""`entropyd verify`: checks archives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from entropyd.archive import Verification, VerifiedUnits
from entropyd.archive.file_header import names_of
from entropyd.archive.verification import verify_source
from entropyd.cli.paths import FILE, STREAM
from entropyd.cli.progress import progress
from entropyd.cli.session import Session
from entropyd.cli.sources import archive_source, files_under, missing

_NAMED_RUNS = 20


@click.command()
@click.argument("files", nargs=-1, required=True, type=FILE)
@click.pass_obj
def verify(session: Session, /, files: tuple[Path, ...]) -> None:
    """Check every byte of archives, and list the coding units that are damaged.

    FILES are archives, bundles of several (whose parts are named), pipes, - for standard input, or folders,
    whose .entropyd files are checked. Needs no server. Exits with 0 only if each has an archive, and all of
    them are good.

    \b
    Examples:
      entropyd verify latents.entropyd
      entropyd --json verify archives/
    """
    named = [(path, why) for file in files for path, why in _archives(file)]
    shown, good = [], True
    for path, report in _verified_one_by_one(named, quiet=session.as_json):
        good &= isinstance(report, Verification) and report.good
        if session.as_json:
            shown.append(_for_programs(path, report))
        elif isinstance(report, Verification):
            _say(path, report)
        else:
            click.echo(f"{path}: {report}", err=True)
    checked = sum(why is None for _, why in named)
    session.tell({"good": good, "files": shown}, f"{checked} files checked")
    if not good:
        raise click.exceptions.Exit(1)


def _archives(file: Path) -> list[tuple[Path, str | None]]:
    """The archives of an argument, and for each an error, or None."""
    if file == STREAM or not file.is_dir():
        return [(file, None)]
    paths, errors = files_under(file, (".entropyd",))
    named: list[tuple[Path, str | None]] = [(path, None) for path in paths]
    named += [(Path(error.filename), error.strerror) for error in errors]
    return named or [(file, "holds no .entropyd files")]


def _verified_one_by_one(
    named: list[tuple[Path, str | None]], *, quiet: bool
) -> Iterator[tuple[Path, Verification | str]]:
    """The result for each archive, or why it could not be read."""
    total_bytes = sum(path.stat().st_size for path, why in named if why is None and path.is_file())
    with progress("verifying", total_bytes, quiet=quiet) as advance:
        for path, why in named:
            if why is not None:
                yield path, why
                continue
            try:
                with archive_source(path) as source:
                    yield path, verify_source(source, advance)
            except OSError as error:
                yield path, error.strerror or str(error)


def _say(path: Path, report: Verification) -> None:
    if report.good:
        beside = " with checksums of their indexes" if report.index_checksums else ""
        of_parts = f" in {names_of(report.parts)}" if report.parts else ""
        click.echo(f"{path}: good, {report.units:,} coding units{of_parts}{beside}")
        return
    if report.complete:
        lost = f"{report.damaged_units:,}" if report.damaged else "none"
        click.echo(f"{path}: DAMAGED, {lost} of {report.units:,} coding units lost")
    else:
        whole = f"{report.units - report.damaged_units:,}" if report.units else "no"
        click.echo(f"{path}: INCOMPLETE, {whole} whole coding units found; {missing(report)}")
    for problem in report.problems:
        click.echo(f"  {problem}")
    for name, part in report.parts.items():
        if part.missing_units:
            last = f"{part.missing_units:,} of {part.missing_units + part.units:,} coding units"
            click.echo(f"  part {name}: the last {last} are missing")
    runs = list(_runs(report))
    for run in runs[:_NAMED_RUNS]:
        click.echo(f"  {run}")
    if len(runs) > _NAMED_RUNS:
        click.echo(f"  and {len(runs) - _NAMED_RUNS} more runs; --json names all")


def _runs(report: Verification) -> Iterator[str]:
    """Damaged coding units, in words, with the names of their parts in a bundle."""
    parts = {f"part {name}: ": part for name, part in report.parts.items()}
    for begin, part in (parts or {"": report}).items():
        for first, last, why in part.damaged:
            yield f"{begin}coding units {first} to {last}: {why}"


def _for_programs(path: Path, report: Verification | str) -> dict[str, Any]:
    if isinstance(report, str):
        report = Verification.of_nothing(0, report)
    parts = {"parts": {name: _of_units(part) for name, part in report.parts.items()}} if report.parts else {}
    return {
        "file": str(path),
        "good": report.good,
        "file_bytes": report.file_bytes,
        **_of_units(report),
        "problems": list(report.problems),
        **parts,
    }


def _of_units(found: VerifiedUnits) -> dict[str, Any]:
    return {
        "coding_units": found.units,
        "damaged": [{"first": first, "last": last, "why": why} for first, last, why in found.damaged],
        "complete": found.complete,
        "missing_units": found.missing_units,
        "index_checksums": found.index_checksums,
    }
