"""TFC's LocationScaleIndexedEntropyModel, with the coding done by a server."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_compression as tfc

from entropyd import Client
from entropyd.contract.kinds.location_scale_indexed import LocationScaleIndexedConfig
from entropyd.tfc.indexed import RemoteIndexedCoding, indexed_arguments
from entropyd.tfc.remote import TablePair, config_as_it_is


def config_of(em: tfc.LocationScaleIndexedEntropyModel) -> LocationScaleIndexedConfig:
    """The configuration of an object of TFC's class, with its tables."""
    return config_as_it_is(em, _config)


def _config(em: Any, precision: int, tables: TablePair | None) -> LocationScaleIndexedConfig:
    return LocationScaleIndexedConfig(
        tables=tables, **indexed_arguments(em, em.index_ranges, em.channel_axis, precision)
    )


class RemoteLocationScaleIndexedEntropyModel(RemoteIndexedCoding, tfc.LocationScaleIndexedEntropyModel):  # type: ignore[misc]
    """TFC's class, whose tables a server builds and whose strings a server codes; `loc` stays here.

    See `RemoteCoding` for what happens when variables change, and for SavedModels.

    Args:
      prior_fn: As in TFC, and so are all others, defaults included. It makes a prior of a family that
        entropyd knows.
      client: Connected to the server; needed with `compression=True`.
    """

    def __init__(  # noqa: PLR0917 - TFC's own order
        self,
        prior_fn: Any,
        num_scales: int,
        scale_fn: Any,
        coding_rank: int,
        compression: bool = False,
        stateless: bool = False,
        expected_grads: bool = False,
        tail_mass: float = 2**-8,
        range_coder_precision: int = 12,
        bottleneck_dtype: Any = None,
        prior_dtype: Any = tf.float32,
        laplace_tail_mass: Any = 0,
        *,
        client: Client | None = None,
    ) -> None:
        self._use(client, compression=compression)
        super().__init__(
            prior_fn,
            num_scales,
            scale_fn,
            coding_rank,
            compression=compression,
            stateless=stateless,
            expected_grads=expected_grads,
            tail_mass=tail_mass,
            range_coder_precision=range_coder_precision,
            bottleneck_dtype=bottleneck_dtype,
            prior_dtype=prior_dtype,
            laplace_tail_mass=laplace_tail_mass,
        )

    def compress(self, bottleneck: Any, scale_indexes: Any, loc: Any = None) -> Any:
        """See base class; inside a tf.function it is a call back to Python."""
        return super().compress(bottleneck if loc is None else _difference(bottleneck, loc), scale_indexes)

    def decompress(self, strings: Any, scale_indexes: Any, loc: Any = None) -> Any:
        """See base class; inside a tf.function it is a call back to Python."""
        values = super().decompress(strings, scale_indexes)
        return values if loc is None else values + loc

    def _config_with(self, precision: int, tables: TablePair | None) -> LocationScaleIndexedConfig:
        return _config(self, precision, tables)


def _difference(bottleneck: Any, loc: Any) -> Any:
    """The difference in the dtype that TFC's `bottleneck -= loc` gives it, but not in the caller's array."""
    difference = bottleneck - loc
    if isinstance(bottleneck, np.ndarray) and not tf.is_tensor(difference):
        kept = np.can_cast(difference.dtype, bottleneck.dtype, "same_kind")
        return difference.astype(bottleneck.dtype) if kept else difference
    return difference
