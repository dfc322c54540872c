"""What rows of integers cost over the probabilities that they stand for, for both ways to quantize them.

    python -m benchmarks.table_excess

Prints mean bits per symbol: the entropy, and what optimal and CompressAI's frequencies cost beyond it. Needs
no server; figures depend on nothing but the seed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import numpy as np
from scipy.special import ndtr

from entropyd import tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

# CompressAI's scale table, and how many standard deviations its rows reach to both sides.
SCALES = np.exp(np.linspace(np.log(0.11), np.log(256), 64))
REACH = 6.109


def gaussian() -> Iterator[npt.NDArray[np.float64]]:
    """Rows of CompressAI's GaussianConditional."""
    for scale in SCALES:
        half = int(np.ceil(REACH * scale))
        yield np.diff(ndtr((np.arange(-half, half + 2) - 0.5) / scale))


def random(intervals: int) -> Iterator[npt.NDArray[np.float64]]:
    """Rows drawn from a Dirichlet distribution, most of whose mass is on a third of the integers."""
    yield from np.random.default_rng(0).dirichlet(np.full(intervals, 0.3), 64)


def costs_of(pmf: npt.NDArray[np.float64], precision: int) -> list[float]:
    """Bits per symbol: the entropy of a row, its escape included, and what each way costs beyond it."""
    whole = np.append(pmf, max(0.0, 1 - pmf.sum()))
    seen = whole > 0
    costs = [-np.sum(whole[seen] * np.log2(whole[seen]))]
    for way in get_args(tables.Quantization):
        shares = np.diff(tables.from_pmf(pmf, precision, quantization=way)) / 2**precision
        costs.append(np.sum(whole[seen] * np.log2(whole[seen] / shares[seen])))
    return costs


def main() -> None:
    """Prints a line for each set of rows and each precision that has room for them."""
    print(f"{'rows':24} {'precision':>9} {'entropy':>9} {'optimal':>9} {'compressai':>10}")
    cases = {"Gaussian, 64 scales": list(gaussian())}
    cases.update({f"random, {n} integers": list(random(n)) for n in (16, 256, 4000)})
    for name, rows in cases.items():
        for precision in (12, 16):
            costs = np.array([costs_of(pmf, precision) for pmf in rows])
            entropy, optimal, compressai = costs.mean(axis=0)
            print(f"{name:24} {precision:9} {entropy:9.3f} {optimal:9.5f} {compressai:10.5f}")


if __name__ == "__main__":
    main()
