"""CompressAI's entropy models, with the coding done by a server.

Invariant: strings and restored values are those of CompressAI's own modules with the same tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from compressai.entropy_models import EntropyBottleneck, EntropyModel, GaussianConditional

from entropyd import Client, Model
from entropyd.compressai.scale_lookup import ScaleLookup
from entropyd.compressai.tables import config_of, tables_of, without_tables
from entropyd.compressai.tensors import rows_to_send, sent_dtype, tensor_of_array, values_to_send


class RemoteEntropyModel(EntropyModel):  # type: ignore[misc]
    """Stands between CompressAI's base class and its modules, and codes in its place.

    Each call looks at the tables: where they are not those that the server has, as after `update` or
    `load_state_dict`, it registers a model that has them first.
    """

    _client: Client
    # Copies of tables, and the models that have them by the dtype that is sent.
    _registered: tuple[tuple[torch.Tensor, ...], dict[torch.dtype, Model]] | None

    def use(self, client: Client) -> None:
        """Codes with the server of another client from now on."""
        self._client = client
        self._registered = None

    @property
    def remote(self) -> Model:
        """The model on the server that codes float32 tensors with the tables of this module.

        Raises:
          InvalidConfigError: If the tables are none for CompressAI's rANS coder.
          ModelStateError: If the module was not updated.
        """
        return self._model(torch.float32)

    def compress(
        self, inputs: torch.Tensor, indexes: torch.Tensor, means: torch.Tensor | None = None
    ) -> list[bytes]:
        """Compresses a batch with one call to the server.

        Args:
          inputs: [N, C, ...].
          indexes: Of the shape of the inputs, the row of each element.
          means: What is subtracted from the inputs, or None; broadcast to them.

        Returns:
          A bit string for each of N.

        Raises:
          InvalidTensorError: For NaN, infinities, numbers out of range, indexes without a row; names the
            element.
          ModelStateError: If the module was not updated.
          ValueError: If inputs and indexes do not fit together.
        """
        if inputs.dim() < 2:
            raise ValueError(f"inputs have shape {tuple(inputs.shape)}; expected at least 2 axes")
        if inputs.shape != indexes.shape:
            raise ValueError(f"inputs have shape {tuple(inputs.shape)}, indexes {tuple(indexes.shape)}")
        model = self._model(sent_dtype(inputs.dtype))
        rows = rows_to_send(indexes, model.config.table_rows)
        strings: list[bytes] = model.compress(values_to_send(inputs, means), rows).strings.tolist()
        return strings

    def decompress(
        self,
        strings: Sequence[bytes],
        indexes: torch.Tensor,
        dtype: torch.dtype = torch.float,
        means: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Restores a batch with one call to the server.

        Args:
          strings: A bit string for each of N, in a list or tuple.
          indexes: [N, C, ...], those of `compress`.
          dtype: Of the result, where there are no means.
          means: What is added to the symbols, or None: of the shape of the indexes, or with axes of length 1
            after the second. The result has their dtype and device.

        Raises:
          CorruptStringError: If strings cannot be decoded; names them.
          InvalidTensorError: For indexes without a row; names the element.
          ModelStateError: If the module was not updated.
          ValueError: If strings, indexes and means do not fit together.
        """
        if not isinstance(strings, (tuple, list)):
            raise ValueError(f"strings are a {type(strings).__name__}; expected a list")  # noqa: TRY004 - as theirs
        if indexes.dim() < 2:
            raise ValueError(f"indexes have shape {tuple(indexes.shape)}; expected at least 2 axes")
        if len(strings) != len(indexes):
            raise ValueError(f"there are {len(strings)} strings, and indexes for {len(indexes)}")
        if means is not None and not _fit(means, indexes):
            raise ValueError(f"means have shape {tuple(means.shape)}, indexes {tuple(indexes.shape)}")
        model = self._model(sent_dtype(dtype if means is None else means.dtype))
        rows = rows_to_send(indexes, model.config.table_rows)
        restored = model.decompress(list(strings), rows)
        symbols = tensor_of_array(restored, indexes.shape, self._quantized_cdf.device)
        return self.dequantize(symbols, means, dtype)

    def _model(self, dtype: torch.dtype) -> Model:
        """The model with the present tables to which arrays of some dtype are sent."""
        tables = tables_of(self)
        registered = self._registered
        if registered is None or not all(map(_same, registered[0], tables)):
            registered = self._registered = tuple(table.clone() for table in tables), {}
        models = registered[1]
        if dtype not in models:
            name = str(dtype).removeprefix("torch.")
            models[dtype] = self._client.create_model(config_of(self, name))
        return models[dtype]


class RemoteEntropyBottleneck(EntropyBottleneck, RemoteEntropyModel):  # type: ignore[misc]
    """CompressAI's EntropyBottleneck, whose `compress` and `decompress` are calls to a server.

    Args:
      channels: As of EntropyBottleneck, and so are all others.
      client: Connected to the server.
    """

    def __init__(self, channels: int, *arguments: Any, client: Client, **named: Any) -> None:
        super().__init__(channels, *arguments, **named)
        self.use(client)

    def compress(self, x: torch.Tensor) -> list[bytes]:  # type: ignore[override]
        """See base class; errors as of RemoteEntropyModel."""
        strings: list[bytes] = EntropyBottleneck.compress(self, x)
        return strings

    def decompress(  # type: ignore[override]
        self, strings: Sequence[bytes], size: Sequence[int]
    ) -> torch.Tensor:
        """See base class; errors as of RemoteEntropyModel."""
        tables_of(self)  # by whose rows the base class counts the channels
        return EntropyBottleneck.decompress(self, strings, size)


class RemoteGaussianConditional(GaussianConditional, RemoteEntropyModel):  # type: ignore[misc]
    """CompressAI's GaussianConditional, whose `compress` and `decompress` are calls to a server.

    Args:
      scale_table: As of GaussianConditional, and so are all others.
      client: Connected to the server.
    """

    _lookup: ScaleLookup | None = None

    def __init__(self, scale_table: Any, *arguments: Any, client: Client, **named: Any) -> None:
        super().__init__(scale_table, *arguments, **named)
        self.use(client)

    def build_indexes(self, scales: torch.Tensor) -> torch.Tensor:
        """The indexes of the base class, int32 of the shape of the scales, in a fraction of its time.

        Raises:
          ModelStateError: If there is no table of scales yet.
        """
        if not self.scale_table.numel():
            raise without_tables(self)
        if self._lookup is None or not _same(self._lookup.table, self.scale_table):
            self._lookup = ScaleLookup(self.scale_table)
        return self._lookup.rows(self.lower_bound_scale(scales).detach())


def _fit(means: torch.Tensor, indexes: torch.Tensor) -> bool:
    """Whether means are those of elements with indexes, as CompressAI allows it."""
    if means.shape == indexes.shape:
        return True
    spatial = means.shape[2:]
    return (
        means.dim() == indexes.dim() and means.shape[:2] == indexes.shape[:2] and all(n == 1 for n in spatial)
    )


def _same(known: torch.Tensor, table: torch.Tensor) -> bool:
    placed_alike = known.device == table.device and known.dtype == table.dtype
    return placed_alike and bool(torch.equal(known, table))
