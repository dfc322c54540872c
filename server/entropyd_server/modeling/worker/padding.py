"""How many units to pad a batch with, so that a unit's result does not depend on the other units.

Invariant: with this padding, TensorFlow computes every unit by the same machine instructions, whatever the
number of units.

TensorFlow's CPU kernels process an array in packets of a few elements and the rest one element at a time,
with other approximations of exp, log and tanh; and they sum a single row in another order than several.
Measured with TensorFlow 2.14 without padding: up to half of the results of a small unit differ in their last
bits from those of the same unit alone.
"""

from __future__ import annotations

from math import gcd

# A multiple of every kernel's step: four packets of 16 float32.
_STEP_ELEMENTS = 64
# From here on a unit is computed alone: joining saves little, and a second row would double the work.
LONE_UNIT_ELEMENTS = 2**16


def padding_units(units: int, unit_elements: int) -> int:
    """Number of units to add.

    Args:
      units: Number of units, at least 1.
      unit_elements: Elements of each, at most LONE_UNIT_ELEMENTS.
    """
    multiple = max(_STEP_ELEMENTS // gcd(_STEP_ELEMENTS, max(unit_elements, 1)), 2)
    return -units % multiple
