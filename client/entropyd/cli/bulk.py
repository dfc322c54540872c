"""Compresses folders of arrays, and decompresses folders of archives.

Invariant: a file that fails does not stop the others; a file that is skipped was verified in this run; and
without --force no file is replaced that could not be made again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from entropyd import Archive, EntropydError, Model
from entropyd._modes import make_folders
from entropyd.archive import verify
from entropyd.bounded import METADATA_NAME, ErrorBound
from entropyd.cli.arrays import member_names, open_array, open_member
from entropyd.cli.compressing import Advance, CompressOptions, compress_array
from entropyd.cli.decompressing import decompress_archive
from entropyd.cli.inputs import Array
from entropyd.cli.paths import STREAM, open_output
from entropyd.cli.progress import progress
from entropyd.cli.session import Session, os_sentence, sentence
from entropyd.cli.sources import files_under, opened_archive

Load = Callable[[], AbstractContextManager[Array]]

SOURCE_NAME = "entropyd.source"
_ERRORS = (EntropydError, click.ClickException, OSError)


@dataclass(frozen=True)
class Outcome:
    """The outcome of a file.

    Attributes:
      status: `done`, `skipped` or `failed`.
      source, target: The file, and the file that is made of it.
      text: Sizes, or the error.
      details: The sizes, for JSON.
    """

    status: str
    source: str
    target: str
    text: str
    details: dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One file, and the file that is made of it."""

    source: Path
    target: Path

    def outcome(self, status: str, text: str, details: dict[str, Any] | None = None) -> Outcome:
        return Outcome(status, str(self.source), str(self.target), text, details or {})

    def failure(self, error: EntropydError | click.ClickException | OSError) -> Outcome:
        if isinstance(error, EntropydError):
            return self.outcome("failed", sentence(error))
        return self.outcome("failed", os_sentence(error) if isinstance(error, OSError) else error.message)


@dataclass(frozen=True)
class DecompressOptions:
    """How archives are decompressed: see `entropyd decompress --help`."""

    items: slice | None
    part: str | None
    skip_damaged: bool
    recover: bool


def compress_jobs(source: Path, target: Path, *, recursive: bool) -> tuple[list[Job], list[Outcome]]:
    """The `.npy` and `.npz` files under a folder, or one `.npz` file; and the files that failed already."""
    _check_folder(target)
    if not recursive:
        return [Job(source, target)], []
    return _jobs(source, target, ".entropyd", ".npy", ".npz")


def decompress_jobs(source: Path, target: Path) -> tuple[list[Job], list[Outcome]]:
    """The archives under a folder; and the files that failed already."""
    _check_folder(target)
    return _jobs(source, target, ".npy", ".entropyd")


def _check_folder(target: Path) -> None:
    if target == STREAM or (target.exists() and not target.is_dir()):
        raise click.ClickException(f"{target} is not a folder; several files need one")


def _jobs(folder: Path, target: Path, suffix: str, *suffixes: str) -> tuple[list[Job], list[Outcome]]:
    """The files under a folder with one of `suffixes`; what is made of them has `suffix`, or is a folder."""
    if not folder.is_dir():
        raise click.ClickException(f"{folder} is not a folder; --recursive needs one")
    files, errors = files_under(folder, suffixes)
    if not files and not errors:
        raise click.ClickException(f"{folder} holds no {' or '.join(suffixes)} files")

    def made_of(path: Path) -> Path:
        return target / path.relative_to(folder)

    jobs = [Job(path, made_of(path).with_suffix("" if path.suffix == ".npz" else suffix)) for path in files]
    failed = [(Path(error.filename), error) for error in errors]
    return jobs, [Job(path, made_of(path)).failure(error) for path, error in failed]


