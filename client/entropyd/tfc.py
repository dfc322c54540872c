"""For users of TensorFlow Compression: their own class, with the coding done by a server.

Owns the drop-in class and the registration of trained models. It must not know messages or channels.
Invariant: strings are those of the tables that the local object shows, so they decode locally and remotely
alike.

Needs tensorflow-compression 2.14; no other module of the client imports TensorFlow. Training runs where the
variables live: only `compress`, `decompress` and the building of tables are calls to the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
import tensorflow_compression as tfc

from entropyd._distributions import prior_of
from entropyd.contract.arrays import bit_strings_of, read_array
from entropyd.contract.config import UniversalBatchedConfig
from entropyd.contract.errors import InvalidTensorError, Violation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from entropyd import Client, Model

__all__ = ["RemoteUniversalBatchedEntropyModel", "prior_of", "register"]


def register(client: Client, em: tfc.UniversalBatchedEntropyModel) -> Model:
    """Registers a model of TFC with its exact tables and weights.

    Strings that it made decode remotely, and the other way round.

    Args:
      client: Connected to the server.
      em: Trained or not; with `compression=False` the remote model only estimates bit costs.

    Raises:
      InvalidConfigError: If the prior is of a family that entropyd does not know.
      RuntimeError: If the object has no prior any more.
    """
    tables = (em.cdf.numpy(), em.cdf_offset.numpy()) if em.compression else None
    precision = int(em.range_coder_precision) if em.compression else 12
    return client.create_model(_config(em, precision, tables))


def _config(em: Any, precision: int, tables: tuple[Any, Any] | None) -> UniversalBatchedConfig:
    return UniversalBatchedConfig(
        prior=prior_of(em.prior),
        coding_rank=em.coding_rank,
        compression=em.compression,
        laplace_tail_mass=float(em.laplace_tail_mass),
        expected_grads=em.expected_grads,
        tail_mass=em.tail_mass,
        range_coder_precision=precision,
        bottleneck_dtype=em.bottleneck_dtype.name,
        num_noise_levels=em._num_noise_levels,  # noqa: SLF001 - TFC 2.14.1 has no public name for it
        stateless=em.stateless,
        decode_sanity_check=em.decode_sanity_check,
        tables=tables,
    )


class RemoteUniversalBatchedEntropyModel(tfc.UniversalBatchedEntropyModel):  # type: ignore[misc]
    """TFC's class, whose tables a server builds and whose strings a server codes.

    Args:
      prior: As in TFC, of a family that entropyd knows.
      coding_rank: As in TFC, and so are all others, defaults included.
      client: Connected to the server; needed with `compression=True`.
    """

    def __init__(  # noqa: PLR0917 - TFC's own order
        self,
        prior: Any,
        coding_rank: int,
        compression: bool = False,
        laplace_tail_mass: Any = 0.0,
        expected_grads: bool = False,
        tail_mass: float = 2**-8,
        range_coder_precision: int = 12,
        bottleneck_dtype: Any = None,
        num_noise_levels: int = 15,
        stateless: bool = False,
        decode_sanity_check: bool = True,
        *,
        client: Client | None = None,
    ) -> None:
        if compression and client is None:
            raise ValueError("with compression=True a client is needed")
        self._client = client
        self._remote: Model | None = None
        super().__init__(
            prior,
            coding_rank,
            compression=compression,
            laplace_tail_mass=laplace_tail_mass,
            expected_grads=expected_grads,
            tail_mass=tail_mass,
            range_coder_precision=range_coder_precision,
            bottleneck_dtype=bottleneck_dtype,
            num_noise_levels=num_noise_levels,
            stateless=stateless,
            decode_sanity_check=decode_sanity_check,
        )

    @property
    def remote(self) -> Model:
        """The model on the server.

        Raises:
          RuntimeError: With `compression=False`, as there is none.
        """
        self._check_compression()
        if self._remote is None:
            raise RuntimeError("this entropy model was not registered")
        return self._remote

    def _build_tables(self, prior: Any, precision: int, offset: Any = None) -> tuple[Any, Any]:
        """Where TFC's constructor builds tables: see base class."""
        del prior, offset
        if self._client is not None:
            self._remote = self._client.create_model(_config(self, int(precision), None))
        return tf.constant(self.remote.cdf), tf.constant(self.remote.cdf_offset)

    def compress(self, bottleneck: Any) -> Any:
        """See base class; inside a tf.function it is a call back to Python."""
        remote = self.remote
        bottleneck = _tensor(bottleneck, self.bottleneck_dtype)

        def compress(array: Any) -> Any:
            return remote.compress(array).strings

        batch_shape = bottleneck.shape[: bottleneck.shape.rank - self.coding_rank]
        return _called(compress, [bottleneck], tf.string, batch_shape)

    def decompress(self, strings: Any, broadcast_shape: Any) -> Any:
        """See base class; inside a tf.function it is a call back to Python."""
        remote = self.remote
        if not _holds_tensors(strings):
            bit_strings_of("strings", strings)
        strings = tf.convert_to_tensor(strings, dtype=tf.string)
        broadcast_shape = tf.convert_to_tensor(broadcast_shape, dtype=tf.int32)

        def decompress(strings: Any, broadcast_shape: Any) -> Any:
            return remote.decompress(strings, tuple(broadcast_shape))

        static = tf.get_static_value(broadcast_shape)
        free = [None] * (self.coding_rank - self.prior_shape.rank) if static is None else list(static)
        shape = strings.shape.concatenate(free).concatenate(self.prior_shape)
        return _called(decompress, [strings, broadcast_shape], self.bottleneck_dtype, shape)

    def get_config(self) -> dict[str, Any]:
        """The configuration as a JSON-serialisable dictionary; TFC's class does not implement it.

        Raises:
          RuntimeError: With `compression=False` or `stateless=True`.
        """
        if self.stateless or not self.compression:
            raise RuntimeError("a model with compression=False or stateless=True has no config to serialise")
        return self.remote.get_config()

    def set_weights(self, weights: Sequence[Any]) -> None:
        """See base class; the server then codes with the model that has these weights."""
        super().set_weights(weights)
        if self._client is not None and self.compression:
            self._remote = register(self._client, self)


def _tensor(bottleneck: Any, dtype: Any) -> Any:
    """A bottleneck as TFC converts it: real numbers of any dtype, but nothing that would lose a part.

    Raises:
      InvalidTensorError: For what `Model.compress` refuses whatever its dtype, and for strings and complex
        numbers.
    """
    if not _holds_tensors(bottleneck):
        array, _ = read_array("bottleneck", bottleneck)
        if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
            found = f"has dtype {array.dtype}; expected {dtype.name}"
            raise InvalidTensorError.of([Violation("bottleneck", found)])
    return tf.convert_to_tensor(bottleneck, dtype=dtype)


def _holds_tensors(value: Any) -> bool:
    """Whether a value is or holds tensors, which only TensorFlow can read while it builds a graph."""
    if isinstance(value, (list, tuple)):
        return any(map(_holds_tensors, value))
    return bool(tf.is_tensor(value))


def _called(function: Callable[..., Any], inputs: list[Any], dtype: Any, shape: Any) -> Any:
    """Calls Python now, or, in a graph, whenever the graph runs."""
    if not tf.executing_eagerly():
        return tf.ensure_shape(tf.numpy_function(function, inputs, dtype), shape)
    return tf.constant(np.asarray(function(*(value.numpy() for value in inputs))), dtype)
