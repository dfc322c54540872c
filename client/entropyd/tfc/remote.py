"""What the remote classes share: a model on the server that has the tables of the local object.

Invariant: strings are those of the tables that the local object has at that moment, so they decode locally
and remotely alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np
import tensorflow as tf

from entropyd import Client, Model
from entropyd._distributions import prior_of
from entropyd.contract.config import ModelConfig
from entropyd.contract.dtypes import Array
from entropyd.contract.prior import Prior
from entropyd.contract.tables import RawTables
from entropyd.tfc.held_prior import HeldPrior
from entropyd.tfc.tensors import array_of_tensor, call_python

TablePair: TypeAlias = tuple[Array, Array]
_Config = TypeVar("_Config", bound=ModelConfig)


def raw_tables(tables: Sequence[Any]) -> RawTables:
    """Copies of tables, because TensorFlow may write into the arrays that it gives."""
    return RawTables(*(array_of_tensor(table).copy() for table in tables))


def precision_of(tables: RawTables) -> int:
    """The precision of tables; 0, which is refused by name, for none."""
    return int(-tables.cdf[0]) if len(tables.cdf) else 0


def config_as_it_is(em: Any, config: Callable[[Any, int, TablePair | None], _Config]) -> _Config:
    """The configuration of an object of TFC's class that has two tables, with them."""
    if not em.compression:
        return config(em, 12, None)
    tables = raw_tables([em.cdf, em.cdf_offset])
    return config(em, precision_of(tables), (tables.cdf, tables.cdf_offset))


def common_arguments(em: Any, precision: int) -> dict[str, Any]:
    """The arguments that constructors of all of TFC's continuous entropy models take, of an object."""
    same = ("coding_rank", "compression", "stateless", "expected_grads", "tail_mass")
    return {
        **{name: getattr(em, name) for name in same},
        "range_coder_precision": precision,
        "bottleneck_dtype": em.bottleneck_dtype.name,
        "laplace_tail_mass": float(em.laplace_tail_mass),
    }


class RemoteCoding(HeldPrior):
    """Mixed into a class of TFC: a server builds the tables and codes.

    Variables may change as in TFC's class, by training, a restored checkpoint, Keras's `load_weights`,
    `set_weights` or `assign`. Each call looks at the tables: where they are not those that the server has, it
    registers a model that has them first.

    A function that calls `compress` or `decompress` cannot be part of a SavedModel, since it calls this
    process: `tf.saved_model.save` raises a RuntimeError. docs/tfc-api.md says what to save instead.
    """

    # TFC's class has these and more.
    prior: Any
    cdf: Any
    cdf_offset: Any
    coding_rank: int
    compression: bool
    stateless: bool
    bottleneck_dtype: Any
    _check_compression: Callable[[], None]

    def _use(self, client: Client | None, *, compression: bool) -> None:
        """To be called before TFC's constructor, which builds tables."""
        if compression and client is None:
            raise ValueError("with compression=True a client is needed")
        self._client = client
        self._registered: tuple[Model, tuple[Any, ...]] | None = None  # with the tables that it has
        self._in_a_graph = False

    def _config_with(self, precision: int, tables: TablePair | None) -> ModelConfig:
        """The configuration of this object, where its class has two tables; None: the server builds them."""
        raise NotImplementedError

    def _config(self, tables: RawTables) -> ModelConfig:
        """The configuration of this object, with tables that it has now."""
        return self._config_with(precision_of(tables), (tables.cdf, tables.cdf_offset))

    def _config_to_build(self, precision: int) -> ModelConfig:
        """The configuration of this object, for which the server builds tables."""
        return self._config_with(precision, None)

    def _tables(self) -> list[Any]:
        """The tables as tensors: the fields of RawTables that there are, in order."""
        return [self.cdf, self.cdf_offset]

    def get_config(self) -> dict[str, Any]:
        """The configuration as a JSON-serialisable dictionary; TFC's class does not implement it.

        Raises:
          RuntimeError: With `compression=False` or `stateless=True`.
        """
        if self.stateless or not self.compression:
            raise RuntimeError("a model with compression=False or stateless=True has no config to serialise")
        return self.remote.get_config()

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
        """The model on the server that has these tables: that of the last call, or a new one."""
        if self._registered is not None:
            model, known = self._registered
            if len(tables) == len(known) and all(map(np.array_equal, known, tables)):
                return model
        return self._register(tables)

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
        self._registered = model, tables
        return model

    def _build_tables(self, prior: Any, precision: int, offset: Any = None) -> tuple[Any, Any]:
        """Called by TFC's constructor to build tables."""
        del prior, offset
        model = self._create(self._config_to_build(int(precision)), None)
        return tf.constant(model.cdf), tf.constant(model.cdf_offset)

    def _called(self, function: Callable[..., Any], inputs: list[Any], dtype: Any, shape: Any) -> Any:
        """Calls Python with the model of the present tables: now, or, in a graph, whenever the graph runs.

        The tables are inputs, so that a graph reads them where it calls, before or after its own assignments.
        """
        tables = self._tables()

        def called(*arrays: Any) -> list[Any]:
            return [function(self._model_with(arrays[: len(tables)]), *arrays[len(tables) :])]

        self._in_a_graph = self._in_a_graph or not tf.executing_eagerly()
        (result,) = call_python(called, [*tables, *inputs], [tf.TensorSpec(shape, dtype)])
        return result

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
