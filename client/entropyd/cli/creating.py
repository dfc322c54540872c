"""`entropyd models create`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click
from click.core import ParameterSource

from entropyd import (
    ContinuousBatchedConfig,
    ContinuousIndexedConfig,
    LocationScaleIndexedConfig,
    PowerLawConfig,
    TabulatedConfig,
    UniversalBatchedConfig,
    UniversalIndexedConfig,
)
from entropyd.cli.describing import describe
from entropyd.cli.paths import FILE, open_source
from entropyd.cli.prior_words import integers_of, prior_of
from entropyd.cli.session import Session
from entropyd.cli.table_files import tabulated_of
from entropyd.cli.values import name_option
from entropyd.contract.config import ModelConfig
from entropyd.contract.dtypes import BOTTLENECK_DTYPES
from entropyd.contract.families import FAMILIES
from entropyd.contract.json_text import parse_json
from entropyd.contract.kinds import config_from_dict
from entropyd.contract.kinds.indexed import IndexedConfig

_KINDS: Mapping[str, type[ModelConfig]] = MappingProxyType(
    {
        "universal-batched": UniversalBatchedConfig,
        "continuous-batched": ContinuousBatchedConfig,
        "continuous-indexed": ContinuousIndexedConfig,
        "location-scale": LocationScaleIndexedConfig,
        "universal-indexed": UniversalIndexedConfig,
        "power-law": PowerLawConfig,
        "tabulated": TabulatedConfig,
    }
)
# Options that make the prior; the last two make an indexed one.
_PRIOR = ("family", "parameters", "index_ranges", "scales")
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
@click.option(
    "--kind",
    type=click.Choice(list(_KINDS)),
    default="universal-batched",
    help="Kind of model, by TFC's class.",
)
@click.option("--prior", "family", type=click.Choice(_FAMILIES), help="Family of the prior.")
@click.option(
    "-p",
    "--parameter",
    "parameters",
    multiple=True,
    metavar="NAME=VALUE",
    help="Parameter of the prior: a number, a JSON list, the path of a .npy file, or, in an indexed prior, a "
    "function of the index such as affine:-2:0.5. Repeat for each.",
)
@click.option(
    "--scales",
    metavar="LOW:HIGH:COUNT",
    help="Log-spaced scales of a prior indexed by them; its loc is 0 unless -p has another.",
)
@click.option(
    "--index-ranges", metavar="N[,N...]", help="Number of values of each index of an indexed prior."
)
@click.option(
    "--channel-axis",
    default="-1",
    metavar="AXIS",
    help="Axis of an array of indexes with the indexes of one element, or none.",
)
@click.option(
    "--tables",
    "tables_file",
    type=FILE,
    help=".npz file with the tables of a tabulated model: rows and offsets, perhaps lengths; CompressAI's "
    "_quantized_cdf, _cdf_length and _offset; or TFC's cdf and cdf_offset.",
)
@click.option(
    "--row-by",
    type=click.Choice(["position", "index"]),
    default="position",
    help="What picks the row of an element of a tabulated model.",
)
@click.option(
    "--row-shape",
    metavar="N[,N...]",
    help="Innermost axes with a row for each element, or number of values of each index, of a tabulated "
    "model; without it, one of all rows.",
)
@click.option(
    "--coder",
    type=click.Choice(["range", "rans64"]),
    default="range",
    help="Coder of a tabulated model: TFC's or CompressAI's.",
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
@click.option("--alpha", default=PowerLawConfig.alpha, help="Alpha of the penalty of a power-law model.")
@name_option
@click.pass_context
def create(context: click.Context, /, name: str | None, **_: Any) -> None:
    """Make a model, or find the one with this configuration. Prints its id.

    docs/kinds.md says what each kind of model is for, docs/priors.md which priors and functions of the index
    there are.

    \b
    Examples:
      entropyd models create --prior NoisyNormal -p loc=0 -p 'scale=[1,2,4]' --coding-rank 2
      entropyd models create --prior NoisyLaplace -p loc=0 -p scale=scale.npy --coding-rank 3
      entropyd models create --kind location-scale --prior NoisyNormal --scales 0.11:256:64 --coding-rank 3
      entropyd models create --kind tabulated --tables rows.npz --coding-rank 2
      entropyd models create --config model.json --name faces-v2
    """
    session: Session = context.obj
    config = configuration(context)
    # The limit of the client is --timeout-s.
    model = session.build(lambda client: client.create_model(config, name=name, timeout_s=None))
    session.show(describe(model), lambda: click.echo(model.id))


def configuration(context: click.Context) -> ModelConfig:
    """The configuration that the options of `models create` describe.

    Raises:
      click.UsageError: If an option is missing or wrong, or is one of other kinds; names its flag.
      click.ClickException: If the file of --config cannot be read.
      InvalidConfigError: If there is no such model.
    """
    given = {
        name: value
        for name, value in context.params.items()
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT and name != "name"
    }
    if "config_file" in given:
        if len(given) > 1:
            raise click.UsageError("--config has everything; leave out the other options")
        return _read_config(given["config_file"])
    flags = {str(option.name): max(option.opts, key=len) for option in context.command.params}
    return _configuration(context.params["kind"], given, flags)


def _configuration(kind: str, given: Mapping[str, Any], flags: Mapping[str, str]) -> ModelConfig:
    config = _KINDS[kind]
    taken = _options(config)
    for name, value in given.items():
        if name not in taken:
            kinds = ", ".join(other for other in _KINDS if name in _options(_KINDS[other]))
            found = flags[name] if value is True else f"{flags[name]} {value!r:.80}"
            what = f"{found} is no option of --kind {kind}"
            raise click.UsageError(f"{what}; expected one of: {kinds}")
    needed = ("tables_file", "family", "coding_rank")
    missing = [flags[name] for name in needed if name in taken and name not in given]
    if missing:
        raise click.UsageError(f"--kind {kind} needs {' and '.join(missing)}, or --config in its place")
    arguments = {name: value for name, value in given.items() if name in config.fields}
    if "row_shape" in given:
        arguments["row_shape"] = integers_of("--row-shape", given["row_shape"])
    if "tables_file" in given:
        return tabulated_of(given["tables_file"], **arguments)
    if "family" in given:
        arguments["prior"] = prior_of(**{name: given[name] for name in _PRIOR if name in given})
    if "no_compression" in given:
        arguments["compression"] = not given["no_compression"]
    if "channel_axis" in given:
        arguments["channel_axis"] = _axis(given["channel_axis"])
    return config(**arguments)


def _options(config: type[ModelConfig]) -> set[str]:
    """Names in Python of the options that make arguments of `config`."""
    names = {"kind", *config.fields}
    if "prior" in names:
        names.update(_PRIOR if issubclass(config, IndexedConfig) else _PRIOR[:2])
    if "compression" in names:
        names.add("no_compression")
    if config is TabulatedConfig:
        names.add("tables_file")
    return names


def _axis(text: str) -> int | None:
    if text == "none":
        return None
    try:
        return int(text)
    except ValueError:
        raise click.UsageError(f"--channel-axis {text!r} is not an integer or none") from None


def _read_config(path: Path) -> ModelConfig:
    try:
        with open_source(path) as file:
            return config_from_dict(parse_json(file.read()))
    except OSError as error:
        raise click.ClickException(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise click.ClickException(f"{path} is not the JSON of a configuration: {error}") from error
