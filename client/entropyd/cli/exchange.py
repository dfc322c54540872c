"""`entropyd models export` and `import`: a model in a file, from one store to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from entropyd.cli.paths import (
    FILE,
    force_option,
    is_standard_output,
    open_output,
    open_source,
    refuse_terminal,
)

if TYPE_CHECKING:
    from pathlib import Path

    from entropyd.cli.session import Session


@click.command("export")
@force_option
@click.argument("model_id")
@click.argument("target", type=FILE)
@click.pass_obj
def export_model(session: Session, /, model_id: str, target: Path, *, force: bool) -> None:
    """Write a model, with its weights and coding tables, to TARGET (.safetensors).

    - stands for standard output.
    """
    refuse_terminal(target)
    with open_output(target, force=force) as file:
        exported = session.client.model(model_id).export()
        file.write(exported)
    figures = {"target": str(target), "model_id": model_id, "bytes": len(exported)}
    text = f"{target}: model {model_id[:12]}, {len(exported):,} bytes"
    session.tell(figures, text, err=is_standard_output(target))


@click.command("import")
@click.argument("source", type=FILE)
@click.pass_obj
def import_model(session: Session, /, source: Path) -> None:
    """Store the model in SOURCE under its own id. Prints the id.

    - stands for standard input.
    """
    with open_source(source) as file:
        exported = file.read()
    model = session.client.import_model(exported)
    figures = {"model_id": model.id, "tables_digest": model.tables_digest.hex()}
    session.show(figures, lambda: click.echo(model.id))
