"""What every command works with: the connection, and how results and errors are shown.

Owns `Session` and the wording of what to do after an error. It must not know any command. Invariant: a
result is printed once, either as text for a person or as JSON for a program, and an error of entropyd ends
the command with exit code 1 and a sentence, never a traceback.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import click

from entropyd import EntropydError
from entropyd._connection import Connection
from entropyd.cli.paths import STANDARD_OUTPUT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from entropyd import Client

DEFAULT_SERVER = "127.0.0.1:7070"

# ErrorInfo.reason -> what to do next.
_NEXT = {
    "UNREACHABLE": "start a server with `entropyd-server`, or name one with --server HOST:PORT",
    "MODEL_NOT_FOUND": "`entropyd models list` shows the models of this server",
    "TABLES_MISMATCH": "decode it with a server that has the model that made it, or embed the model",
    "MODEL_NOT_COMPRESSING": "create a model without --no-compression",
    "OVERLOADED": "wait a moment and repeat the command",
    "DRAINING": "the server is going away; repeat the command when another is there",
    "WORKER_LOST": "another worker is starting; repeat the command",
    "STARTING": "the server is starting; repeat the command in a few seconds",
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
    """What every command works with.

    Attributes:
      client: Connects when it is first used, so a command that needs no server never does.
      as_json: Whether a program reads the output.
    """

    client: Client
    as_json: bool

    def show(self, value: Any, text: Callable[[], None]) -> None:
        """Prints `value` as JSON for a program, or calls `text` for a person."""
        if self.as_json:
            click.echo(json.dumps(value, indent=2))
        else:
            text()

    def tell(self, value: Any, text: str, *, err: bool = False) -> None:
        """Prints `value` as JSON for a program, or `text` for a person.

        Args:
          value: What JSON can hold.
          text: The same, to be read.
          err: Whether standard output is taken by data, so that this goes to standard error.
        """
        click.echo(json.dumps(value, indent=2) if self.as_json else text, err=err)


class ErrorsAsSentences(click.Group):
    """A group whose entropyd errors are messages, not tracebacks, with exit code 1."""

    def invoke(self, context: click.Context) -> Any:
        """Runs the command."""
        try:
            return super().invoke(context)
        except EntropydError as error:
            raise click.ClickException(sentence(error)) from error
        except OSError as error:
            if error.filename is None and _output_failed():
                error.filename = STANDARD_OUTPUT
            if isinstance(error, BrokenPipeError) and error.filename in {None, STANDARD_OUTPUT}:
                raise  # click ends quietly when whoever reads has had enough
            raise click.ClickException(os_sentence(error)) from error


def connect(options: Mapping[str, Any], timeout_s: float) -> Client:
    """The client that the options of `entropyd` ask for; it connects when it is first used.

    Raises:
      OSError, ValueError: As Connection.client.
    """
    known = {field.name for field in fields(Connection)}
    given = {name: value for name, value in options.items() if name in known}
    # In the environment and in files only: other users of a machine see the arguments of a command.
    return Connection(**given, token=os.environ.get("ENTROPYD_TOKEN")).client(timeout_s)


def os_sentence(error: OSError) -> str:
    """What is wrong with which file."""
    return f"{error.filename or 'a file'}: {error.strerror or error}"


def _output_failed() -> bool:
    """Whether standard output did not take all that was written to it, which is dropped."""
    if sys.stdout is None:
        return False
    try:
        sys.stdout.flush()
    except OSError:
        # Or the interpreter would try once more, and end with another exit code.
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, sys.stdout.fileno())
        os.close(nothing)
        return True
    return False


def sentence(error: EntropydError) -> str:
    """The error, its reason, and what to do next where that is known."""
    following = _NEXT.get(error.reason)
    what = f"{error} ({error.reason})"
    return f"{what}\n{following}" if following else what
