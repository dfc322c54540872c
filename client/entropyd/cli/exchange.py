"""`entropyd models export` and `import`: move a model from one store to another as a file."""

from __future__ import annotations

from pathlib import Path

import click

from entropyd.cli.paths import (
    FILE,
    force_option,
    is_standard_output,
    open_output,
    open_source,
    refuse_terminal,
)
from entropyd.cli.session import Session
from entropyd.cli.values import MODEL_ID


@click.command("export")
@force_option
@click.argument("model_id", type=MODEL_ID)
@click.argument("target", type=FILE)
@click.pass_obj
def export_model(session: Session, /, model_id: str, target: Path, *, force: bool) -> None:
    """Write a model, with its weights and coding tables, to TARGET (.safetensors).

    MODEL_ID is its id, or 6 or more of its first digits. - as TARGET is standard output.

    \b
    Example:
      entropyd models export MODEL_ID model.safetensors
    """  # noqa: D301 - \b keeps click from wrapping
    refuse_terminal(target)
    with open_output(target, force=force) as file:
        model = session.client.model(model_id)
        exported = model.export()
        file.write(exported)
    figures = {"target": str(target), "model_id": model.id, "bytes": len(exported)}
    text = f"{target}: model {model.id[:12]}, {len(exported):,} bytes"
    session.tell(figures, text, err=is_standard_output(target))


@click.command("import")
@click.argument("source", type=FILE)
@click.pass_obj
def import_model(session: Session, /, source: Path) -> None:
    """Store the model in SOURCE under its own id. Prints the id.

    - as SOURCE is standard input.

    \b
    Example:
      entropyd models import model.safetensors
    """  # noqa: D301 - \b keeps click from wrapping
    with open_source(source) as file:
        exported = file.read()
    model = session.client.import_model(exported)
    figures = {"model_id": model.id, "tables_digest": model.tables_digest.hex()}
    session.show(figures, lambda: click.echo(model.id))
