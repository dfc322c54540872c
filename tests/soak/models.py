"""Models of every kind, wire and coder, and arrays to code with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ml_dtypes import finfo

import entropyd
from entropyd import priors
from entropyd.contract.dtypes import numpy_dtype
from tests.support.indexed_models import indexed_config

if TYPE_CHECKING:
    import random

    from entropyd.contract.config import ModelConfig

LENGTHS = (1, 30, 400, 6000)
_UNITS = 8
_ROWS = ([0, 9000, 50000, 65535, 65536], [0, 30000, 65536], [0, 65536])
_ROW_OFFSETS = (-1, 4, 0)


@dataclass(frozen=True)
class Inputs:
    """What a call takes: the array, and beside it the indexes and the location of models that have them.

    Attributes:
      x: [units, *unit], of the model's bottleneck_dtype.
      beside: Indexes and location, as keyword arguments.
    """

    x: Any
    beside: dict[str, Any]

    def __getitem__(self, units: slice) -> Inputs:
        return Inputs(self.x[units], {name: value[units] for name, value in self.beside.items()})

    def check_restored(self, restored: Any) -> None:
        """Raises AssertionError unless an array is this one, but for the rounding of its elements.

        Besides quantization, `x - offset` and `symbol + offset` are rounded in the array's own dtype:
        bfloat16 makes -15.6875 of -16.25 with offset 0.3.
        """
        x, loc = (np.asarray(each, np.float64) for each in (self.x, self.beside.get("loc", 0.0)))
        assert restored.shape == x.shape, (restored.shape, x.shape)
        allowed = 0.5 + float(finfo(self.x.dtype).eps) * (1 + np.abs(x) + np.abs(loc))
        wrong = np.abs(restored.astype(np.float64) - x) > allowed
        assert not wrong.any(), (x[wrong], restored[wrong], restored.dtype)


def configs() -> list[ModelConfig]:
    """A configuration of every kind, of every dtype, and of both coders; those with a prior come first.

    Their coding_rank is 2. Tables are built only for those of which a few suffice.
    """
    laplace = [
        entropyd.UniversalBatchedConfig(
            prior=priors.NoisyLaplace(loc=0.0, scale=np.linspace(0.5, 4, channels)),
            coding_rank=2,
            bottleneck_dtype=dtype,
            num_noise_levels=3,
        )
        for channels, dtype in ((16, "float32"), (4, "float64"), (7, "float16"))
    ]
    normal = priors.NoisyNormal(loc=[0.0, 0.3], scale=[1.0, 2.0])
    return [
        *laplace,
        entropyd.ContinuousBatchedConfig(prior=normal, coding_rank=2, bottleneck_dtype="bfloat16"),
        indexed_config("continuous_indexed", (3, 4)),
        indexed_config("location_scale_indexed", (8,)),
        indexed_config("universal_indexed", (5,)),
        entropyd.PowerLawConfig(2),
        entropyd.TabulatedConfig(_ROWS, _ROW_OFFSETS, 2, quantization_offset=0.25),
        entropyd.TabulatedConfig(_ROWS, _ROW_OFFSETS, 2, coder="rans64"),
        entropyd.TabulatedConfig(_ROWS, _ROW_OFFSETS, 2, coder="rans64", row_by="index"),
    ]


def inputs(config: Any, chance: random.Random) -> Inputs:
    """Some coding units for a model of `configs`, short or long."""
    rng = np.random.default_rng(chance.randrange(2**32))
    axes = config.unit_axes if config.index_ranges is None else (4,)
    shape = (chance.randint(1, _UNITS), chance.choice(LENGTHS), *(axes or (4,)))
    x = rng.normal(0, 3, shape).astype(numpy_dtype(config.bottleneck_dtype))
    beside: dict[str, Any] = {}
    if config.index_ranges is not None:
        channels = [rng.integers(0, count, shape, np.int32) for count in config.index_ranges]
        stacked = config.channel_axis is not None
        beside["indexes"] = np.stack(channels, -1) if stacked else channels[0]
    if config.kind == "location_scale_indexed":
        beside["loc"] = rng.normal(0, 3, shape).astype(x.dtype)
    return Inputs(x, beside)