def compress_all(
    session: Session, model_id: str, jobs: list[Job], options: CompressOptions, *, force: bool
) -> Iterator[Outcome]:
    """Compresses each file that is not done.

    An existing archive of the same source, unchanged since, is replaced if it is damaged or has another model
    or other options. Any other file is replaced only with `force`.
    """
    model = session.client.model(model_id)
    total_bytes = sum(job.source.stat().st_size for job in jobs)
    made: set[Path] = set()
    with progress(f"compressing {len(jobs)} files", total_bytes, quiet=session.as_json) as advance:
        for job in jobs:
            try:
                parts = _parts(job)
            except click.ClickException as error:
                yield job.failure(error)
                continue
            for part, load in parts:
                try:
                    if part.target in made:  # as x.npz with an array y and x/y.npy are
                        raise click.ClickException(f"{part.target} was made of another source in this run")
                    yield _compress(session, model, part, load, options, force=force, advance=advance)
                    made.add(part.target)
                except _ERRORS as error:
                    yield part.failure(error)


def decompress_all(
    session: Session, jobs: list[Job], options: DecompressOptions, *, force: bool
) -> Iterator[Outcome]:
    """Decompresses each archive; existing arrays are replaced only with `force`."""
    total_bytes = sum(job.source.stat().st_size for job in jobs)
    with progress(f"decompressing {len(jobs)} files", total_bytes, quiet=session.as_json) as advance:
        for job in jobs:
            try:
                yield _decompress(session, job, options, force=force, advance=advance)
            except _ERRORS as error:
                yield job.failure(error)


def _parts(job: Job) -> list[tuple[Job, Load]]:
    """The archives to make of a file, and what opens the array of each."""
    if job.source.suffix != ".npz":
        return [(job, partial(open_array, job.source))]
    return [
        (Job(job.source, job.target / f"{name}.entropyd"), partial(open_member, job.source, name))
        for name in member_names(job.source)
    ]


def _compress(
    session: Session,
    model: Model,
    job: Job,
    load: Load,
    options: CompressOptions,
    *,
    force: bool,
    advance: Advance,
) -> Outcome:
    source, target = job.source, job.target
    state = source.stat()
    fingerprint = {"name": source.name, "bytes": state.st_size, "mtime_ns": state.st_mtime_ns}
    stored = replace(options, metadata={**options.metadata, SOURCE_NAME: fingerprint})
    if _is_done(target, model, stored):
        advance(state.st_size)
        return job.outcome("skipped", "done before, and verified")
    make_folders(target.parent, source if source.suffix == ".npz" else source.parent)
    again = _was_made_of(target, fingerprint)
    with open_output(target, sources=[source], force=force or again) as file, load() as array:
        spent = compress_array(session.client, model, array, file, stored, advance=advance)
    return job.outcome("done", str(spent), spent.figures)


def _decompress(
    session: Session, job: Job, options: DecompressOptions, *, force: bool, advance: Advance
) -> Outcome:
    make_folders(job.target.parent, job.source.parent)
    with (
        open_output(job.target, sources=[job.source], force=force) as file,
        opened_archive(job.source, options.part, recover=options.recover) as archive,
    ):
        restored = decompress_archive(
            session.client, archive, file, options.items, skip_damaged=options.skip_damaged, advance=advance
        )
    text = ", but ".join([str(restored), *restored.problems])
    return job.outcome("failed" if restored.problems else "done", text, restored.figures)


def _is_done(target: Path, model: Model, options: CompressOptions) -> bool:
    """Whether the target is an undamaged archive, and compressing would make the same."""
    if not target.is_file():
        return False
    try:
        with Archive.open(target) as archive:
            bound = ErrorBound.of(archive.metadata)
            metadata = {name: value for name, value in archive.metadata.items() if name != METADATA_NAME}
            same = (
                archive.model_id == model.id
                and archive.tables_digest == model.tables_digest
                and (archive.model is not None) == options.embed_model
                and (None if bound is None else bound.max_error) == options.max_error
                and metadata == options.metadata
            )
        return same and verify(target).good
    except EntropydError:
        return False


def _was_made_of(target: Path, fingerprint: dict[str, Any]) -> bool:
    """Whether the target is an archive, perhaps damaged, of a source in this state."""
    if not target.is_file():
        return False
    try:
        with Archive.open(target, recover=True) as archive:
            return bool(archive.metadata.get(SOURCE_NAME) == fingerprint)
    except EntropydError:
        return False
