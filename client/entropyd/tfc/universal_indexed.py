"""TFC's UniversalIndexedEntropyModel, with the coding done by a server."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_compression as tfc
from tensorflow_compression.python.entropy_models import universal

from entropyd import Client
from entropyd.contract.errors import InvalidTensorError
from entropyd.contract.kinds.universal_indexed import UniversalIndexedConfig
from entropyd.tfc.indexed import RemoteIndexedCoding, indexed_arguments
from entropyd.tfc.remote import TablePair, config_as_it_is
from entropyd.tfc.tensors import tensor_of

# Indexes of these dtypes have the dither of the service, which TensorFlow computes in float64.
_SAME_DITHER = (tf.int32, tf.int64, tf.uint32, tf.uint64, tf.float64)


def config_of(em: tfc.UniversalIndexedEntropyModel) -> UniversalIndexedConfig:
    """The configuration of an object of TFC's class, with its tables."""
    return config_as_it_is(em, _config)


def _config(em: Any, precision: int, tables: TablePair | None) -> UniversalIndexedConfig:
    return UniversalIndexedConfig(
        num_noise_levels=em._num_noise_levels,  # noqa: SLF001 - TFC 2.14.1 has no public name for it
        decode_sanity_check=em.decode_sanity_check,
        tables=tables,
        **indexed_arguments(em, em.index_ranges_without_offsets, -1, precision),
    )


class RemoteUniversalIndexedEntropyModel(RemoteIndexedCoding, tfc.UniversalIndexedEntropyModel):  # type: ignore[misc]
    """TFC's class, whose tables a server builds and whose strings a server codes.

    See `RemoteCoding` for what happens when variables change, and for SavedModels.

    Args:
      prior_fn: As in TFC, and so are all others, defaults included. It makes a prior of a family that
        entropyd knows.
      client: Connected to the server; needed with `compression=True`.
    """

    _channel_axis = -1

    def __init__(  # noqa: PLR0917 - TFC's own order
        self,
        prior_fn: Any,
        index_ranges: Any,
        parameter_fns: Any,
        coding_rank: int,
        compression: bool = False,
        laplace_tail_mass: Any = 0.0,
        expected_grads: bool = False,
        tail_mass: float = 2**-8,
        range_coder_precision: int = 12,
        bottleneck_dtype: Any = None,
        prior_dtype: Any = tf.float32,
        stateless: bool = False,
        num_noise_levels: int = 15,
        decode_sanity_check: bool = True,
        *,
        client: Client | None = None,
    ) -> None:
        self._use(client, compression=compression)
        super().__init__(
            prior_fn,
            index_ranges,
            parameter_fns,
            coding_rank,
            compression=compression,
            laplace_tail_mass=laplace_tail_mass,
            expected_grads=expected_grads,
            tail_mass=tail_mass,
            range_coder_precision=range_coder_precision,
            bottleneck_dtype=bottleneck_dtype,
            prior_dtype=prior_dtype,
            stateless=stateless,
            num_noise_levels=num_noise_levels,
            decode_sanity_check=decode_sanity_check,
        )

    def compress(self, bottleneck: Any, indexes: Any) -> Any:
        """See base class; inside a tf.function it is a call back to Python."""
        bottleneck = tensor_of("bottleneck", bottleneck, self.bottleneck_dtype)
        indexes = tensor_of("indexes", indexes)
        return super().compress(self._moved(bottleneck, indexes, indexes.dtype, tf.int32), indexes)

    def decompress(self, strings: Any, indexes: Any) -> Any:
        """See base class; inside a tf.function it is a call back to Python."""
        indexes = tensor_of("indexes", indexes)
        return self._moved(super().decompress(strings, indexes), indexes, tf.int32, indexes.dtype)

    def _moved(self, values: Any, indexes: Any, start: Any, end: Any) -> Any:
        """Values with the same symbols under the dither that indexes of another dtype have.

        TFC computes the dither in a dtype that depends on that of the indexes, the service as for int32.

        Raises:
          InvalidTensorError: If the dtype cannot hold the noise levels.
          InvalidArgumentError: If a symbol is so large that its fraction would be lost.
        """
        if not self._has_other_dither(indexes.dtype):
            return values
        one, other = (self._dither(tf.cast(indexes, dtype)) for dtype in (start, end))
        symbols = tf.round(values - one)
        limit = 0.25 / np.finfo(self.bottleneck_dtype.as_numpy_dtype).eps
        # NaN is no large symbol: the server refuses it.
        small = tf.logical_not(tf.reduce_any(tf.abs(symbols) >= limit))
        message = f"symbols from {limit:g} on need indexes of another dtype than {indexes.dtype.name}: int32"
        with tf.control_dependencies([tf.debugging.Assert(small, [message])]):
            return symbols + other

    def _has_other_dither(self, dtype: Any) -> bool:
        levels = self._num_noise_levels
        # Nothing is rounded where they and 1 more are a power of 2; and TFC cannot code halves at all.
        exact = levels & (levels + 1) == 0 or self.bottleneck_dtype.size < 4
        if dtype in _SAME_DITHER or exact:
            return False
        counted = np.arange(levels + 2)
        if not (counted.astype(dtype.as_numpy_dtype) == counted).all():
            found = f"has dtype {dtype.name}, which cannot hold {levels} noise levels; expected int32"
            raise InvalidTensorError.at("indexes", found)
        return True

    def _dither(self, indexes: Any) -> Any:
        levels = self._num_noise_levels
        numbers = universal._add_offset_indexes(indexes, levels)[..., 0]  # noqa: SLF001 - TFC's own arithmetic
        return universal._offset_indexes_to_offset(numbers, levels, self.bottleneck_dtype)  # noqa: SLF001

    def _config_with(self, precision: int, tables: TablePair | None) -> UniversalIndexedConfig:
        return _config(self, precision, tables)
