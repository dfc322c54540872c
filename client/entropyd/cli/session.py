"""The connection of a command, and how its results and errors are shown.

Invariant: a result is printed once, as text or as JSON, and an error of entropyd ends the command with exit
code 1 and a sentence, never a traceback.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import click

from entropyd import Client, EntropydError, RoleMissingError
from entropyd._connection import Connection
from entropyd.cli.paths import STANDARD_OUTPUT

T = TypeVar("T")

DEFAULT_SERVER = "127.0.0.1:7070"

# Names of the options that say where a server is, and with which credentials.
CONNECTION = frozenset(field.name for field in fields(Connection))

# ErrorInfo.reason -> advice.
_ADVICE = {
    "UNREACHABLE": "start a server with `entropyd-server`, name one with --server HOST:PORT, or do without: "
    "`entropyd --local ...` needs none",
    "MODEL_NOT_FOUND": "`entropyd models list` shows the models of this server",
    "NAME_MOVED": "`entropyd models list` shows what it points at",
    "TABLES_MISMATCH": "decode it with a server that has the model that made it, or embed the model",
    "INDEXES_MISMATCH": "compute the indexes as for compressing; --skip-damaged decodes the other units",
    "ROLE_MISSING": "a server or --local does it where 'entropyd[server]' is installed; `entropyd models "
    "export` and `import` carry the model from there",
    "MODEL_NOT_COMPRESSING": "create a model without --no-compression",
    "OVERLOADED": "wait a moment and repeat the command",
    "DRAINING": "the server is shutting down; repeat the command when it has restarted",
    "WORKER_LOST": "another worker is starting; repeat the command",
    "STARTING": "repeat the command in a few seconds",
    "DEADLINE": "give calls more time with --timeout-s",
    "MISSING_CREDENTIALS": "give one with --token-file, or in ENTROPYD_TOKEN",
    "INVALID_CREDENTIALS": "it may have been revoked; ask whoever runs the server for another",
    "MISSING_SCOPE": "ask whoever runs the server for a token with that scope",
    "CORRUPT_STRING": "`entropyd verify FILE` names what is damaged; --skip-damaged decodes the rest",
    "ARCHIVE_DAMAGED": "`entropyd verify FILE` names what is damaged; --recover reads the rest",
    "ARCHIVE_CHANGED": "another program writes to the file; repeat the command when that is done",
}


@dataclass(frozen=True)
class Session:
    """The server and the output format of a command.

    Attributes:
      connect: Returns a client, the same for the same argument: whether the server is to build tables or fit
        priors, if it can. With --local the first use starts a server, so a command without calls starts none.
      as_json: Whether to print JSON.
      timeout_s: What --timeout-s says, in seconds; None if it was not given, and a fit has its own limit.
    """

    connect: Callable[[bool], Client]
    as_json: bool
    timeout_s: float | None = None

    @property
    def client(self) -> Client:
        return self.connect(False)  # noqa: FBT003 - a function's argument has no name here

    def build(self, make: Callable[[Client], T]) -> T:
        """Makes a model; with --local, TensorFlow starts only if the model is not there yet and needs it."""
        try:
            return make(self.client)
        except RoleMissingError:
            builder = self.connect(True)  # noqa: FBT003
            if builder is self.client:
                raise
            return make(builder)

    def show(self, value: Any, text: Callable[[], None]) -> None:
        """Prints `value` as JSON, or calls `text` to print text."""
        if self.as_json:
            click.echo(json.dumps(value, indent=2))
        else:
            text()

    def tell(self, value: Any, text: str, *, err: bool = False) -> None:
        """Prints `value` as JSON, or `text`; with `err` on standard error, as data are on standard output."""
        click.echo(json.dumps(value, indent=2) if self.as_json else text, err=err)


class ErrorsAsSentences(click.Group):
    """A group that shows entropyd errors as messages, with exit code 1."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except EntropydError as error:
            raise click.ClickException(sentence(error)) from error
        except OSError as error:
            if error.filename is None and _output_failed():
                error.filename = STANDARD_OUTPUT
            if isinstance(error, BrokenPipeError) and error.filename in {None, STANDARD_OUTPUT}:
                raise  # the reader of the pipe has ended: click exits quietly
            raise click.ClickException(os_sentence(error)) from error


def connect(options: Mapping[str, Any], timeout_s: float) -> Client:
    """The client of the options of `entropyd`; its first call connects."""
    given = {name: value for name, value in options.items() if name in CONNECTION}
    # No option takes a token: other users of the machine can see the arguments of a command.
    return Connection(**given, token=os.environ.get("ENTROPYD_TOKEN")).client(timeout_s)


def os_sentence(error: OSError) -> str:
    return f"{error.filename or 'a file'}: {error.strerror or error}"


def _output_failed() -> bool:
    """Whether writing to standard output failed; then the rest is dropped."""
    if sys.stdout is None:
        return False
    try:
        sys.stdout.flush()
    except OSError:
        # Otherwise the interpreter flushes once more, and exits with another code.
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)
        return True
    return False


def sentence(error: EntropydError) -> str:
    advice = _ADVICE.get(error.reason)
    what = f"{error} ({error.reason})"
    return f"{what}\n{advice}" if advice else what
