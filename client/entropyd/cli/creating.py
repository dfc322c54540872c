"""`entropyd models create`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from entropyd import Prior, UniversalBatchedConfig
from entropyd.cli.arrays import read_array
from entropyd.cli.models import describe
from entropyd.cli.paths import FILE, open_source
from entropyd.cli.session import Session
from entropyd.contract.config import ModelConfig
from entropyd.contract.dtypes import BOTTLENECK_DTYPES
from entropyd.contract.families import FAMILIES
from entropyd.contract.json_text import parse_json
from entropyd.contract.kinds import config_from_dict

# `fit` and --config make the others, which have another prior inside or the variables of a network.
_FAMILIES = sorted(
    name for name, family in FAMILIES.items() if not (family.nested or family.network) and family.density
)


@click.command()
@click.option(
    "--config",
    "config_file",
    type=FILE,
    help="JSON file as printed by `models show --json`, or - for standard input; with any prior.",
)
@click.option("--prior", "family", type=click.Choice(_FAMILIES), help="Family of the prior.")
@click.option(
    "-p",
    "--parameter",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    help="Parameter of the prior: a number, a JSON list, or the path of a .npy file. Repeat for each.",
)
@click.option("--coding-rank", type=int, help="Number of innermost dimensions that make one coding unit.")
@click.option("--no-compression", is_flag=True, help="Make a model without coding tables.")
@click.option("--tail-mass", default=UniversalBatchedConfig.tail_mass, help="Probability left to the escape.")
@click.option(
    "--range-coder-precision",
    default=UniversalBatchedConfig.range_coder_precision,
    help="Bits of the coding tables, 1 to 16.",
)
@click.option(
    "--bottleneck-dtype", type=click.Choice(BOTTLENECK_DTYPES), default="float32", help="Type of arrays."
)
@click.option(
    "--num-noise-levels", default=UniversalBatchedConfig.num_noise_levels, help="Levels of the dither."
)
@click.option(
    "--laplace-tail-mass",
    default=UniversalBatchedConfig.laplace_tail_mass,
    help="Weight of a Laplace mixture in bit costs.",
)
@click.pass_context
def create(
    context: click.Context,
    /,
    config_file: Path | None,
    family: str | None,
    parameters: tuple[str, ...],
    *,
    coding_rank: int | None,
    no_compression: bool,
    **arguments: Any,
) -> None:
    """Make a model, or find the one with this configuration. Prints its id.

    \b
    Examples:
      entropyd models create --prior NoisyNormal -p loc=0 -p scale=[1,2,4] --coding-rank 2
      entropyd models create --prior NoisyLaplace -p loc=0 -p scale=scale.npy --coding-rank 3
      entropyd models create --config model.json
    """
    session: Session = context.obj
    if config_file is not None:
        sources = [context.get_parameter_source(name) for name in context.params if name != "config_file"]
        if any(source is not ParameterSource.DEFAULT for source in sources):
            raise click.UsageError("--config has everything; leave out the other options")
        config: ModelConfig = _read_config(config_file)
    else:
        if family is None or coding_rank is None:
            raise click.UsageError("--prior and --coding-rank are needed, or --config")
        config = UniversalBatchedConfig(
            prior=Prior(family, dict(_parameter(parameter) for parameter in parameters)),
            coding_rank=coding_rank,
            compression=not no_compression,
            **arguments,
        )
    model = session.client.create_model(config)
    session.show(describe(model), lambda: click.echo(model.id))


def _read_config(path: Path) -> ModelConfig:
    try:
        with open_source(path) as file:
            return config_from_dict(parse_json(file.read()))
    except OSError as error:
        raise click.ClickException(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise click.ClickException(f"{path} is not the JSON of a configuration: {error}") from error


def _parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"parameter {text!r} is not NAME=VALUE")
    if value.endswith(".npy"):
        return name, read_array(Path(value))
    try:
        return name, parse_json(value)
    except ValueError as error:
        raise click.UsageError(
            f"parameter {name}: {value!r:.80} is not a number, JSON list or .npy file"
        ) from error
