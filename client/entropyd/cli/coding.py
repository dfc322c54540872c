"""`entropyd compress` and `entropyd decompress`.

Owns their flags and what they print. It must not know how an array is cut or a folder is walked.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from entropyd import Archive, EntropydError
from entropyd.cli import bulk
from entropyd.cli.arrays import STREAM, read_array
from entropyd.cli.progress import progress
from entropyd.cli.session import connect
from entropyd.cli.work import CompressOptions, compress_array, decompress_archive
from entropyd.contract.json_text import parse_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from entropyd.cli.session import Session

_COMPLETION_TIMEOUT_S = 2.0


def _model_ids(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Ids of the server's models, for the shell to complete; none where no server answers in time."""
    try:
        with connect(context.find_root().params, _COMPLETION_TIMEOUT_S) as client:
            return [model.id for model in client.models() if model.id.startswith(incomplete)]
    except (EntropydError, OSError, ValueError):
        return []


@click.command()
@click.option(
    "--model", "model_id", required=True, shell_complete=_model_ids, help="Id of the model to compress with."
)
@click.option(
    "--max-error",
    type=float,
    help="Compress data that are no latents so that every element comes back within this distance. "
    "The model is one for such data divided by twice the distance.",
)
@click.option("--cast", is_flag=True, help="Convert arrays of another dtype to the model's.")
@click.option(
    "--embed-model", is_flag=True, help="Put the model into the archive, so that any server decodes it."
)
@click.option(
    "-m",
    "--metadata",
    multiple=True,
    metavar="NAME=VALUE",
    help="JSON or text to keep with the data. Repeatable.",
)
@click.option(
    "-r",
    "--recursive",
    is_flag=True,
    help="Compress all .npy and .npz files under SOURCE; skip what is done.",
)
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
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
    cast: bool,
    embed_model: bool,
    recursive: bool,
) -> None:
    """Compress the array in SOURCE into the archive TARGET.

    SOURCE is a .npy file of any size, or - for one on standard input; TARGET is a file, or - for standard
    output. A .npz file makes a folder TARGET with an archive for each of its arrays. With --recursive, SOURCE
    and TARGET are folders; running it again continues where it was stopped.

    \b
    Examples:
      entropyd compress --model MODEL_ID latents.npy latents.entropyd
      entropyd compress --model MODEL_ID --max-error 0.001 measured.npy measured.entropyd
      entropyd compress --model MODEL_ID --recursive arrays/ archives/
      make-latents | entropyd compress --model MODEL_ID - - > latents.entropyd
    """  # noqa: D301 - \b is click's mark for text to leave as it is
    options = CompressOptions(max_error, cast, embed_model, dict(_metadata(item) for item in metadata))
    if recursive or source.suffix == ".npz":
        jobs = bulk.compress_jobs(source, target, recursive=recursive)
        _report(session, bulk.compress_all(session, model_id, jobs, options))
        return
    _refuse_terminal(target)
    model = session.client.model(model_id)
    array = read_array(source)
    with progress(f"compressing {source}", array.nbytes, quiet=session.as_json) as advance:
        place = sys.stdout.buffer if target == STREAM else target
        spent = compress_array(session.client, model, array, place, options, advance=advance)
    session.tell({"target": str(target), **spent.figures}, f"{target}: {spent}", err=target == STREAM)


@click.command()
@click.option(
    "--units",
    metavar="A:B",
    help="Decode only items A to B (not included) of the first batch axis, or item A.",
)
@click.option(
    "--skip-damaged", is_flag=True, help="Restore what can be, with NaN in damaged units; still exits with 1."
)
@click.option("--recover", is_flag=True, help="Read an archive that lost its end or its index.")
@click.option("-r", "--recursive", is_flag=True, help="Decompress all .entropyd files under SOURCE.")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
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
    recursive: bool,
) -> None:
    """Restore the array in the archive SOURCE into TARGET (.npy).

    - stands for standard input and output. Only the blocks that hold the selected items are read. An archive
    that embeds its model needs no more than any server; it is registered there if it is missing.

    \b
    Examples:
      entropyd decompress latents.entropyd restored.npy
      entropyd decompress --units 12345 latents.entropyd one.npy
      entropyd decompress --recursive archives/ arrays/
      entropyd decompress --skip-damaged --recover torn.entropyd rest.npy
    """  # noqa: D301 - \b is click's mark for text to leave as it is
    items = None if units is None else _items(units)
    if recursive:
        jobs = bulk.decompress_jobs(source, target)
        options = bulk.DecompressOptions(items, skip_damaged, recover)
        _report(session, bulk.decompress_all(session, jobs, options))
        return
    _refuse_terminal(target)
    with _opened(source, recover=recover) as archive:
        with progress(f"decompressing {source}", archive.file_bytes, quiet=session.as_json) as advance:
            shape, dtype, damaged = decompress_archive(
                session.client, archive, target, items, skip_damaged=skip_damaged, advance=advance
            )
        found = {"target": str(target), "dtype": dtype, "shape": list(shape), "damaged_units": damaged}
        session.tell(found, f"{target}: {dtype} {shape}", err=target == STREAM)
    if damaged:
        raise click.ClickException(
            f"{len(damaged)} damaged coding units are NaN in {target}: {_some(damaged)}"
        )


def _some(units: list[int]) -> str:
    return ", ".join(map(str, units[:10])) + (", ..." if len(units) > 10 else "")


def _report(session: Session, outcomes: Iterator[bulk.Outcome]) -> None:
    """Shows what became of each file, and ends with 1 if one failed."""
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


@contextmanager
def _opened(source: Path, *, recover: bool) -> Iterator[Archive]:
    """An archive from a file or from standard input, which is kept in a temporary file meanwhile."""
    if source != STREAM:
        with Archive.open(source, recover=recover) as archive:
            yield archive
        return
    with tempfile.NamedTemporaryFile(suffix=".entropyd") as kept:
        shutil.copyfileobj(sys.stdin.buffer, kept)
        kept.flush()
        with Archive.open(kept.name, recover=recover) as archive:
            yield archive


def _refuse_terminal(target: Path) -> None:
    if target == STREAM and sys.stdout.isatty():
        raise click.UsageError("standard output is a terminal; send it to a file or a pipe")


def _metadata(item: str) -> tuple[str, Any]:
    name, equals, value = item.partition("=")
    if not equals:
        raise click.UsageError(f"--metadata {item!r} is not NAME=VALUE")
    if name.startswith("entropyd."):
        raise click.UsageError(f"--metadata {name}: names that begin with entropyd. are taken")
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
