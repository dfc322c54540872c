"""Rows in CompressAI's way are the integers of its own extension, which needs no torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from entropyd import tables
from tests.support import compressai_extensions

ROWS = 3000


@pytest.fixture(scope="module")
def pmf_to_quantized_cdf() -> Any:
    try:
        return compressai_extensions.load("_CXX").pmf_to_quantized_cdf
    except compressai_extensions.UnavailableError as error:
        pytest.skip(f"CompressAI's extension is not to be had: {error}")


def test_rows_are_equal_integer_for_integer(pmf_to_quantized_cdf: Any) -> None:
    rng = np.random.default_rng(0)
    stolen = 0
    for number in range(ROWS):
        precision = int(rng.choice([8, 10, 12, 16]))
        symbols = int(min(rng.integers(1, 401), 1 << precision))
        shares = rng.dirichlet(np.full(symbols, 10 ** rng.uniform(-2.5, 1)))
        if number % 3 == 0:  # tiny ones, which take from others
            shares *= 10.0 ** -rng.integers(0, 12, symbols)
            shares /= shares.sum()
        if number % 5 == 0:
            shares = shares.astype(np.float32).astype(np.float64)
        if number % 7 == 0:
            shares = np.full(symbols, 1 / symbols)
        *pmf, escape = shares.tolist()
        row = tables.from_pmf(pmf, precision, escape=escape, quantization="compressai")
        assert row.tolist() == pmf_to_quantized_cdf([*pmf, escape], precision)
        stolen += int(np.any(np.rint(shares * 2.0**precision) < 1))
    assert stolen > ROWS / 3
