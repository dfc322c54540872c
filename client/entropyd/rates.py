"""What a model costs on samples, against their entropy.

Rates are those of the model's integer tables, at the noise level nearest to offset 0: the rate of rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from entropyd import Model
from entropyd._html import table
from entropyd.contract.errors import InvalidRequestError

__all__ = ["ElementRate", "Rates"]

Floats = npt.NDArray[np.float64]
# Of `Rates.rows`.
COLUMNS = ("element", "samples' bits", "model's bits", "excess")
_MOST_ROWS = 12
_BARS = " ▁▂▃▄▅▆▇█"
_MOST_BARS = 60


@dataclass(frozen=True, eq=False)
class ElementRate:
    """One element of prior_shape.

    Attributes:
      first: The smallest integer of its row.
      shares: float64 [integers + 1], how many of the rounded samples are each integer of the row; last, none.
      probabilities: float64 [integers + 1], the model's; last, the escape's.
    """

    first: int
    shares: Floats
    probabilities: Floats

    @property
    def entropy(self) -> float:
        """Bits per symbol of the samples' own histogram, which no model of single symbols goes below."""
        return _bits(self.shares, self.shares)

    @property
    def bits_per_symbol(self) -> float:
        """Bits per symbol that the model spends; of an escaped symbol, those of the escape alone."""
        return _bits(self.shares, self.probabilities)


@dataclass(frozen=True, eq=False)
class Rates:
    """What a model costs on samples.

    Attributes:
      elements: One for each element of prior_shape, in row-major order.
    """

    elements: tuple[ElementRate, ...]

    @classmethod
    def of(cls, model: Model, samples: npt.NDArray[Any]) -> Rates:
        """Compares samples with a model.

        Args:
          model: Of a batched kind, with compression.
          samples: Any leading axes, then prior_shape; finite.

        Raises:
          InvalidRequestError: If the model has indexes.
          ModelStateError: If it was made without compression.
        """
        if model.index_ranges is not None:
            raise InvalidRequestError.at("model", "has indexes; expected a model of a batched kind")
        offset = model.quantization_offset
        quantized = (samples if offset is None else samples - offset).astype(np.float64)
        size = max(int(np.prod(model.prior_shape)), 1)
        columns = np.round(quantized).astype(np.int64).reshape(-1, size).T
        begins = np.append(np.flatnonzero(model.cdf < 0), len(model.cdf))
        rows = len(model.cdf_offset) // size // 2 * size + np.arange(size)  # of the middle noise level
        scale = 2.0**model.range_coder_precision
        return cls(
            tuple(
                _rate(
                    column,
                    int(model.cdf_offset[row]),
                    np.diff(model.cdf[begins[row] + 1 : begins[row + 1]]) / scale,
                )
                for column, row in zip(columns, rows, strict=True)
            )
        )

    @property
    def entropy(self) -> float:
        """Mean of the elements' entropies, in bits per symbol."""
        return float(np.mean([element.entropy for element in self.elements]))

    @property
    def bits_per_symbol(self) -> float:
        """Mean of what the model spends on the elements."""
        return float(np.mean([element.bits_per_symbol for element in self.elements]))

    def __str__(self) -> str:
        more = f" ({self.bits_per_symbol / self.entropy - 1:+.2%})" if self.entropy else ""
        return f"{self.bits_per_symbol:.3f} bits per symbol, entropy of the samples {self.entropy:.3f}{more}"

    def rows(self) -> list[tuple[str, ...]]:
        """A row of text for each element, in the order of `COLUMNS`."""
        return [
            (str(number), f"{rate.entropy:.3f}", f"{rate.bits_per_symbol:.3f}", f"{_excess(rate):+.3f}")
            for number, rate in enumerate(self.elements)
        ]

    def _repr_html_(self) -> str:
        rows = self.rows()
        left_out = len(rows) - _MOST_ROWS
        rest = [(f"and {left_out} more", "", "", "")] if left_out > 0 else []
        mean = ("mean", f"{self.entropy:.3f}", f"{self.bits_per_symbol:.3f}", f"{_excess(self):+.3f}")
        return table(COLUMNS, [*rows[:_MOST_ROWS], *rest, mean])

    def plot(self) -> str:
        """Histograms of samples and model as text, for each of the first elements."""
        return "\n".join(_plot(number, rate) for number, rate in enumerate(self.elements[:_MOST_ROWS]))


def _rate(column: npt.NDArray[np.int64], first: int, probabilities: Floats) -> ElementRate:
    escape = len(probabilities) - 1
    places = np.where((column < first) | (column >= first + escape), escape, column - first)
    return ElementRate(first, np.bincount(places, minlength=escape + 1) / len(column), probabilities)


def _bits(shares: Floats, probabilities: Floats) -> float:
    used = shares > 0
    return -float(np.sum(shares[used] * np.log2(probabilities[used]))) + 0.0


def _excess(rate: ElementRate | Rates) -> float:
    return rate.bits_per_symbol - rate.entropy


def _plot(number: int, rate: ElementRate) -> str:
    """Two rows of bars over the same integers, as high as their shares."""
    integers = len(rate.shares) - 1
    step = max(-(-integers // _MOST_BARS), 1)
    starts = np.arange(0, integers, step)
    drawn = [np.add.reduceat(shares[:-1], starts) for shares in (rate.shares, rate.probabilities)]
    most = max(float(np.max(drawn, initial=0)), 1e-12)
    samples, model = (
        "".join(_BARS[round(share / most * (len(_BARS) - 1))] for share in shares) for shares in drawn
    )
    last = rate.first + integers - 1
    return f"element {number}, {rate.first} to {last}\n  samples  {samples}\n  model    {model}"
