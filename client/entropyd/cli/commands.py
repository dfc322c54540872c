"""The commands of `entropyd`.

Owns flags, files and what is printed. It must not know more of the service than the public client does.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from entropyd import (
    Client,
    CompressedTensor,
    EntropydError,
    Model,
    Prior,
    UniversalBatchedConfig,
)
from entropyd.contract.config import BOTTLENECK_DTYPES
from entropyd.contract.prior import FAMILIES

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_SERVER = "127.0.0.1:7070"


@dataclass(frozen=True)
class Session:
    """What every command works with."""

    client: Client
    as_json: bool

    def show(self, value: Any, text: Callable[[], None]) -> None:
        """Prints `value` as JSON for a program, or calls `text` for a person."""
        if self.as_json:
            click.echo(json.dumps(value, indent=2))
        else:
            text()


class _Group(click.Group):
    """A group whose entropyd errors are messages, not tracebacks, with exit code 1."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except EntropydError as error:
            raise click.ClickException(f"{error} ({error.reason})") from error


@click.group(
    cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "ENTROPYD"}
)
@click.option("--server", default=DEFAULT_SERVER, show_default=True, help="Server to use, HOST:PORT.")
@click.option("--timeout-s", default=600.0, show_default=True, help="Longest time for one call, in seconds.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@click.version_option(package_name="entropyd", prog_name="entropyd")
@click.pass_context
def entropyd(context: click.Context, server: str, timeout_s: float, *, as_json: bool) -> None:
    """Compress float arrays with entropy models that live on an entropyd server.

    \b
    Examples:
      entropyd models create --prior NoisyNormal -p loc=0 -p scale=[1,2,4] --coding-rank 2
      entropyd models list
      entropyd compress --model MODEL_ID latents.npy latents.entropyd
      entropyd decompress latents.entropyd restored.npy
    """  # noqa: D301 - \b is click's mark for text to leave as it is
    context.obj = Session(context.with_resource(Client(server, timeout_s=timeout_s)), as_json)


@entropyd.group()
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


@entropyd.command()
@click.option("--model", "model_id", required=True, help="Id of the model to compress with.")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.pass_obj
def compress(session: Session, /, model_id: str, source: Path, target: Path) -> None:
    """Compress the array in SOURCE (.npy) into TARGET (.entropyd)."""
    array = _read_array(source)
    compressed = session.client.model(model_id).compress(array)
    compressed.save(target)
    rate = compressed.rate
    if rate is None:
        raise AssertionError("a Compress reply carries its rate")
    figures = {
        "target": str(target),
        "coding_units": len(compressed.lengths),
        "symbols": rate.symbols,
        "escaped_symbols": rate.escaped_symbols,
        "uncompressed_bytes": rate.uncompressed_bytes,
        "compressed_bytes": rate.compressed_bytes,
        "bits_per_symbol": rate.bits_per_symbol,
    }
    text = (
        f"{target}: {rate.uncompressed_bytes:,} -> {rate.compressed_bytes:,} bytes, "
        f"{rate.bits_per_symbol:.3f} bits per symbol"
    )
    session.show(figures, lambda: click.echo(text))


@entropyd.command()
@click.option(
    "--units", metavar="A:B", help="Decode only items A to B (not included) of the first batch axis."
)
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("target", type=click.Path(path_type=Path))
@click.pass_obj
def decompress(session: Session, /, units: str | None, source: Path, target: Path) -> None:
    """Restore the array in SOURCE (.entropyd) into TARGET (.npy)."""
    try:
        compressed = CompressedTensor.load(source)
    except OSError as error:
        raise click.ClickException(f"{source} cannot be read: {error.strerror}") from error
    if units is not None:
        compressed = compressed[_slice(units)]
    array = session.client.model(compressed.model_id).decompress(compressed)
    with target.open("wb") as file:
        np.save(file, array)
    figures = {"target": str(target), "dtype": array.dtype.name, "shape": list(array.shape)}
    session.show(figures, lambda: click.echo(f"{target}: {array.dtype.name} {array.shape}"))


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
        "created_at": model.info.created_at.isoformat(),
        "built_with": dict(model.built_with),
    }


def _read_config(path: Path) -> UniversalBatchedConfig:
    try:
        return UniversalBatchedConfig.from_dict(json.loads(path.read_text()))
    except OSError as error:
        raise click.ClickException(f"{path} cannot be read: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise click.ClickException(f"{path} is not JSON: {error}") from error


def _parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"parameter {text!r} is not NAME=VALUE")
    if value.endswith(".npy"):
        return name, _read_array(Path(value))
    try:
        return name, json.loads(value)
    except json.JSONDecodeError as error:
        raise click.UsageError(f"parameter {name}: {value!r} is no number, JSON list or .npy file") from error


def _read_array(path: Path) -> np.ndarray[Any, Any]:
    try:
        array = np.load(path, allow_pickle=False)
    except OSError as error:
        raise click.ClickException(f"{path} cannot be read: {os.strerror(error.errno or 0)}") from error
    except ValueError as error:
        raise click.ClickException(f"{path} is not a .npy file: {error}") from error
    if not isinstance(array, np.ndarray):
        raise click.ClickException(f"{path} holds several arrays; expected a .npy file")
    return array


def _slice(text: str) -> slice:
    start, colon, stop = text.partition(":")
    try:
        if not colon:
            raise ValueError(text)
        return slice(int(start) if start else None, int(stop) if stop else None)
    except ValueError as error:
        raise click.UsageError(f"--units {text!r} is not A:B") from error
