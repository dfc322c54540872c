"""`entropyd token`: makes tokens for servers that require one.

Invariant: a token is printed once, or written to a file that only its owner can read.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from pathlib import Path

import click

from entropyd.cli.paths import FILE, force_option, is_standard_output, open_output
from entropyd.cli.session import Session

_SCOPES = ("code", "model", "admin")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# Scanners for published secrets recognise tokens by this.
_PREFIX = "entropyd_"
_RANDOM_BYTES = 32


@click.group()
def token() -> None:
    """Make tokens for servers that require one.

    \b
    Example:
      entropyd token new --scope code --output ci.token ci >> tokens
    """


@token.command()
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice(_SCOPES),
    help="What it allows: code (compress and decompress), model (make, fit and read models), admin (all of "
    "it, and deleting models). Repeatable.",
)
@click.option(
    "-o",
    "--output",
    type=FILE,
    help="File for the token, readable by you alone, or - for standard output. Then only the line is "
    "printed.",
)
@force_option
@click.argument("name")
@click.pass_obj
def new(session: Session, /, scopes: tuple[str, ...], output: Path | None, name: str, *, force: bool) -> None:
    """Make a token for NAME, and the line for a server's --tokens-file.

    The line holds a hash of the token, not the token. So the user of a token can make it and send the line to
    the operator of the server.

    \b
    Example:
      entropyd token new --scope code --output ci.token ci >> tokens
    """
    if not _NAME.fullmatch(name):
        raise click.UsageError(
            "NAME takes 1 to 64 letters, digits, '.', '_' and '-', the first a letter or digit"
        )
    made = _PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    digest = hashlib.sha256(made.encode()).hexdigest()
    line = f"{name} {','.join(sorted(set(scopes)))} {digest}"
    if output is not None:
        with open_output(output, force=force, private=True) as file:
            file.write(f"{made}\n".encode("ascii"))
        session.tell({"line": line}, line, err=is_standard_output(output))
        return
    session.tell(
        {"token": made, "line": line}, f"token, shown only here:  {made}\nline of --tokens-file:   {line}"
    )
