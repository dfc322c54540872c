"""Rates of models that a server made, and the tables that notebooks show."""

from __future__ import annotations

import numpy as np
import pytest

import entropyd
from entropyd.rates import Rates


@pytest.fixture(scope="module")
def histogram(client: entropyd.Client) -> entropyd.Model:
    """Two elements: -1, 0 and 1 with the frequencies 1/4, 1/2 and 1/8; and 5 alone with 1/2."""
    rows = [[0, 4, 12, 14, 16], [0, 8, 16]]
    return client.create_model(entropyd.TabulatedConfig(rows, [-1, 5], coding_rank=1, precision=4))


def test_rates_are_those_of_the_tables_and_of_the_histogram(histogram: entropyd.Model) -> None:
    samples = np.array([[-1, 5], [0, 5], [0, 5], [3, 5]], np.float32)
    rates = Rates.of(histogram, samples)
    first, second = rates.elements
    assert first.shares.tolist() == [0.25, 0.5, 0, 0.25]
    assert first.probabilities.tolist() == [0.25, 0.5, 0.125, 0.125]
    assert (first.entropy, first.bits_per_symbol) == (1.5, 1.75)
    assert (second.entropy, second.bits_per_symbol) == (0, 1)
    assert str(rates) == "1.375 bits per symbol, entropy of the samples 0.750 (+83.33%)"
    assert rates.plot().splitlines() == [
        *("element 0, -1 to 1", "  samples  ▄█ ", "  model    ▄█▂"),
        *("element 1, 5 to 5", "  samples  █", "  model    ▄"),
    ]
    assert "<td>1</td><td>0.000</td><td>1.000</td><td>+1.000</td>" in rates._repr_html_()


def test_samples_of_a_model_with_indexes_have_no_rates(client: entropyd.Client) -> None:
    config = entropyd.TabulatedConfig([[0, 8, 16]], [5], coding_rank=1, precision=4, row_by="index")
    with pytest.raises(entropyd.InvalidRequestError, match="has indexes"):
        Rates.of(client.create_model(config), np.zeros((3, 1), np.float32))


def test_a_notebook_shows_what_models_and_compressed_tensors_are(model: entropyd.Model) -> None:
    assert f"<td>{model.id}</td>" in model._repr_html_()
    assert "<th>prior_shape</th><td>(3,)</td>" in model._repr_html_()
    shown = model.compress(np.zeros((2, 4, 3), np.float32))._repr_html_()
    assert f"<th>model_id</th><td>{model.id}</td>" in shown
    assert "<th>coding units</th><td>2</td>" in shown
    assert "<th>bits per symbol</th>" in shown
