"""What the remote classes share: they keep a model on the server for the tables that the object has.

Invariant: strings are those of the tables that the local object has at that moment, so they decode locally
and remotely alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from entropyd._distributions import prior_of
from entropyd.contract.arrays import bit_strings_of, read_array
from entropyd.contract.errors import InvalidTensorError
from entropyd.contract.tables import RawTables

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from entropyd import Client, Model
    from entropyd.contract.config import ModelConfig
    from entropyd.contract.prior import Prior


@dataclass(frozen=True)
class _Registered:
    """A model on the server, and the tables that it has, as the object shows them."""

    model: Model
    tables: tuple[Any, ...]

    def has(self, tables: Sequence[Any]) -> bool:
        return len(tables) == len(self.tables) and all(map(np.array_equal, self.tables, tables))


def array_of_tensor(value: Any) -> Any:
    """The array of a tensor; NumPy alone cannot read a bfloat16 one without axes."""
    narrow = tf.is_tensor(value) and value.dtype == tf.bfloat16
    return np.asarray(value.numpy() if narrow else value)


def raw_tables(tables: Sequence[Any]) -> RawTables:
    """Copies of tables, because TensorFlow owns the memory of what it gives, and may write into it later."""
    return RawTables(*(array_of_tensor(table).copy() for table in tables))


def precision_of(tables: RawTables) -> int:
    """The precision of tables; 0, which is refused by name, for none."""
    return int(-tables.cdf[0]) if len(tables.cdf) else 0


class RemoteCoding:
    """Mixed into a class of TFC: a server builds the tables and codes.

    Variables may change as in TFC's class, by training, a restored checkpoint, Keras's `load_weights`,
    `set_weights` or `assign`. Each call looks at the tables: where they are not those that the server has, it
    registers a model that has them first.

    A function that calls `compress` or `decompress` cannot be part of a SavedModel, since it calls this
    process: `tf.saved_model.save` raises a RuntimeError. docs/tfc-api.md says what to save instead.
    """

    # TFC's class has these and more.
    prior: Any
    prior_shape: Any
    coding_rank: int
    bottleneck_dtype: Any
    _check_compression: Callable[[], None]

    def _use(self, client: Client | None, *, compression: bool) -> None:
        """To be called before TFC's constructor, which builds tables."""
        if compression and client is None:
            raise ValueError("with compression=True a client is needed")
        self._client = client
        self._registered: _Registered | None = None
        self._in_a_graph = False

    def _config(self, tables: RawTables) -> ModelConfig:
        """The configuration of this object, with tables that it has now."""
        raise NotImplementedError

    def _config_to_build(self, precision: int) -> ModelConfig:
        """The configuration of this object, for which the server builds tables."""
        raise NotImplementedError

    def _tables(self) -> list[Any]:
        """The tables as tensors: the fields of RawTables that there are, in order."""
        raise NotImplementedError

    @property
    def remote(self) -> Model:
        """The model on the server that has the variables of this object, the prior's among them.

        Raises:
          RuntimeError: With `compression=False`, as there is none.
          InvalidConfigError: If the variables are no tables of this prior.
        """
        self._check_compression()
        tables = list(map(array_of_tensor, self._tables()))
        model = self._model_with(tables)
        # Training moves the prior and leaves the tables, so coding alone needs no new model then.
        return model if model.config.prior == self._prior_now() else self._register(tables)

    def _prior_now(self) -> Prior | None:
        return prior_of(self.prior)

    def _model_with(self, tables: Sequence[Any]) -> Model:
        """The model on the server that has these tables; it is made if it is not the one of the last call."""
        known = self._registered
        return known.model if known is not None and known.has(tables) else self._register(tables)

    def _register(self, tables: Sequence[Any]) -> Model:
        raw = raw_tables(tables)
        return self._create(self._config(raw), tuple(raw.by_name().values()))

    def _create(self, config: ModelConfig, tables: tuple[Any, ...] | None) -> Model:
        if self._client is None:
            raise AssertionError("the constructor asks for a client")
        model = self._client.create_model(config)
        if tables is None:
            shown = (model.cdf, model.cdf_offset, model.quantization_offset)
            tables = tuple(table for table in shown if table is not None)
        self._registered = _Registered(model, tables)
        return model

    def _build_tables(self, prior: Any, precision: int, offset: Any = None) -> tuple[Any, Any]:
        """Where TFC's constructor builds tables: see base class."""
        del prior, offset
        model = self._create(self._config_to_build(int(precision)), None)
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
        tables = self._tables()

        def called(*arrays: Any) -> Any:
            return function(self._model_with(arrays[: len(tables)]), *arrays[len(tables) :])

        inputs = [*tables, *inputs]
        if tf.executing_eagerly():
            return tf.constant(np.asarray(called(*map(array_of_tensor, inputs))), dtype)
        self._in_a_graph = True
        return tf.ensure_shape(tf.numpy_function(called, inputs, dtype), shape)

    def _export_to_saved_model_graph(self, *arguments: Any, **named: Any) -> Any:
        """Called by TensorFlow 2.14 for each object of a SavedModel, once all of its functions are traced."""
        if self._in_a_graph:
            raise RuntimeError(
                "compress and decompress of this entropy model call a server from this process, so functions "
                "that use them cannot be part of a SavedModel. Save its weights (tf.train.Checkpoint, or "
                "save_weights) and load them into an object made with client= where they are needed. Or put "
                "in its place an object of TFC's own class with the same arguments and weights (by "
                "set_weights): it codes locally, into the same strings"
            )
        return super()._export_to_saved_model_graph(*arguments, **named)  # type: ignore[misc]


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
