"""`entropyd models`: create, list, show and delete.

Owns how a model is described on the command line and on the terminal. It must not know more of the service
than the public client does.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from rich.console import Console
from rich.table import Table

from entropyd import Model, Prior, UniversalBatchedConfig
from entropyd.cli.arrays import read_array
from entropyd.cli.paths import FILE, open_source
from entropyd.cli.values import MODEL_ID
from entropyd.contract.dtypes import BOTTLENECK_DTYPES
from entropyd.contract.families import FAMILIES
from entropyd.contract.json_text import parse_json
from entropyd.contract.kinds import config_from_dict

if TYPE_CHECKING:
    from entropyd.cli.session import Session
    from entropyd.contract.config import ModelConfig


@click.group()
def models() -> None:
    """Create, list, show, delete, export and import models.

    \b
    Examples:
      entropyd models create --prior NoisyNormal -p loc=0 -p scale=[1,2,4] --coding-rank 2
      entropyd models list
    """  # noqa: D301 - \b is click's mark for text to leave as it is


_WIDEST = 10_000  # columns, more than any table has

# The others are made of another prior, or have the variables of a network: `fit` and --config make these.
_FAMILIES = sorted(
    name for name, family in FAMILIES.items() if not (family.nested or family.network) and family.density
)


@models.command()
@click.option(
    "--config",
    "config_file",
    type=FILE,
    help="JSON file, as `models show --json` prints, or - for standard input; it may have any prior.",
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
@click.option(
    "--tail-mass",
    default=UniversalBatchedConfig.tail_mass,
    show_default=True,
    help="Probability left to the escape.",
)
@click.option(
    "--range-coder-precision",
    default=UniversalBatchedConfig.range_coder_precision,
    show_default=True,
    help="Bits of the coding tables, 1 to 16.",
)
@click.option(
    "--bottleneck-dtype",
    type=click.Choice(BOTTLENECK_DTYPES),
    default="float32",
    show_default=True,
    help="Type of arrays.",
)
@click.option(
    "--num-noise-levels",
    default=UniversalBatchedConfig.num_noise_levels,
    show_default=True,
    help="Levels of the dither.",
)
@click.option(
    "--laplace-tail-mass",
    default=UniversalBatchedConfig.laplace_tail_mass,
    show_default=True,
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
    """Make a model, or find the one that has this configuration already. Prints its id.

    \b
    Examples:
      entropyd models create --prior NoisyNormal -p loc=0 -p scale=[1,2,4] --coding-rank 2
      entropyd models create --prior NoisyLaplace -p loc=0 -p scale=scale.npy --coding-rank 3
      entropyd models create --config model.json
    """  # noqa: D301 - \b is click's mark for text to leave as it is
    session: Session = context.obj
    if config_file is not None:
        sources = [context.get_parameter_source(name) for name in context.params if name != "config_file"]
        if any(source is not ParameterSource.DEFAULT for source in sources):
            raise click.UsageError("--config says everything; leave the other options out")
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
    session.show(_describe(model), lambda: click.echo(model.id))


@models.command("list")
@click.pass_obj
def list_models(session: Session, /) -> None:
    """List all models in order of their ids.

    Ids are there to be copied, so they are never cut or wrapped. On a terminal that is too narrow for a
    table, what is known of a model stands below its id.

    \b
    Examples:
      entropyd models list
      entropyd models list --json | jq -r '.[].model_id'
    """  # noqa: D301 - \b is click's mark for text to leave as it is
    found = list(session.client.models())

    def show() -> None:
        table = Table("MODEL ID", "PRIOR", "PRIOR SHAPE", "RANK", "DTYPE", "TABLES", "CREATED", box=None)
        for model in found:
            table.add_row(model.id, *_columns(model))
        console = Console()
        width = Console(width=_WIDEST).measure(table).maximum
        if console.is_terminal and width > console.width:
            for model in found:
                click.echo(f"{model.id}\n  {'  '.join(_columns(model))}")
        else:
            Console(width=width).print(table)

    session.show([_describe(model) for model in found], show)


def _columns(model: Model) -> tuple[str, ...]:
    return (
        str(model.config.family),
        str(model.prior_shape),
        str(model.coding_rank),
        model.config.bottleneck_dtype,
        f"{model.info.table_bytes:,} B",
        f"{model.info.created_at:%Y-%m-%d %H:%M}",
    )


@models.command()
@click.argument("model_id", type=MODEL_ID)
@click.pass_obj
def show(session: Session, /, model_id: str) -> None:
    """Show one model. With --json: its whole configuration, ready for `models create --config`.

    MODEL_ID is its id, or 6 or more of its first digits.

    \b
    Examples:
      entropyd models show 62d75192
      entropyd models show --json MODEL_ID > model.json
    """  # noqa: D301 - \b is click's mark for text to leave as it is
    model = session.client.model(model_id)

    def text() -> None:
        for name, value in _describe(model).items():
            click.echo(f"{name:22} {value}")

    session.show(model.config.to_dict(), text)


@models.command()
@click.argument("model_ids", nargs=-1, required=True, type=MODEL_ID)
@click.pass_obj
def delete(session: Session, /, model_ids: tuple[str, ...]) -> None:
    """Delete models. What was compressed with them can then no longer be decoded by the server.

    \b
    Example:
      entropyd models delete MODEL_ID
    """  # noqa: D301 - \b is click's mark for text to leave as it is
    for model_id in model_ids:
        session.client.delete_model(model_id)
    session.show({"deleted": list(model_ids)}, lambda: click.echo(f"deleted {len(model_ids)}"))


def _describe(model: Model) -> dict[str, Any]:
    config = model.config
    arguments = {name: getattr(config, name) for name in config.fields}
    return {
        "model_id": model.id,
        "kind": config.kind,
        "prior": config.family,
        "prior_shape": list(model.prior_shape),
        **{name: value for name, value in arguments.items() if isinstance(value, (bool, int, float, str))},
        "tables_digest": model.tables_digest.hex(),
        "table_rows": model.info.table_rows,
        "table_bytes": model.info.table_bytes,
        "tables_origin": model.info.tables_origin,
        "created_at": model.info.created_at.isoformat(),
        "built_with": dict(model.built_with),
    }


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
            f"parameter {name}: {value!r:.80} is no number, JSON list or .npy file"
        ) from error
