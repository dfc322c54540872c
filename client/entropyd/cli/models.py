"""`entropyd models`: list, show, delete, name, unname, export and import; `creating` has the rest."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from entropyd import Model
from entropyd.cli.describing import describe, in_words
from entropyd.cli.paths import (
    FILE,
    force_option,
    is_standard_output,
    open_output,
    open_source,
    refuse_terminal,
)
from entropyd.cli.session import Session
from entropyd.cli.values import MODEL_ID, model_names, name_option


@click.group()
def models() -> None:
    """Create, list, show, delete, name, export and import models.

    \b
    Examples:
      entropyd models create --prior NoisyNormal -p loc=0 -p 'scale=[1,2,4]' --coding-rank 2
      entropyd models list
    """


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
    """
    found, names = list(session.client.models()), defaultdict[str, list[str]](list)
    for name, model_id in model_names(session.client).items():
        names[model_id].append(name)

    def show() -> None:
        table = Table(
            "MODEL ID",
            "NAMES",
            "KIND",
            "PRIOR",
            "PRIOR SHAPE",
            "RANK",
            "DTYPE",
            "TABLES",
            "CREATED",
            box=None,
        )
        for model in found:
            table.add_row(model.id, ", ".join(names[model.id]) or "-", *_columns(model))
        console = Console()
        width = Console(width=_WIDEST).measure(table).maximum
        if console.is_terminal and width > console.width:
            for model in found:
                click.echo("  ".join([model.id, *names[model.id]]))
                click.echo(f"  {'  '.join(_columns(model))}")
        else:
            Console(width=width).print(table)

    session.show([{**describe(model), "names": names[model.id]} for model in found], show)
    for model_id in sorted(names.keys() - {model.id for model in found}):
        told = f"{', '.join(names[model_id])}: model {model_id} is damaged, or not in the store any more"
        click.echo(told, err=True)


def _columns(model: Model) -> tuple[str, ...]:
    return (
        model.config.kind,
        model.config.family or "-",
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

    MODEL_ID is its id, 6 or more of its first digits, or its name.

    \b
    Examples:
      entropyd models show 62d75192
      entropyd models show --json MODEL_ID > model.json
    """
    model = session.client.model(model_id)
    session.tell(model.config.to_dict(), in_words(model))


@models.command()
@click.argument("model_ids", nargs=-1, required=True, type=MODEL_ID)
@click.pass_obj
def delete(session: Session, /, model_ids: tuple[str, ...]) -> None:
    """Delete models. The server can then no longer decode what was compressed with them.

    Their names stay, and point at nothing; `models unname` removes them.

    \b
    Example:
      entropyd models delete MODEL_ID
    """
    deleted: list[str] = []
    try:
        for model_id in model_ids:
            session.client.delete_model(model_id)
            deleted.append(model_id)
    finally:
        if deleted:  # also where a later one fails
            text = f"deleted {len(deleted)}"
            if len(deleted) < len(model_ids):
                text += f" of {len(model_ids)}: {', '.join(deleted)}"
            session.tell({"deleted": deleted}, text)


@models.command("name")
@click.option(
    "--expected",
    metavar="MODEL_ID",
    help="Whole id that NAME has to point at now, or '' if it has to be free; without it, NAME moves from "
    "whatever it points at.",
)
@click.argument("name")
@click.argument("model_id", type=MODEL_ID)
@click.pass_obj
def name_model(session: Session, /, name: str, model_id: str, *, expected: str | None) -> None:
    """Give a model the name NAME, or move NAME to it from another model.

    Wherever a command takes a model, it takes its name. Archives hold the id, so they still decode when the
    name has moved.

    \b
    Examples:
      entropyd models name faces-v2 62d75192
      entropyd models name production faces-v2
    """
    model = session.client.model(model_id)
    previous = session.client.name_model(name, model.id, expected=expected)
    moved = f"{previous} -> " if previous not in {"", model.id} else ""
    figures = {"name": name, "model_id": model.id, "previous_model_id": previous or None}
    session.tell(figures, f"{name}: {moved}{model.id}")


@models.command()
@click.argument("name")
@click.pass_obj
def unname(session: Session, /, name: str) -> None:
    """Remove the name NAME; the model stays.

    \b
    Example:
      entropyd models unname faces-v2
    """
    model_id = session.client.unname_model(name)
    session.tell({"name": name, "model_id": model_id}, f"{name} was the name of {model_id}")


@models.command("export")
@force_option
@click.argument("model_id", type=MODEL_ID)
@click.argument("target", type=FILE)
@click.pass_obj
def export_model(session: Session, /, model_id: str, target: Path, *, force: bool) -> None:
    """Write a model, with its weights and coding tables, to TARGET (.safetensors).

    MODEL_ID is its id, 6 or more of its first digits, or its name. - as TARGET is standard output.

    \b
    Example:
      entropyd models export MODEL_ID model.safetensors
    """
    refuse_terminal(target)
    with open_output(target, force=force) as file:
        model = session.client.model(model_id)
        exported = model.export()
        file.write(exported)
    figures = {"target": str(target), "model_id": model.id, "bytes": len(exported)}
    text = f"{target}: model {model.id[:12]}, {len(exported):,} bytes"
    session.tell(figures, text, err=is_standard_output(target))


@models.command("import")
@name_option
@click.argument("source", type=FILE)
@click.pass_obj
def import_model(session: Session, /, source: Path, *, name: str | None) -> None:
    """Store the model in SOURCE under its own id. Prints the id.

    - as SOURCE is standard input.

    \b
    Examples:
      entropyd models import model.safetensors
      entropyd models import --name faces-v2 model.safetensors
    """
    with open_source(source) as file:
        exported = file.read()
    model = session.client.import_model(exported, name=name)
    figures = {"model_id": model.id, "tables_digest": model.tables_digest.hex()}
    session.tell(figures, model.id)
