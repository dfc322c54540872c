"""What arguments of commands name: files, folders, and `-` for standard input and output."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from entropyd._target import Target, check_is_no_source, open_descriptor, open_target

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import BinaryIO

STREAM = Path("-")
STANDARD_OUTPUT = "standard output"


class _PathOrStream(click.Path):
    """A path; `-` becomes STREAM and `./-` does not, which pathlib takes for the same."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = super().convert(value, param, ctx)
        return Path.cwd() / path if path == STREAM and os.fspath(value) != str(STREAM) else path


FILE = _PathOrStream(path_type=Path)

force_option = click.option(
    "-f", "--force", is_flag=True, help="Replace files that are there already; without it they are refused."
)


@contextmanager
def open_source(path: Path) -> Iterator[BinaryIO]:
    """A file, a pipe or a socket under any name, or standard input for `-`, to be read.

    Raises:
      click.ClickException: If it cannot be opened.
    """
    if path == STREAM:
        if sys.stdin is None:
            raise click.ClickException("standard input is closed")
        yield sys.stdin.buffer
        return
    descriptor = open_descriptor(path)
    try:
        # By its name a regular file is read from its beginning, but a socket cannot be opened.
        if descriptor is not None and stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            file: BinaryIO = os.fdopen(os.dup(descriptor), "rb")
        else:
            file = path.open("rb")
    except OSError as error:
        raise click.ClickException(f"{path} cannot be read: {error.strerror or error}") from error
    with file:
        yield file


def open_output(path: Path, *, sources: Sequence[Path] = (), force: bool, private: bool = False) -> Target:
    """Opens what a command writes to: see open_target; standard output for `-`.

    Raises:
      click.ClickException: If it is there and not to be replaced.
      OSError: As open_target.
    """
    states = source_states(sources)
    if path == STREAM:
        if sys.stdout is None:
            raise click.ClickException(f"{STANDARD_OUTPUT} is closed")
        if (found := _state(sys.stdout)) is not None:
            check_is_no_source(found, states, STANDARD_OUTPUT)
        return Target(sys.stdout.buffer, STANDARD_OUTPUT)
    try:
        return open_target(path, sources=states, replace=force, private=private)
    except FileExistsError as error:
        raise click.ClickException(f"{path} exists already; --force replaces it") from error


def source_states(sources: Sequence[Path]) -> list[os.stat_result]:
    """What `os.stat` says of sources, without those that are not there."""
    states = []
    for source in sources:
        try:
            state = _state(sys.stdin) if source == STREAM else source.stat()
        except OSError:
            continue  # whoever reads it says so
        if state is not None:
            states.append(state)
    return states


def is_standard_output(path: Path) -> bool:
    """Whether a target is standard output, under any name, so that messages have to go elsewhere."""
    return path == STREAM or open_descriptor(path) == 1


def refuse_terminal(path: Path) -> None:
    """Keeps bytes that nobody can read off a terminal.

    Raises:
      click.UsageError: If the target is standard output and that is a terminal.
    """
    if is_standard_output(path) and sys.stdout is not None and sys.stdout.isatty():
        raise click.UsageError(f"{STANDARD_OUTPUT} is a terminal; send it to a file or a pipe")


def _state(stream: Any) -> os.stat_result | None:
    """What `os.stat` says of a standard stream; None where it has no descriptor."""
    try:
        return os.fstat(stream.fileno())
    except (AttributeError, OSError, ValueError):
        return None
