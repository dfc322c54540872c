"""Checks all models of a store or a backup: `python -m entropyd_server.store.check STORE`.

It reads every object in full, compares it with its digests, and changes nothing. Exit status 0 means that no
model is damaged.
"""

from __future__ import annotations

import asyncio

import click

from entropyd.contract.errors import DataLossError, ModelNotFoundError, UnavailableError
from entropyd_server.store.location import StoreError
from entropyd_server.store.model_store import DEFAULT_MAX_OBJECT_BYTES, ModelStore

_PAGE_MODELS = 1000


async def check(store: ModelStore) -> tuple[int, list[str]]:
    whole, damaged, after = 0, list[str](), ""
    while page := await store.list_ids(_PAGE_MODELS, after):
        for model_id in page:
            try:
                await store.load(model_id)
                whole += 1
            except DataLossError:
                damaged.append(model_id)
            except ModelNotFoundError:
                continue  # deleted after it was listed
        after = page[-1]
    return whole, damaged


@click.command()
@click.argument("store")
@click.option(
    "--max-object-bytes",
    type=click.IntRange(min=1),
    default=DEFAULT_MAX_OBJECT_BYTES,
    show_default=True,
    help="Larger objects are not read and count as damaged.",
)
def main(store: str, max_object_bytes: int) -> None:
    """Check every model of STORE (a folder, s3://bucket/prefix, ...) against its digests."""
    try:
        opened = ModelStore(store, max_object_bytes=max_object_bytes, make_folder=False)
        whole, damaged = asyncio.run(check(opened))
    except (StoreError, UnavailableError) as error:
        raise click.ClickException(str(error)) from error
    for model_id in damaged:
        click.echo(f"{model_id}: damaged")
    click.echo(f"{whole} whole, {len(damaged)} damaged")
    if damaged:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
