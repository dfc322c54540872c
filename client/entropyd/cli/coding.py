"""`entropyd compress` and `entropyd decompress`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import click

from entropyd.bounded import missing_to_json, missing_values
from entropyd.cli import bulk
from entropyd.cli.arrays import open_array
from entropyd.cli.compressing import CompressOptions, compress_array
from entropyd.cli.decompressing import decompress_archive
from entropyd.cli.inputs import indexes_option, loc_option, opened_inputs
from entropyd.cli.paths import FILE, STREAM, force_option, is_standard_output, open_output, refuse_terminal
from entropyd.cli.progress import progress
from entropyd.cli.session import Session
from entropyd.cli.sources import opened_archive
from entropyd.cli.values import MODEL_ID
from entropyd.contract.json_text import parse_json

MISSING_NAME = "entropyd.missing"


@click.command()
@click.option(
    "--model",
    "model_id",
    required=True,
    type=MODEL_ID,
    help="Model to compress with: its id, 6 or more of its first digits, or its name.",
)
@click.option(
    "--max-error",
    type=float,
    help="For measured data: largest error of a restored element. The model is one for the data divided by "
    "twice this.",
)
@click.option(
    "--missing",
    multiple=True,
    type=float,
    metavar="VALUE",
    help="With --max-error: a value that marks missing data, such as -9999, and is restored exactly, as NaN "
    "always is. Repeatable.",
)
@click.option("--cast", is_flag=True, help="Convert numbers of another dtype to the model's.")
@click.option(
    "--embed-model", is_flag=True, help="Store the model in the archive, so that any server can decode it."
)
@click.option(
    "-m",
    "--metadata",
    multiple=True,
    metavar="NAME=VALUE",
    help="JSON or text to store with the data. Repeatable.",
)
@click.option(
    "-r",
    "--recursive",
    is_flag=True,
    help="Compress all .npy and .npz files under SOURCE, except those that are done.",
)
@indexes_option
@loc_option
@force_option
@click.argument("source", type=FILE)
@click.argument("target", type=FILE)
@click.pass_obj
def compress(
    session: Session,
    /,
    model_id: str,
    metadata: tuple[str, ...],
    source: Path,
    target: Path,
    *,
    max_error: float | None,
    missing: tuple[float, ...],
    cast: bool,
    embed_model: bool,
    recursive: bool,
    indexes: Path | None,
    loc: Path | None,
    force: bool,
) -> None:
    """Compress the array in SOURCE into the archive TARGET.

    SOURCE is a .npy file of any size, or - for standard input; TARGET is a file, or - for standard output.
    A .npz file becomes a folder TARGET with an archive for each of its arrays. With --recursive, SOURCE and
    TARGET are folders; run it again to continue after an interruption. Existing files are replaced only with
    --force.

    \b
    Examples:
      entropyd compress --model MODEL_ID latents.npy latents.entropyd
      entropyd compress --model MODEL_ID --max-error 0.001 measured.npy measured.entropyd
      entropyd compress --model MODEL_ID --max-error 0.001 --missing -9999 gaps.npy gaps.entropyd
      entropyd compress --model MODEL_ID --recursive arrays/ archives/
      entropyd compress --model MODEL_ID --indexes i.npy --loc loc.npy y.npy y.entropyd
      make-latents | entropyd compress --model MODEL_ID - - > latents.entropyd
    """
    if missing and max_error is None:
        raise click.UsageError("--missing needs --max-error: without it, arrays have no missing values")
    if cast and max_error is not None:
        raise click.UsageError(
            "--cast has no use with --max-error, which takes float16, float32 and float64 with any model"
        )
    if (indexes or loc) and max_error is not None:
        raise click.UsageError("--max-error is for models without indexes")
    _check_inputs(source, indexes, loc, several=recursive or source.suffix == ".npz")
    named = missing_values(missing)
    stored = dict(_metadata(item) for item in metadata)
    if named:
        stored[MISSING_NAME] = missing_to_json(named)
    options = CompressOptions(max_error, named, cast, embed_model, stored)
    if recursive or source.suffix == ".npz":
        jobs, failed = bulk.compress_jobs(source, target, recursive=recursive)
        done = bulk.compress_all(session, model_id, jobs, options, force=force)
        _report(session, chain(failed, done))
        return
    refuse_terminal(target)
    with open_output(target, sources=_files(source, indexes, loc), force=force) as file:
        model = session.client.model(model_id)
        with (
            open_array(source) as array,
            opened_inputs(indexes, loc) as inputs,
            progress(f"compressing {source}", array.nbytes, quiet=session.as_json) as advance,
        ):
            spent = compress_array(
                session.client, model, array, file, options, advance=advance, inputs=inputs
            )
    found = {"target": str(target), "model_id": model.id, **spent.figures}
    session.tell(found, f"{target}: {spent}", err=is_standard_output(target))


@click.command()
@click.option(
    "--units",
    metavar="A:B",
    help="Restore only items A to B (not included) of the first batch axis, or item A. Negative numbers "
    "count from the end.",
)
@click.option(
    "--skip-damaged", is_flag=True, help="Restore damaged coding units as NaN; exits with 1 if there are any."
)
@click.option(
    "--recover",
    is_flag=True,
    help="Read an archive that lost its end or its index; exits with 1 and says what is missing.",
)
@click.option("--part", metavar="NAME", help="Of a bundle: the part to restore.")
@click.option("-r", "--recursive", is_flag=True, help="Decompress all .entropyd files under SOURCE.")
@indexes_option
@loc_option
@force_option
@click.argument("source", type=FILE)
@click.argument("target", type=FILE)
@click.pass_obj
def decompress(
    session: Session,
    /,
    units: str | None,
    source: Path,
    target: Path,
    *,
    skip_damaged: bool,
    recover: bool,
    part: str | None,
    recursive: bool,
    indexes: Path | None,
    loc: Path | None,
    force: bool,
) -> None:
    """Restore the array in the archive SOURCE, or in a part of the bundle SOURCE, into TARGET (.npy).

    SOURCE may be a pipe, or - for standard input; - as TARGET is standard output. Only the blocks of the
    selected items are read. Any server can decode an archive that embeds its model; a missing model is
    registered there. Existing files are replaced only with --force.

    \b
    Examples:
      entropyd decompress latents.entropyd restored.npy
      entropyd decompress --units 12345 latents.entropyd one.npy
      entropyd decompress --recursive archives/ arrays/
      entropyd decompress --indexes i.npy --loc loc.npy y.entropyd y.npy
      entropyd decompress --part z photo.entropyd z.npy
      entropyd decompress --skip-damaged --recover torn.entropyd rest.npy
    """
    items = None if units is None else _items(units)
    _check_inputs(source, indexes, loc, several=recursive)
    if recursive:
        jobs, failed = bulk.decompress_jobs(source, target)
        options = bulk.DecompressOptions(items, part, skip_damaged, recover)
        done = bulk.decompress_all(session, jobs, options, force=force)
        _report(session, chain(failed, done))
        return
    refuse_terminal(target)
    with (
        open_output(target, sources=_files(source, indexes, loc), force=force) as file,
        opened_archive(source, part, recover=recover) as archive,
        opened_inputs(indexes, loc) as inputs,
        progress(f"decompressing {source}", archive.file_bytes, quiet=session.as_json) as advance,
    ):
        restored = decompress_archive(
            session.client, archive, file, items, skip_damaged=skip_damaged, advance=advance, inputs=inputs
        )
    found = {"target": str(target), **restored.figures}
    session.tell(found, f"{target}: {restored}", err=is_standard_output(target))
    if restored.problems:
        raise click.ClickException("\n".join(restored.problems))


def _check_inputs(source: Path, indexes: Path | None, loc: Path | None, *, several: bool) -> None:
    if several and (indexes or loc):
        raise click.UsageError("--indexes and --loc are of one array; run the command for each")
    if [source, indexes, loc].count(STREAM) > 1:
        raise click.UsageError("only one of SOURCE, --indexes and --loc can be -")


def _files(source: Path, *others: Path | None) -> list[Path]:
    return [source, *(path for path in others if path is not None)]


def _report(session: Session, outcomes: Iterable[bulk.Outcome]) -> None:
    """Shows the outcome of each file, and exits with 1 if one failed."""
    counts = dict.fromkeys(("done", "skipped", "failed"), 0)
    shown = []
    for outcome in outcomes:
        counts[outcome.status] += 1
        if session.as_json:
            shown.append(asdict(outcome))
        else:
            click.echo(f"{outcome.status:8}{outcome.target}  {outcome.text}", err=outcome.status == "failed")
    summary = ", ".join(f"{count} {status}" for status, count in counts.items())
    session.tell({"files": shown, **counts}, summary)
    if counts["failed"]:
        raise click.exceptions.Exit(1)


def _metadata(item: str) -> tuple[str, Any]:
    name, equals, value = item.partition("=")
    if not equals:
        raise click.UsageError(f"--metadata {item!r} is not NAME=VALUE")
    if name.startswith("entropyd."):
        raise click.UsageError(f"--metadata {name}: names that begin with entropyd. are reserved")
    try:
        return name, parse_json(value)
    except ValueError:
        return name, value


def _items(units: str) -> slice:
    start, colon, stop = units.partition(":")
    try:
        if not colon:
            return slice(int(start), int(start) + 1 or None)
        return slice(int(start) if start else None, int(stop) if stop else None)
    except ValueError as error:
        raise click.UsageError(f"--units {units!r} is not A:B or A") from error
