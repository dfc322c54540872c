"""Remote classes whose calls take no indexes."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from entropyd import Model
from entropyd.tfc.remote import RemoteCoding
from entropyd.tfc.tensors import strings_of, tensor_of


class RemoteBatchedCoding(RemoteCoding):
    """Mixed into a class of TFC that codes arrays without indexes."""

    prior_shape: Any

    def compress(self, bottleneck: Any) -> Any:
        """See base class; inside a tf.function it is a call back to Python."""
        self._check_compression()
        bottleneck = tensor_of("bottleneck", bottleneck, self.bottleneck_dtype)

        batch_shape = bottleneck.shape[: bottleneck.shape.rank - self.coding_rank]
        return self._called(
            lambda model, array: model.compress(array).strings, [bottleneck], tf.string, batch_shape
        )

    def decompress(self, strings: Any, broadcast_shape: Any) -> Any:
        """See base class; inside a tf.function it is a call back to Python."""
        self._check_compression()
        strings = strings_of(strings)
        broadcast_shape = tf.convert_to_tensor(broadcast_shape, dtype=tf.int32)

        def decompress(model: Model, strings: Any, broadcast_shape: Any) -> Any:
            return model.decompress(strings, tuple(broadcast_shape))

        static = tf.get_static_value(broadcast_shape)
        free = [None] * (self.coding_rank - self.prior_shape.rank) if static is None else list(static)
        shape = strings.shape.concatenate(free).concatenate(self.prior_shape)
        return self._called(decompress, [strings, broadcast_shape], self.bottleneck_dtype, shape)
