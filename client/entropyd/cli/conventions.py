"""What all commands share: a variable for every option, and `--json` before and after the command."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

_PREFIX = "ENTROPYD"


def follow_conventions(command: click.Command, prefix: str = _PREFIX) -> None:
    """Names the variable of each option by its flag, and lets subcommands take `--json` as well.

    As in ENTROPYD_SERVER for `entropyd --server` and ENTROPYD_COMPRESS_MODEL for `entropyd compress --model`.
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
    # Its variable, ENTROPYD_JSON, is that of the same option before the command.
    help_text = "Print JSON, for programs."
    return click.Option(["--json"], is_flag=True, expose_value=False, callback=_as_json, help=help_text)


def _as_json(context: click.Context, _: click.Parameter, value: Any) -> None:
    if value and context.obj is not None:  # there is none while a shell completes words
        context.obj = replace(context.obj, as_json=True)
