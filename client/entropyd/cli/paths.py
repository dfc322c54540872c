"""Files and folders on the command line, and `-` for standard input and output."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import click

from entropyd._target import Target, check_is_no_source, open_descriptor, open_target

STREAM = Path("-")
STANDARD_INPUT = "standard input"
STANDARD_OUTPUT = "standard output"


class _PathOrStream(click.Path):
    """A path; `-` becomes STREAM, and `./-` does not, although they are the same to pathlib."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = super().convert(value, param, ctx)
        return Path.cwd() / path if path == STREAM and os.fspath(value) != str(STREAM) else path


FILE = _PathOrStream(path_type=Path)

force_option = click.option(
    "-f", "--force", is_flag=True, help="Replace existing files; without it they are an error."
)


@contextmanager
def open_source(path: Path) -> Iterator[BinaryIO]:
    """Opens a file, a pipe, a socket, or standard input for `-`, for reading."""
    if path == STREAM:
        yield standard_input()
        return
    descriptor = open_descriptor(path)
    try:
        # Opening by name reads a regular file from its beginning, but fails for a socket.
        if descriptor is not None and stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            file: BinaryIO = os.fdopen(os.dup(descriptor), "rb")
        else:
            file = path.open("rb")
    except OSError as error:
        raise click.ClickException(f"{path} cannot be read: {error.strerror or error}") from error
    with file:
        yield file


def standard_input() -> BinaryIO:
    """Standard input; raises an OSError if it is closed."""
    if sys.stdin is None:
        raise OSError(errno.EBADF, "is closed", STANDARD_INPUT)
    return sys.stdin.buffer


def open_output(path: Path, *, sources: Sequence[Path] = (), force: bool, private: bool = False) -> Target:
    """Opens the output of a command, see open_target; standard output for `-`."""
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
    """`os.stat` of the sources that exist."""
    states = []
    for source in sources:
        try:
            state = _state(sys.stdin) if source == STREAM else source.stat()
        except OSError:
            continue  # reading it is an error
        if state is not None:
            states.append(state)
    return states


def is_standard_output(path: Path) -> bool:
    """Whether a target is standard output, by any name, so that messages go to standard error."""
    return path == STREAM or open_descriptor(path) == 1


def refuse_terminal(path: Path) -> None:
    """Refuses to write binary data to a terminal."""
    if is_standard_output(path) and sys.stdout is not None and sys.stdout.isatty():
        raise click.UsageError(f"{STANDARD_OUTPUT} is a terminal; send it to a file or a pipe")


def _state(stream: Any) -> os.stat_result | None:
    """`os.fstat` of a standard stream; None if it has no descriptor."""
    try:
        return os.fstat(stream.fileno())
    except (AttributeError, OSError, ValueError):
        return None
