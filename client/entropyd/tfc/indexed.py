"""Remote classes whose calls take an index for each element."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from entropyd import Model
from entropyd._distributions import prior_of
from entropyd.contract.prior import Prior
from entropyd.tfc.remote import RemoteCoding, common_arguments
from entropyd.tfc.tensors import strings_of, tensor_of


def indexed_arguments(
    em: Any, index_ranges: tuple[int, ...], channel_axis: int | None, precision: int
) -> dict[str, Any]:
    """The arguments that constructors of all indexed entropy models take, of an object."""
    return {
        "prior": prior_on_grid(em, index_ranges, channel_axis),
        "prior_dtype": em.prior_dtype.name,
        **common_arguments(em, precision),
    }


def prior_on_grid(em: Any, index_ranges: tuple[int, ...], channel_axis: int | None) -> Prior:
    """The densities at all indexes, which are those that TFC builds tables from.

    A callable is no data, so its values become the parameters.

    Args:
      em: An indexed entropy model of TFC.
      index_ranges: How many indexes there are, without a noise level.
      channel_axis: As TFC's argument.

    Raises:
      InvalidConfigError: If the prior is of a family that entropyd does not know.
    """
    # Outside of any graph, which could not read the values.
    with tf.init_scope():
        if channel_axis is None:
            grid = tf.range(index_ranges[0], dtype=tf.int32)
        else:
            axes = tf.meshgrid(*(tf.range(length, dtype=tf.int32) for length in index_ranges), indexing="ij")
            grid = tf.stack(axes, axis=channel_axis)
        prior = prior_of(em._make_prior(grid))  # noqa: SLF001 - TFC 2.14.1 has no public name for it
    same = prior.batch_shape == index_ranges
    return prior if same else Prior(prior.family, prior.parameters, index_ranges)


def element_axes(shape: Any, channel_axis: int | None) -> list[Any]:
    """The axes of the elements that indexes of a shape belong to."""
    axes = list(shape)
    if channel_axis is not None:
        del axes[channel_axis : channel_axis + 1 or None]
    return axes


class RemoteIndexedCoding(RemoteCoding):
    """Mixed into an indexed class of TFC.

    Attributes:
      _channel_axis: Axis of the indexes along which those of one element lie; None if there is no such axis.
    """

    _channel_axis: int | None

    def compress(self, bottleneck: Any, indexes: Any) -> Any:
        """See base class; inside a tf.function it is a call back to Python."""
        self._check_compression()
        bottleneck = tensor_of("bottleneck", bottleneck, self.bottleneck_dtype)
        indexes = tensor_of("indexes", indexes)

        def compress(model: Model, array: Any, indexes: Any) -> Any:
            return model.compress(array, indexes).strings

        elements = element_axes(indexes.shape, self._channel_axis)
        batch_shape = elements[: len(elements) - self.coding_rank]
        return self._called(compress, [bottleneck, indexes], tf.string, batch_shape)

    def decompress(self, strings: Any, indexes: Any) -> Any:
        """See base class; inside a tf.function it is a call back to Python."""
        self._check_compression()
        indexes = tensor_of("indexes", indexes)

        def decompress(model: Model, strings: Any, indexes: Any) -> Any:
            return model.decompress(strings, indexes)

        shape = element_axes(indexes.shape, self._channel_axis)
        return self._called(decompress, [strings_of(strings), indexes], self.bottleneck_dtype, shape)
