"""`entropyd models export` and `import`: a model in a file, from one store to another.

Owns the two commands. It must not know the file's layout.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from entropyd.cli.values import MODEL_ID

if TYPE_CHECKING:
    from entropyd.cli.session import Session


@click.command("export")
@click.argument("model_id", type=MODEL_ID)
@click.argument("target", type=click.Path(path_type=Path))
@click.pass_obj
def export_model(session: Session, /, model_id: str, target: Path) -> None:
    """Write a model, with its weights and coding tables, to TARGET (.safetensors).

    MODEL_ID is its id, or 6 or more of its first digits.

    \b
    Example:
      entropyd models export MODEL_ID model.safetensors
    """  # noqa: D301 - \b is click's mark for text to leave as it is
    model = session.client.model(model_id)
    exported = model.export()
    target.write_bytes(exported)
    figures = {"target": str(target), "model_id": model.id, "bytes": len(exported)}
    session.show(figures, lambda: click.echo(f"{target}: model {model.id[:12]}, {len(exported):,} bytes"))


@click.command("import")
@click.argument("source", type=click.Path(path_type=Path))
@click.pass_obj
def import_model(session: Session, /, source: Path) -> None:
    """Store the model in SOURCE under its own id. Prints the id.

    \b
    Example:
      entropyd models import model.safetensors
    """  # noqa: D301 - \b is click's mark for text to leave as it is
    model = session.client.import_model(source.read_bytes())
    figures = {"model_id": model.id, "tables_digest": model.tables_digest.hex()}
    session.show(figures, lambda: click.echo(model.id))
