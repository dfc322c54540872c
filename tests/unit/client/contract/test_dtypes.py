"""Laws of the narrow dtypes."""

from __future__ import annotations

import numpy as np
import pytest

from entropyd.contract.dtypes import are_finite, element_dtype, narrowed, widened

BITS = np.arange(2**16, dtype=np.uint16)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
@pytest.mark.parametrize("shape", [(), (1,), (2, 0), (256, 256)])
def test_elements_of_any_shape_are_widened_and_narrowed_without_loss(
    name: str, shape: tuple[int, ...]
) -> None:
    elements = np.resize(BITS, shape).view(element_dtype(name))
    finite = are_finite(elements, name)
    wide = widened(elements, name)
    assert wide.dtype == np.float32
    assert np.shape(finite) == wide.shape == shape
    np.testing.assert_array_equal(np.isfinite(wide), finite)
    again = np.where(finite, narrowed(wide, name), elements)
    np.testing.assert_array_equal(again, elements)
