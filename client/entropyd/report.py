"""A picture of a fitted model: histogram of samples against density, and a table of rates.

The density is that of the model's integer tables, at the noise level nearest to offset 0. Needs matplotlib.
"""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from entropyd import Model
from entropyd.contract.errors import InvalidRequestError

_MOST_PANELS = 12
_FORMATS = (".html", ".png")
_COLUMNS = ("element", "samples' bits", "model's bits", "excess")


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

    def draw(self, model: Model, rows: npt.NDArray[Any]) -> bytes:
        """The content of the file: a model with compression against `rows` [rows, *prior_shape], finite."""
        offset = model.quantization_offset
        quantized = rows if offset is None else rows - offset
        columns = quantized.reshape(len(rows), -1).astype(np.float64)
        rates = [
            _rate(_histogram(column, *_row(model, element)), _row(model, element)[1])
            for element, column in enumerate(columns.T)
        ]
        picture = self._picture(model, columns)
        return picture if self._format == ".png" else _page(model, picture, rates).encode()

    def _picture(self, model: Model, columns: npt.NDArray[Any]) -> bytes:
        from matplotlib import pyplot as plt  # noqa: PLC0415

        panels = min(columns.shape[1], _MOST_PANELS)
        across = min(panels, 3)
        down = -(-panels // across)
        figure, axes = plt.subplots(down, across, figsize=(4 * across, 3 * down), squeeze=False)
        for element, axis in enumerate(axes.flat):
            if element >= panels:
                axis.axis("off")
                continue
            first, probabilities = _row(model, element)
            integers = first + np.arange(len(probabilities) - 1)
            axis.bar(integers, _histogram(columns[:, element], first, probabilities)[:-1], label="samples")
            axis.step(integers, probabilities[:-1], where="mid", color="black", label="model")
            axis.set_title(f"element {element}")
            axis.set_yscale("log")
        axes.flat[0].legend()
        figure.tight_layout()
        target = io.BytesIO()
        figure.savefig(target, format="png", dpi=110)
        plt.close(figure)
        return target.getvalue()


def _row(model: Model, element: int) -> tuple[int, npt.NDArray[np.float64]]:
    """The first integer of a row, and the probabilities from it on; the last is the escape's."""
    size = max(int(np.prod(model.prior_shape)), 1)
    levels = len(model.cdf_offset) // size
    row = levels // 2 * size + element
    begins = np.append(np.flatnonzero(model.cdf < 0), len(model.cdf))
    values = model.cdf[begins[row] + 1 : begins[row + 1]]
    return int(model.cdf_offset[row]), np.diff(values) / 2.0**model.range_coder_precision


def _histogram(
    column: npt.NDArray[np.float64], first: int, probabilities: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Shares of the rounded samples over the same integers; others count as escapes."""
    escape = len(probabilities) - 1
    # Rounded as at the middle noise level: noise would blur the histogram.
    places = np.round(column).astype(np.int64) - first
    places = np.where((places < 0) | (places > escape), escape, places)
    return np.bincount(places, minlength=escape + 1) / len(column)


def _rate(shares: npt.NDArray[np.float64], probabilities: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Bits per sample: the entropy of the shares, and the model's cost."""
    used = shares > 0
    entropy = -float(np.sum(shares[used] * np.log2(shares[used])))
    return entropy, -float(np.sum(shares[used] * np.log2(probabilities[used])))


def _page(model: Model, picture: bytes, rates: list[tuple[float, float]]) -> str:
    cells = [
        f"<tr><td>{element}</td><td>{entropy:.3f}</td><td>{paid:.3f}</td><td>{paid - entropy:+.3f}</td></tr>"
        for element, (entropy, paid) in enumerate(rates)
    ]
    header = "".join(f"<th>{html.escape(column)}</th>" for column in _COLUMNS)
    image = base64.b64encode(picture).decode("ascii")
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Fit</title>
<style>body {{font-family: sans-serif; margin: 2em}} td, th {{padding: .2em 1em; text-align: right}}</style>
<h1>{html.escape(model.prior.family)}</h1>
<p>Model <code>{model.id}</code>, prior_shape {model.prior_shape}.</p>
<p>Rounded samples, and the model's table at its middle noise level; bits per element.</p>
<img alt="Histograms of samples against the model" src="data:image/png;base64,{image}">
<table><tr>{header}</tr>{"".join(cells)}</table></html>
"""
