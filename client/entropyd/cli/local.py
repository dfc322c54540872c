"""`entropyd --local`: a command's own server, on a thread of its process (docs/adr/0015).

Invariant: it starts when a command first needs it, and ends with the command.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from threading import Timer

import click
from click.core import ParameterSource
from platformdirs import user_data_path

from entropyd import Client
from entropyd._server_package import server_module
from entropyd.cli.session import CONNECTION

# Servers have the same variable, and the same default.
_STORE = "ENTROPYD_STORE"
# What a person is told if the start takes longer than this.
_SOON_S = 2.0
_STARTING = "starting; the first time, the coder is compiled, which takes about half a minute"
_STARTING_TENSORFLOW = "starting TensorFlow, which builds tables and fits priors"


def shown_folder() -> str:
    """Where the models of `--local` are, for people."""
    try:
        return os.environ.get(_STORE) or str(user_data_path("entropyd") / "store")
    except RuntimeError:  # a user without a home
        return _STORE


def is_local(context: click.Context) -> bool:
    """Whether the options of `entropyd` ask for `--local`; the command line wins over variables.

    Raises:
      click.UsageError: If they ask for a server elsewhere too; names the options.
    """
    if not context.params["local"]:
        return False
    source = context.get_parameter_source("local")
    elsewhere = {
        (str(option.envvar) if given is ParameterSource.ENVIRONMENT else max(option.opts, key=len)): given
        for option in context.command.params
        if option.name in CONNECTION
        and (given := context.get_parameter_source(option.name)) is not ParameterSource.DEFAULT
    }
    if clash := [name for name, given in elsewhere.items() if given is source]:
        raise click.UsageError(
            f"--local needs no server, and {', '.join(clash)} would have no effect; leave out one of them"
        )
    return source is ParameterSource.COMMANDLINE or not elsewhere


def local_servers(context: click.Context, timeout_s: float) -> Callable[[bool], Client]:
    """Starts servers that end with `context`, at most one with the modeling role and one without.

    Returns:
      A function that takes whether to have that role, if this installation can run it. It raises
      click.ClickException if a server cannot start.
    """

    @cache
    def connect(modeling: bool) -> Client:
        try:
            embedded = server_module("embedded")
        except ImportError as error:
            raise click.ClickException(f"--local: {error}") from error
        if modeling and not embedded.can_model():
            return connect(False)  # noqa: FBT003
        with _told(_STARTING_TENSORFLOW if modeling else _STARTING):
            try:
                server = embedded.EmbeddedServer(os.environ.get(_STORE) or None, modeling=modeling)
                context.with_resource(server)
            except (click.UsageError, OSError, RuntimeError) as error:
                raise click.ClickException(f"--local: {error}") from error
        return context.with_resource(Client(server.target, timeout_s=timeout_s))

    return connect


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Tells a person what takes long, if it does."""
    timer = Timer(_SOON_S, lambda: click.echo(what, err=True))
    if sys.stderr is not None and sys.stderr.isatty():
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
