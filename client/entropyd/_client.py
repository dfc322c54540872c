"""The blocking client.

Owns the public classes `Client` and `Model`. It must not know how messages are built (`_calls`) or what a
gRPC failure means (`_channel`).
"""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np

from entropyd import _calls, _channel
from entropyd.contract.wire import array_from_message, config_to_message
from entropyd.v1 import (
    coding_pb2_grpc,
    info_pb2,
    info_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    import numpy.typing as npt
    from typing_extensions import Self

    from entropyd._calls import ModelInfo, ServerInfo
    from entropyd.archive import CompressedTensor
    from entropyd.contract.config import UniversalBatchedConfig
    from entropyd.contract.prior import Prior

# A message above this is worth a look at the server's limits before it is sent.
_UNCHECKED_BYTES = 1024 * 1024


class Client:
    """A connection to an entropyd server. Thread-safe; close it, or use it in a `with` statement.

    Args:
      target: `HOST:PORT`, `unix:PATH`, or another gRPC target.
      credentials: Channel credentials for TLS; None for plain text.
      token: Bearer token to send with every call.
      timeout_s: Longest time for a call, in seconds, where the call names none.

    Every call raises the errors of `entropyd.EntropydError`'s tree, UnavailableError where no server answers,
    and DeadlineExceededError past its time.
    """

    def __init__(
        self,
        target: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        token: str | None = None,
        timeout_s: float = 60.0,
    ) -> None:
        self._channel = (
            grpc.insecure_channel(target, _channel.OPTIONS)
            if credentials is None
            else grpc.secure_channel(target, credentials, _channel.OPTIONS)
        )
        self._token = token
        self._timeout_s = timeout_s
        self._coding = coding_pb2_grpc.CodingServiceStub(self._channel)
        self._models = model_pb2_grpc.ModelServiceStub(self._channel)
        self._info = info_pb2_grpc.InfoServiceStub(self._channel)
        self._server_info: ServerInfo | None = None
        self._server_info_lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; calls in flight end with CancelledError."""
        self._channel.close()

    def server_info(self) -> ServerInfo:
        """Version, roles, devices and limits of the server; asked for once."""
        with self._server_info_lock:
            if self._server_info is None:
                reply = self._call(self._info.GetServerInfo, info_pb2.GetServerInfoRequest())
                self._server_info = _calls.server_info(reply)
            return self._server_info

    def create_model(self, config: UniversalBatchedConfig, *, timeout_s: float = 600.0) -> Model:
        """Makes the model of a configuration, or finds it.

        Building tables takes seconds, minutes for thousands of channels. A build goes on when its caller
        leaves, so calling again after DeadlineExceededError finds the model.

        Raises:
          InvalidConfigError: If no tables can be built from it; names the field.
          LimitExceededError: If its tables exceed a limit of the server.
        """
        request = model_pb2.CreateModelRequest(config=config_to_message(config))
        reply = self._call(self._models.CreateModel, request, config.model_id, timeout_s)
        return Model(self, _calls.model_info(reply.model))

    def model(self, model_id: str) -> Model:
        """The model of an id.

        Raises:
          ModelNotFoundError: If the server has none.
          DataLossError: If the stored model is damaged.
        """
        reply = self._call(self._models.GetModel, model_pb2.GetModelRequest(model_id=model_id), model_id)
        return Model(self, _calls.model_info(reply.model))

    def models(self) -> Iterator[Model]:
        """All models in order of their ids, read page by page; damaged ones are left out."""
        page_token = ""
        while True:
            reply = self._call(self._models.ListModels, model_pb2.ListModelsRequest(page_token=page_token))
            for message in reply.models:
                yield Model(self, _calls.model_info(message))
            page_token = reply.next_page_token
            if not page_token:
                return

    def delete_model(self, model_id: str) -> None:
        """Removes a model. What was compressed with it can then no longer be decoded by this server.

        Raises:
          ModelNotFoundError: If the server has none.
        """
        request = model_pb2.DeleteModelRequest(model_id=model_id)
        self._call(self._models.DeleteModel, request, model_id)

    def compress(self, model: ModelInfo, bottleneck: Any, timeout_s: float | None = None) -> CompressedTensor:
        """See Model.compress."""
        request = _calls.compress_request(model, bottleneck)
        reply = self._call(self._coding.Compress, request, model.id, timeout_s)
        return _calls.compressed_tensor(reply)

    def decompress(
        self,
        model: ModelInfo,
        source: Any,
        broadcast_shape: Sequence[int] | None = None,
        timeout_s: float | None = None,
    ) -> npt.NDArray[Any]:
        """See Model.decompress."""
        request = _calls.decompress_request(model, source, broadcast_shape)
        reply = self._call(self._coding.Decompress, request, model.id, timeout_s)
        return _calls.restored_array(reply)

    def tables(self, model_id: str) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """The coding tables of a model: see Model.cdf and Model.cdf_offset."""
        reply = self._call(self._models.GetTables, model_pb2.GetTablesRequest(model_id=model_id), model_id)
        return (
            array_from_message(reply.tables.cdf, "tables.cdf")[1],
            array_from_message(reply.tables.cdf_offset, "tables.cdf_offset")[1],
        )

    def _call(
        self, method: Any, request: Any, model_id: str | None = None, timeout_s: float | None = None
    ) -> Any:
        if request.ByteSize() > _UNCHECKED_BYTES:
            _calls.check_size(request, self.server_info())
        try:
            return method(
                request,
                timeout=self._timeout_s if timeout_s is None else timeout_s,
                metadata=_channel.metadata(self._token, model_id),
            )
        except grpc.RpcError as failure:
            raise _channel.to_error(failure) from None


class Model:
    """A stored entropy model, with the attributes and methods of TFC's UniversalBatchedEntropyModel.

    Made by `Client.create_model` and `Client.model`. It never changes.
    """

    name = "universal_batched_entropy_model"

    def __init__(self, client: Client, info: ModelInfo) -> None:
        self._client = client
        self.info = info

    def __repr__(self) -> str:
        config = self.config
        return (
            f"<entropyd.Model {self.id[:12]} {config.prior.family} prior_shape={self.prior_shape} "
            f"coding_rank={self.coding_rank}>"
        )

    def compress(self, bottleneck: Any, *, timeout_s: float | None = None) -> CompressedTensor:
        """Compresses an array; each coding unit becomes one bit string.

        Args:
          bottleneck: Batch axes, then coding_rank axes that end in prior_shape (an axis of length 1 there is
            repeated); of bottleneck_dtype, or nested lists of numbers.
          timeout_s: Longest time for the call, in seconds.

        Returns:
          The bit strings, in `.strings`, and what is needed to decode them.

        Raises:
          InvalidTensorError: For NaN, infinities, values too far outside their row, wrong rank, shape or
            dtype; names the element.
          ModelStateError: If the model was made without compression.
          LimitExceededError: If the array exceeds a limit of the server.
        """
        return self._client.compress(self.info, bottleneck, timeout_s)

    def decompress(
        self,
        strings: CompressedTensor | npt.ArrayLike,
        broadcast_shape: Sequence[int] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> npt.NDArray[Any]:
        """Restores an array from its bit strings.

        Args:
          strings: A CompressedTensor; or, as in TFC, `bytes` or an array of them shaped like the batch.
          broadcast_shape: With bare strings, the axes between the batch and prior_shape.
          timeout_s: Longest time for the call, in seconds.

        Returns:
          Array of bottleneck_dtype and shape batch + broadcast_shape + prior_shape; read-only.

        Raises:
          CorruptStringError: If units cannot be decoded; `.units` names them, `.partial` has the others.
          TablesMismatchError: If the strings were made with other tables than the server has.
          InvalidRequestError: If the arguments do not fit together or to the model.
          LimitExceededError: If the array would exceed a limit of the server.
        """
        return self._client.decompress(self.info, strings, broadcast_shape, timeout_s)

    def get_config(self) -> dict[str, Any]:
        """The configuration as a JSON-serialisable dictionary; see UniversalBatchedConfig.from_dict.

        Raises:
          RuntimeError: As TFC's class does, with compression=False or stateless=True.
        """
        if not self.compression or self.stateless:
            raise RuntimeError("a model with compression=False or stateless=True has no config to serialise")
        return self.config.to_dict()

    @property
    def id(self) -> str:
        """Config hash: SHA-256 of the canonical configuration, in hex."""
        return self.info.id

    @property
    def config(self) -> UniversalBatchedConfig:
        """The configuration, every default filled in."""
        return self.info.config

    @property
    def tables_digest(self) -> bytes:
        """SHA-256 of the coding tables, 32 bytes; empty without compression."""
        return self.info.tables_digest

    @property
    def built_with(self) -> Mapping[str, str]:
        """Versions of the libraries that built the tables."""
        return self.info.built_with

    @property
    def prior(self) -> Prior:
        """Prior distribution, used for deriving the coding tables."""
        return self.config.prior

    @property
    def prior_shape(self) -> tuple[int, ...]:
        """Batch shape of the prior: dimensions that are not assumed i.i.d."""
        return self.config.prior_shape

    @property
    def prior_shape_tensor(self) -> npt.NDArray[np.int32]:
        """prior_shape as an int32 vector."""
        return np.array(self.prior_shape, np.int32)

    @property
    def coding_rank(self) -> int:
        """Number of innermost dimensions that make one coding unit."""
        return self.config.coding_rank

    @property
    def bottleneck_dtype(self) -> np.dtype[Any]:
        """Data type of the bottleneck."""
        return _calls.numpy_dtype(self.config.bottleneck_dtype)

    @property
    def compression(self) -> bool:
        """Whether the model has coding tables."""
        return self.config.compression

    @property
    def expected_grads(self) -> bool:
        """Whether gradients with respect to the noise are analytical expectations."""
        return self.config.expected_grads

    @property
    def laplace_tail_mass(self) -> float:
        """Weight of the Laplace mixture in bit costs."""
        return self.config.laplace_tail_mass

    @property
    def range_coder_precision(self) -> int:
        """Rows of the coding tables rise to 2^precision."""
        return self.config.range_coder_precision

    @property
    def tail_mass(self) -> float:
        """Approximate probability left to the escape."""
        return self.config.tail_mass

    @property
    def num_noise_levels(self) -> int:
        """Number of levels of the discretised dither."""
        return self.config.num_noise_levels

    @property
    def stateless(self) -> bool:
        """TFC's flag for tables that are not variables."""
        return self.config.stateless

    @property
    def decode_sanity_check(self) -> bool:
        """Whether decoding checks the decoder's state at the end of each bit string."""
        return self.config.decode_sanity_check

    @property
    def cdf(self) -> npt.NDArray[np.int32]:
        """The quantized CDFs: rows of `-precision, 0, ..., 2^precision`, one after the other.

        Raises:
          ModelStateError: If the model was made without compression.
        """
        return self._tables[0]

    @property
    def cdf_offset(self) -> npt.NDArray[np.int32]:
        """The smallest integer that each row covers.

        Raises:
          ModelStateError: If the model was made without compression.
        """
        return self._tables[1]

    @cached_property
    def _tables(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        return self._client.tables(self.id)
