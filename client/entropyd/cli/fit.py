"""`entropyd fit`: makes a model from samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import Progress

from entropyd import FitProgress, UniversalBatchedConfig
from entropyd._arrays import check_finite
from entropyd.cli.arrays import read_array
from entropyd.cli.paths import FILE, force_option, open_output
from entropyd.cli.session import Session
from entropyd.cli.values import name_option
from entropyd.fitting import FITTED_FAMILIES, starting_prior
from entropyd.rates import Rates
from entropyd.report import FitReport


@click.command()
@click.option(
    "--prior",
    "family",
    type=click.Choice(list(FITTED_FAMILIES)),
    show_default="one that suits the samples, see docs/priors.md",
    help="Family of the prior.",
)
@click.option(
    "--prior-rank",
    default=1,
    type=click.IntRange(min=0),
    help="Number of innermost axes whose elements have a density each.",
)
@click.option("--coding-rank", type=int, required=True, help="Number of innermost axes of a coding unit.")
@click.option(
    "--max-steps",
    default=0,
    type=click.IntRange(min=0),
    help="Most optimiser steps; 0 for the server's default.",
)
@click.option("--validation-share", default=0.1, help="Share of samples held out.")
@click.option("--laplace-tail-mass", default=0.0, help="Weight of a Laplace mixture in bit costs.")
@click.option("--tail-mass", default=2**-8, help="Probability left to the escape.")
@click.option(
    "--report", type=FILE, help="File for a picture of the fit, .html or .png; needs entropyd[report]."
)
@name_option
@click.option("--plot", is_flag=True, help="Draw samples against model with characters.")
@force_option
@click.argument("samples", nargs=-1, required=True, type=FILE)
@click.pass_obj
def fit(
    session: Session,
    /,
    *,
    family: str | None,
    prior_rank: int,
    max_steps: int,
    validation_share: float,
    report: Path | None,
    name: str | None,
    plot: bool,
    force: bool,
    samples: tuple[Path, ...],
    **arguments: Any,
) -> None:
    """Fit a prior to SAMPLES (.npy files, or - for standard input) and make the model. Prints its id.

    What was learned goes to standard error: the bits per symbol that the model spends on the samples, against
    their entropy.

    \b
    Examples:
      entropyd fit --coding-rank 3 latents.npy --plot
      entropyd fit --coding-rank 3 latents.npy --report fit.html
      entropyd fit --coding-rank 1 --prior NoisyNormal --name sensors-v1 monday.npy tuesday.npy
    """
    try:
        drawn = None if report is None else FitReport(report)
    except ImportError as error:
        raise click.ClickException(str(error)) from error
    with nullcontext() if report is None else open_output(report, sources=samples, force=force) as target:
        rows = _rows(samples, prior_rank)
        config = UniversalBatchedConfig(
            prior=starting_prior(rows, family, prior_rank),
            expected_grads=True,
            bottleneck_dtype=rows.dtype,
            **arguments,
        )
        limit = {} if session.timeout_s is None else {"timeout_s": session.timeout_s}
        states: list[FitProgress] = []
        with _progress(states) as progress:
            model = session.build(
                lambda client: client.fit_model(
                    config,
                    rows,
                    max_steps=max_steps,
                    validation_share=validation_share,
                    progress=progress,
                    name=name,
                    **limit,
                )
            )
        rates = Rates.of(model, rows)
        if drawn is not None and target is not None:
            target.write(drawn.draw(model, rates))
    if plot:
        click.echo(rates.plot(), err=True)
    if not session.as_json:
        learned = f"{model.prior.family} in {states[-1].step:,} steps: {rates}"
        click.echo(learned, err=True)
    figures = {
        "model_id": model.id,
        "steps": states[-1].step,
        "bits_per_element": states[-1].bits_per_element,
        "bits_per_symbol": rates.bits_per_symbol,
        "entropy": rates.entropy,
        "report": None if report is None else str(report),
    }
    session.tell(figures, model.id)


def _rows(samples: tuple[Path, ...], prior_rank: int) -> npt.NDArray[Any]:
    """The samples of all files, [rows, *prior_shape]."""
    arrays = [read_array(path) for path in samples]
    for path, array in zip(samples, arrays, strict=True):
        if array.dtype.kind == "f":
            check_finite(array, str(path))
    if len({array.shape[array.ndim - prior_rank :] for array in arrays}) > 1:
        raise click.UsageError("the files differ in their innermost axes")
    shape = arrays[0].shape[arrays[0].ndim - prior_rank :]
    rows = [array.reshape(-1, *shape) for array in arrays]
    return rows[0] if len(rows) == 1 else np.concatenate(rows)


@contextmanager
def _progress(states: list[FitProgress]) -> Iterator[Callable[[FitProgress], None]]:
    """A progress bar on a terminal; gives a function that takes the states of a fit and appends them."""
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("fitting")

        def progress(state: FitProgress) -> None:
            states.append(state)
            share = state.remaining_seconds / max(states[0].remaining_seconds, state.remaining_seconds, 1e-9)
            text = f"{state.bits_per_element:.3f} bits per element, {state.remaining_seconds:.0f} s at most"
            bar.update(task, completed=100 * (1 - share), description=text)

        yield progress
