"""A picture of a fitted model: histogram of samples against density, and a table of rates.

Needs matplotlib.
"""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path

import numpy as np

from entropyd import Model
from entropyd._html import table
from entropyd.contract.errors import InvalidRequestError
from entropyd.rates import COLUMNS, Rates

_MOST_PANELS = 12
_FORMATS = (".html", ".png")


class FitReport:
    """Draws a report.

    Args:
      path: The file that it is for, whose name tells the format.

    Raises:
      InvalidRequestError: If the name ends in neither .html nor .png, or there is no such folder.
      ImportError: Without matplotlib.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix not in _FORMATS:
            found = f"is {path.name}; expected a name that ends in {' or '.join(_FORMATS)}"
            raise InvalidRequestError.at("report", found)
        if not path.parent.is_dir():
            found = f"would be in {path.parent}, which is no folder"
            raise InvalidRequestError.at("report", found)
        try:
            import matplotlib as mpl  # noqa: PLC0415 - an optional dependency
        except ImportError as error:
            raise ImportError("a report needs matplotlib: pip install 'entropyd[report]'") from error
        mpl.use("Agg")
        self._format = path.suffix

    def draw(self, model: Model, rates: Rates) -> bytes:
        """The content of the file: what a model costs on the samples that it was fitted to."""
        picture = _picture(rates)
        return picture if self._format == ".png" else _page(model, picture, rates).encode()


def _picture(rates: Rates) -> bytes:
    from matplotlib import pyplot as plt  # noqa: PLC0415

    panels = min(len(rates.elements), _MOST_PANELS)
    across = min(panels, 3)
    down = -(-panels // across)
    figure, axes = plt.subplots(down, across, figsize=(4 * across, 3 * down), squeeze=False)
    for element, axis in enumerate(axes.flat):
        if element >= panels:
            axis.axis("off")
            continue
        rate = rates.elements[element]
        integers = rate.first + np.arange(len(rate.shares) - 1)
        axis.bar(integers, rate.shares[:-1], label="samples")
        axis.step(integers, rate.probabilities[:-1], where="mid", color="black", label="model")
        axis.set_title(f"element {element}")
        axis.set_yscale("log")
    axes.flat[0].legend()
    figure.tight_layout()
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=110)
    plt.close(figure)
    return target.getvalue()


def _page(model: Model, picture: bytes, rates: Rates) -> str:
    image = base64.b64encode(picture).decode("ascii")
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Fit</title>
<style>body {{font-family: sans-serif; margin: 2em}} td, th {{padding: .2em 1em; text-align: right}}</style>
<h1>{html.escape(model.prior.family)}</h1>
<p>Model <code>{model.id}</code>, prior_shape {model.prior_shape}: {html.escape(str(rates))}.</p>
<p>Rounded samples, and the model's table at its middle noise level; bits per element.</p>
<img alt="Histograms of samples against the model" src="data:image/png;base64,{image}">
{table(COLUMNS, rates.rows())}</html>
"""
