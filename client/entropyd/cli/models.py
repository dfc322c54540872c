"""`entropyd models`: create, list, show and delete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from entropyd.cli.values import MODEL_ID

if TYPE_CHECKING:
    from entropyd import Model
    from entropyd.cli.session import Session


@click.group()
def models() -> None:
    """Create, list, show, delete, export and import models.

    \b
    Examples:
      entropyd models create --prior NoisyNormal -p loc=0 -p scale=[1,2,4] --coding-rank 2
      entropyd models list
    """  # noqa: D301 - \b keeps click from wrapping


_WIDEST = 10_000  # columns, more than any table has


@models.command("list")
@click.pass_obj
def list_models(session: Session, /) -> None:
    """List all models in order of their ids.

    Ids are never cut or wrapped. On a narrow terminal, the properties of a model are shown below its id.

    \b
    Examples:
      entropyd models list
      entropyd models list --json | jq -r '.[].model_id'
    """  # noqa: D301 - \b keeps click from wrapping
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

    session.show([describe(model) for model in found], show)


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
    """Show a model. With --json: its whole configuration, as `models create --config` takes it.

    MODEL_ID is its id, or 6 or more of its first digits.

    \b
    Examples:
      entropyd models show 62d75192
      entropyd models show --json MODEL_ID > model.json
    """  # noqa: D301 - \b keeps click from wrapping
    model = session.client.model(model_id)

    def text() -> None:
        for name, value in describe(model).items():
            click.echo(f"{name:22} {value}")

    session.show(model.config.to_dict(), text)


@models.command()
@click.argument("model_ids", nargs=-1, required=True, type=MODEL_ID)
@click.pass_obj
def delete(session: Session, /, model_ids: tuple[str, ...]) -> None:
    """Delete models. The server can then no longer decode what was compressed with them.

    \b
    Example:
      entropyd models delete MODEL_ID
    """  # noqa: D301 - \b keeps click from wrapping
    for model_id in model_ids:
        session.client.delete_model(model_id)
    session.show({"deleted": list(model_ids)}, lambda: click.echo(f"deleted {len(model_ids)}"))


def describe(model: Model) -> dict[str, Any]:
    """The properties of a model, as JSON values."""
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
