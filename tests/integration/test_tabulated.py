"""Models that are tables alone, end to end: their strings are those of other kinds with the same tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import entropyd
from entropyd.contract.dtypes import BOTTLENECK_DTYPES, numpy_dtype

# Rows of 1 to 40 intervals and the escape, and one of the escape alone.
WIDTHS = (1, 2, 7, 40, 0, 3)
OFFSET = np.array([0.25, -0.5, 0.0, 100.0, 3.0, -1.25])


def rows(precision: int = 12) -> list[list[int]]:
    inner = np.random.default_rng(0)
    return [
        [0, *sorted(1 + inner.choice((1 << precision) - 1, width, replace=False)), 1 << precision]
        for width in WIDTHS
    ]


def config(**arguments: Any) -> entropyd.TabulatedConfig:
    offsets = [-(width // 2) for width in WIDTHS]
    given = {"rows": rows(), "offsets": offsets, "coding_rank": 1, "precision": 12, **arguments}
    return entropyd.TabulatedConfig(**given)


def bottleneck(dtype: str = "float32") -> npt.NDArray[Any]:
    """[4, 5, 6], some of it escapes."""
    values = np.random.default_rng(1).laplace(0, 4, (4, 5, 6))
    values[0, 0] = -700
    return values.astype(numpy_dtype(dtype))


def indexes() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(2).integers(0, len(WIDTHS), (4, 5, 6), np.uint8)


@pytest.mark.parametrize("dtype", BOTTLENECK_DTYPES)
@pytest.mark.parametrize("offset", [None, OFFSET, 0.3])
def test_rows_by_position_give_the_strings_of_a_continuous_batched_model(
    client: entropyd.Client, dtype: str, offset: Any
) -> None:
    shared = {"bottleneck_dtype": dtype, "quantization_offset": offset}
    tabulated = config(**shared)
    batched = entropyd.ContinuousBatchedConfig(
        coding_rank=1,
        prior_shape=(6,),
        cdf=tabulated.cdf,
        cdf_offset=tabulated.cdf_offset,
        offset_heuristic=False,
        **shared,
    )
    model, other, x = client.create_model(tabulated), client.create_model(batched), bottleneck(dtype)
    compressed = model.compress(x)
    assert compressed.strings.tolist() == other.compress(x).strings.tolist()
    assert np.array_equal(model.decompress(compressed), other.decompress(other.compress(x)))


@pytest.mark.parametrize("dtype", BOTTLENECK_DTYPES)
@pytest.mark.parametrize("offset", [None, OFFSET])
def test_rows_by_index_give_the_strings_of_rows_by_position(
    client: entropyd.Client, dtype: str, offset: Any
) -> None:
    shared = {"bottleneck_dtype": dtype, "quantization_offset": offset}
    by_index = client.create_model(config(row_by="index", **shared))
    by_position, x = client.create_model(config(**shared)), bottleneck(dtype)
    compressed = by_index.compress(x, np.broadcast_to(np.arange(6), x.shape))
    assert compressed.strings.tolist() == by_position.compress(x).strings.tolist()
    i = indexes()
    restored = by_index.decompress(by_index.compress(x, i), i)
    assert restored.dtype == x.dtype
    if dtype in {"float32", "float64"}:
        offsets = 0 if offset is None else OFFSET.astype(dtype)[i]
        assert np.array_equal(restored, np.rint(x - offsets) + offsets)


def test_several_indexes_of_an_element_lie_along_the_last_axis(client: entropyd.Client) -> None:
    one = client.create_model(config(row_by="index"))
    two = client.create_model(config(row_by="index", row_shape=(2, 3)))
    i, x = indexes(), bottleneck()
    both = np.stack(np.divmod(i, 3), axis=-1)
    compressed = two.compress(x, both)
    assert compressed.strings.tolist() == one.compress(x, i).strings.tolist()
    assert np.array_equal(two.decompress(compressed, both), np.rint(x))
