"""The server's flags, read from its own command."""

from __future__ import annotations

import click

from entropyd_server import settings


def flags() -> dict[str, click.Option]:
    """Every flag that sets something, by its environment variable."""
    command = settings.command(lambda _: None)
    options = [param for param in command.params if isinstance(param, click.Option) and param.expose_value]
    return {f"ENTROPYD_{option.name}".upper(): option for option in options}
