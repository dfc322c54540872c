"""`entropyd models`: create, list, show and delete.

Owns how a model is described on the command line and on the terminal. It must not know more of the service
than the public client does.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from entropyd import Model, Prior, UniversalBatchedConfig
from entropyd.cli.arrays import read_array
from entropyd.contract.config import BOTTLENECK_DTYPES
from entropyd.contract.families import FAMILIES
from entropyd.contract.json_text import parse_json

if TYPE_CHECKING:
    from entropyd.cli.session import Session


@click.group()
def models() -> None:
    """Create, list, show and delete models."""


@models.command()
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="JSON file, as `models show --json` prints.",
)
@click.option("--prior", "family", type=click.Choice(sorted(FAMILIES)), help="Family of the prior.")
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
@click.option("--tail-mass", type=float, help="Probability left to the escape.  [default: 2^-8]")
@click.option("--range-coder-precision", type=int, help="Bits of the coding tables, 1 to 16.  [default: 12]")
@click.option(
    "--bottleneck-dtype", type=click.Choice(BOTTLENECK_DTYPES), help="Type of arrays.  [default: float32]"
)
@click.option("--num-noise-levels", type=int, help="Levels of the dither.  [default: 15]")
@click.option(
    "--laplace-tail-mass", type=float, help="Weight of a Laplace mixture in bit costs.  [default: 0]"
)
@click.pass_obj
def create(
    session: Session,
    /,
    config_file: Path | None,
    family: str | None,
    parameters: tuple[str, ...],
    *,
    no_compression: bool,
    **arguments: Any,
) -> None:
    """Make a model, or find the one that has this configuration already. Prints its id."""
    given = {name: value for name, value in arguments.items() if value is not None}
    if config_file is not None:
        if family or parameters or given or no_compression:
            raise click.UsageError("--config says everything; leave the other options out")
        config = _read_config(config_file)
    else:
        if family is None or "coding_rank" not in given:
            raise click.UsageError("--prior and --coding-rank are needed, or --config")
        prior = Prior(family, dict(_parameter(parameter) for parameter in parameters))
        config = UniversalBatchedConfig(prior=prior, compression=not no_compression, **given)
    model = session.client.create_model(config)
    session.show(_describe(model), lambda: click.echo(model.id))


@models.command("list")
@click.pass_obj
def list_models(session: Session, /) -> None:
    """List all models in order of their ids."""
    found = list(session.client.models())

    def show() -> None:
        table = Table("MODEL ID", "PRIOR", "PRIOR SHAPE", "RANK", "DTYPE", "TABLES", "CREATED", box=None)
        for model in found:
            table.add_row(
                model.id,
                model.prior.family,
                str(model.prior_shape),
                str(model.coding_rank),
                model.config.bottleneck_dtype,
                f"{model.info.table_bytes:,} B",
                f"{model.info.created_at:%Y-%m-%d %H:%M}",
            )
        # Ids are there to be copied, so they are never cut to the width of the terminal.
        Console(width=max(160, Console().width) if not Console().is_terminal else None).print(table)

    session.show([_describe(model) for model in found], show)


@models.command()
@click.argument("model_id")
@click.pass_obj
def show(session: Session, /, model_id: str) -> None:
    """Show one model. With --json: its whole configuration, ready for `models create --config`."""
    model = session.client.model(model_id)

    def text() -> None:
        for name, value in _describe(model).items():
            click.echo(f"{name:22} {value}")

    session.show(model.config.to_dict(), text)


@models.command()
@click.argument("model_ids", nargs=-1, required=True)
@click.pass_obj
def delete(session: Session, /, model_ids: tuple[str, ...]) -> None:
    """Delete models. What was compressed with them can then no longer be decoded by the server."""
    for model_id in model_ids:
        session.client.delete_model(model_id)
    session.show({"deleted": list(model_ids)}, lambda: click.echo(f"deleted {len(model_ids)}"))


def _describe(model: Model) -> dict[str, Any]:
    return {
        "model_id": model.id,
        "prior": model.prior.family,
        "prior_shape": list(model.prior_shape),
        "coding_rank": model.coding_rank,
        "bottleneck_dtype": model.config.bottleneck_dtype,
        "compression": model.compression,
        "range_coder_precision": model.range_coder_precision,
        "num_noise_levels": model.num_noise_levels,
        "tail_mass": model.tail_mass,
        "laplace_tail_mass": model.laplace_tail_mass,
        "tables_digest": model.tables_digest.hex(),
        "table_rows": model.info.table_rows,
        "table_bytes": model.info.table_bytes,
        "tables_origin": model.info.tables_origin,
        "created_at": model.info.created_at.isoformat(),
        "built_with": dict(model.built_with),
    }


def _read_config(path: Path) -> UniversalBatchedConfig:
    try:
        return UniversalBatchedConfig.from_dict(parse_json(path.read_bytes()))
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
