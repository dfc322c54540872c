"""Environment variables for all options, and `--json` before or after the command."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

_PREFIX = "ENTROPYD"


def follow_conventions(command: click.Command, prefix: str = _PREFIX) -> None:
    """Names the variable of each option after its flag, and adds `--json` to subcommands.

    The variable of `entropyd --server` is ENTROPYD_SERVER, that of `entropyd compress --model`
    ENTROPYD_COMPRESS_MODEL.
    """
    for option in command.params:
        if isinstance(option, click.Option) and option.expose_value:
            flag = max(option.opts, key=len)
            option.envvar = f"{prefix}_{flag.strip('-').replace('-', '_')}".upper()
            option.show_envvar = True
    if isinstance(command, click.Group):
        for name, subcommand in command.commands.items():
            follow_conventions(subcommand, f"{prefix}_{name}")
            subcommand.params.append(_json_option())


def _json_option() -> click.Option:
    # It has the variable of the same option before the command, ENTROPYD_JSON.
    help_text = "Print JSON, for programs."
    return click.Option(["--json"], is_flag=True, expose_value=False, callback=_as_json, help=help_text)


def _as_json(context: click.Context, _: click.Parameter, value: Any) -> None:
    if value and context.obj is not None:  # None during shell completion
        context.obj = replace(context.obj, as_json=True)
