"""The `entropyd` command: options and conventions that all commands share, and the list of commands."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from entropyd._caller import time_limit
from entropyd.cli.bench import bench
from entropyd.cli.coding import compress, decompress
from entropyd.cli.creating import create
from entropyd.cli.fit import fit
from entropyd.cli.inspecting import inspect
from entropyd.cli.local import is_local, local_servers, shown_folder
from entropyd.cli.models import models
from entropyd.cli.session import DEFAULT_SERVER, ErrorsAsSentences, Session, connect
from entropyd.cli.token import token
from entropyd.cli.verifying import verify

_FILE = click.Path(path_type=Path)


@click.group(
    cls=ErrorsAsSentences,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True},
)
@click.option("--server", default=DEFAULT_SERVER, help="Server to use, HOST:PORT.")
@click.option(
    "--local",
    is_flag=True,
    help=f"Use no other server: this command is one, with the models in {shown_folder()}.",
)
@click.option(
    "--timeout-s", default=600.0, help="Longest time for one call, in seconds; without it, a fit has an hour."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@click.option("--tls", is_flag=True, help="Use TLS, and trust the public certificate authorities.")
@click.option("--tls-ca", type=_FILE, help="Use TLS, and trust the root certificates in this PEM file.")
@click.option("--tls-cert", type=_FILE, help="Certificate of the client, in PEM, if the server asks for one.")
@click.option("--tls-key", type=_FILE, help="Key of --tls-cert, in PEM.")
@click.option("--token-file", type=_FILE, help="File with the token to send, in place of ENTROPYD_TOKEN.")
@click.version_option(package_name="entropyd", prog_name="entropyd")
@click.pass_context
def entropyd(context: click.Context, /, timeout_s: float, *, as_json: bool, **connection: Any) -> None:
    """Compress float arrays with entropy models on an entropyd server, or with --local without one.

    Each option can also be set by the environment variable that is shown beside it.

    \b
    Examples:
      entropyd models create --prior NoisyNormal -p loc=0 -p 'scale=[1,2,4]' --coding-rank 2
      entropyd models list
      entropyd fit --coding-rank 3 latents.npy --report fit.html
      entropyd compress --model MODEL_ID latents.npy latents.entropyd
      entropyd decompress latents.entropyd restored.npy
      entropyd inspect latents.entropyd
      entropyd verify archives/
      entropyd --local models import model.safetensors
    """
    given = context.get_parameter_source("timeout_s") is not ParameterSource.DEFAULT
    session = partial(Session, as_json=as_json, timeout_s=timeout_s if given else None)
    try:
        time_limit(timeout_s)  # here, because --local makes its client when a command first needs it
        if is_local(context):
            context.obj = session(local_servers(context, timeout_s))
            return
        client = context.with_resource(connect(connection, timeout_s))
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    context.obj = session(lambda _: client)


def _follow_conventions(command: click.Command, prefix: str = "ENTROPYD") -> None:
    """Names each option's environment variable after its flag, and adds `--json` to subcommands.

    `entropyd --server` gets ENTROPYD_SERVER, `entropyd compress --model` ENTROPYD_COMPRESS_MODEL.
    """
    for option in command.params:
        if isinstance(option, click.Option) and option.expose_value:
            flag = max(option.opts, key=len)
            option.envvar = f"{prefix}_{flag.strip('-').replace('-', '_')}".upper()
            option.show_envvar = True
    if isinstance(command, click.Group):
        for name, subcommand in command.commands.items():
            _follow_conventions(subcommand, f"{prefix}_{name}")
            subcommand.params.append(_json_option())


def _json_option() -> click.Option:
    # It has the variable of the same option before the command, ENTROPYD_JSON.
    help_text = "Print JSON, for programs."
    return click.Option(["--json"], is_flag=True, expose_value=False, callback=_as_json, help=help_text)


def _as_json(context: click.Context, _: click.Parameter, value: Any) -> None:
    if value and context.obj is not None:  # None during shell completion
        context.obj = replace(context.obj, as_json=True)


models.add_command(create)
for command in (models, fit, compress, decompress, inspect, verify, bench, token):
    entropyd.add_command(command)
_follow_conventions(entropyd)
