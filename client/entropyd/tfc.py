"""TensorFlow Compression's own class, with the coding done by a server.

Invariant: strings are those of the tables that the local object has at that moment (`cdf`, `cdf_offset`), so
they decode locally and remotely alike.

Needs tensorflow-compression 2.14; no other module of the client imports TensorFlow. Training runs where the
variables live: only `compress`, `decompress` and the building of tables are calls to the server.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
import tensorflow_compression as tfc

from entropyd._distributions import prior_of
from entropyd.contract.arrays import bit_strings_of, read_array
from entropyd.contract.errors import InvalidTensorError
from entropyd.contract.kinds.universal_batched import UniversalBatchedConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

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


@dataclass(frozen=True)
class _Registered:
    """A model on the server, and the tables that it has: int32, flat, as in `cdf` and `cdf_offset`."""

    model: Model
    cdf: npt.NDArray[np.int32]
    cdf_offset: npt.NDArray[np.int32]

    def has(self, cdf: npt.NDArray[np.int32], cdf_offset: npt.NDArray[np.int32]) -> bool:
        return np.array_equal(self.cdf, cdf) and np.array_equal(self.cdf_offset, cdf_offset)


class RemoteUniversalBatchedEntropyModel(tfc.UniversalBatchedEntropyModel):  # type: ignore[misc]
    """TFC's class, whose tables a server builds and whose strings a server codes.

    Variables may change as in TFC's class, by training, a restored checkpoint, Keras's `load_weights`,
    `set_weights` or `assign`. Each call looks at the tables: where they are not those that the server has, it
    registers a model that has them first.

    A function that calls `compress` or `decompress` cannot be part of a SavedModel, since it calls this
    process: `tf.saved_model.save` raises a RuntimeError. docs/tfc-api.md says what to save instead.

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
        self._registered: _Registered | None = None
        self._in_a_graph = False
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
        """The model on the server that has the variables of this object, the prior's among them.

        Raises:
          RuntimeError: With `compression=False`, as there is none.
          InvalidConfigError: If the variables are no tables of this prior.
        """
        self._check_compression()
        cdf, cdf_offset = np.asarray(self.cdf), np.asarray(self.cdf_offset)
        model = self._model_with(cdf, cdf_offset)
        # Training moves the prior and leaves the tables, so coding alone needs no new model then.
        return model if model.prior == prior_of(self.prior) else self._register(cdf, cdf_offset)

    def _model_with(self, cdf: npt.NDArray[np.int32], cdf_offset: npt.NDArray[np.int32]) -> Model:
        """The model on the server that has these tables; it is made if it is not the one of the last call."""
        known = self._registered
        if known is not None and known.has(cdf, cdf_offset):
            return known.model
        return self._register(cdf, cdf_offset)

    def _register(self, cdf: npt.NDArray[np.int32], cdf_offset: npt.NDArray[np.int32]) -> Model:
        # Copies, because TensorFlow owns the memory of what it gives, and may write into it later.
        tables = cdf.copy(), cdf_offset.copy()
        precision = int(-cdf[0]) if len(cdf) else 0  # 0 is refused by name
        return self._create(_config(self, precision, tables), tables)

    def _create(self, config: UniversalBatchedConfig, tables: tuple[Any, Any] | None) -> Model:
        if self._client is None:
            raise AssertionError("the constructor asks for a client")
        model = self._client.create_model(config)
        self._registered = _Registered(model, *(tables or (model.cdf, model.cdf_offset)))
        return model

    def _build_tables(self, prior: Any, precision: int, offset: Any = None) -> tuple[Any, Any]:
        """Where TFC's constructor builds tables: see base class."""
        del prior, offset
        model = self._create(_config(self, int(precision), None), None)
        return tf.constant(model.cdf), tf.constant(model.cdf_offset)

    def compress(self, bottleneck: Any) -> Any:
        """See base class; inside a tf.function it is a call back to Python."""
        self._check_compression()
        bottleneck = _tensor(bottleneck, self.bottleneck_dtype)

        def compress(model: Model, array: Any) -> Any:
            return model.compress(array).strings

        batch_shape = bottleneck.shape[: bottleneck.shape.rank - self.coding_rank]
        return self._called(compress, [bottleneck], tf.string, batch_shape)

    def decompress(self, strings: Any, broadcast_shape: Any) -> Any:
        """See base class; inside a tf.function it is a call back to Python."""
        self._check_compression()
        if not _holds_tensors(strings):
            bit_strings_of("strings", strings)
        strings = tf.convert_to_tensor(strings, dtype=tf.string)
        broadcast_shape = tf.convert_to_tensor(broadcast_shape, dtype=tf.int32)

        def decompress(model: Model, strings: Any, broadcast_shape: Any) -> Any:
            return model.decompress(strings, tuple(broadcast_shape))

        static = tf.get_static_value(broadcast_shape)
        free = [None] * (self.coding_rank - self.prior_shape.rank) if static is None else list(static)
        shape = strings.shape.concatenate(free).concatenate(self.prior_shape)
        return self._called(decompress, [strings, broadcast_shape], self.bottleneck_dtype, shape)

    def _called(self, function: Callable[..., Any], inputs: list[Any], dtype: Any, shape: Any) -> Any:
        """Calls Python with the model of today's tables: now, or, in a graph, whenever the graph runs.

        The tables are inputs, so that a graph reads them where it calls, before or after its own assignments.
        """

        def called(cdf: Any, cdf_offset: Any, *arrays: Any) -> Any:
            return function(self._model_with(cdf, cdf_offset), *arrays)

        inputs = [self.cdf, self.cdf_offset, *inputs]
        if tf.executing_eagerly():
            return tf.constant(np.asarray(called(*(np.asarray(value) for value in inputs))), dtype)
        self._in_a_graph = True
        return tf.ensure_shape(tf.numpy_function(called, inputs, dtype), shape)

    def get_config(self) -> dict[str, Any]:
        """The configuration as a JSON-serialisable dictionary; TFC's class does not implement it.

        Raises:
          RuntimeError: With `compression=False` or `stateless=True`.
        """
        if self.stateless or not self.compression:
            raise RuntimeError("a model with compression=False or stateless=True has no config to serialise")
        return self.remote.get_config()

    def _export_to_saved_model_graph(self, *arguments: Any, **named: Any) -> Any:
        """Called by TensorFlow 2.14 for each object of a SavedModel, once all of its functions are traced."""
        if self._in_a_graph:
            raise RuntimeError(
                "compress and decompress of this entropy model call a server from this process, so functions "
                "that use them cannot be part of a SavedModel. Save its weights (tf.train.Checkpoint, or "
                "save_weights) and load them into an object made with client= where they are needed. Or put "
                "in its place a tfc.UniversalBatchedEntropyModel with the same arguments and weights (by "
                "set_weights): it codes locally, into the same strings"
            )
        return super()._export_to_saved_model_graph(*arguments, **named)


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
            raise InvalidTensorError.at("bottleneck", found)
    return tf.convert_to_tensor(bottleneck, dtype=dtype)


def _holds_tensors(value: Any) -> bool:
    """Whether a value is or holds tensors, which only TensorFlow can read while it builds a graph."""
    if isinstance(value, (list, tuple)):
        return any(map(_holds_tensors, value))
    return bool(tf.is_tensor(value))
