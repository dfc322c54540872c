"""Servers to compare with, each in a process of its own.

    python -m benchmarks.peers ADDRESS echo|floor|eager|function|location_scale FOLDER

`echo` answers Compress and Decompress with prepared bytes, the files `Compress` and `Decompress` of FOLDER,
from a `grpc.aio` server, as one writes it. `floor` does the same on entropyd's transport: what is left of it
when nothing is parsed, coded or checked. `eager` and `function` are what one writes in an hour around
TensorFlow Compression: the model of FOLDER's `config.json` behind a thread pool, each request a call of
`compress` or `decompress`, as it is or inside a tf.function that is traced once. `location_scale` is that of
`benchmarks.location_scale`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np

from benchmarks import location_scale
from entropyd import UniversalBatchedConfig
from entropyd.contract.wire import array_from_message, dtype_number, tensor_to_message
from entropyd.v1 import coding_pb2, coding_pb2_grpc, types_pb2
from entropyd_server.transport import turns
from entropyd_server.transport.core_server import CoreServer
from entropyd_server.transport.method import Method

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_SERVICE = "entropyd.v1.CodingService"
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


async def serve_echo(address: str, folder: Path) -> None:
    """Answers prepared bytes until the process is ended."""
    server = grpc.aio.server(options=UNLIMITED)
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        name: grpc.unary_unary_rpc_method_handler(echo) for name, echo in _echoes(folder).items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
    server.add_insecure_port(address)
    await server.start()
    await asyncio.Event().wait()


async def serve_floor(address: str, folder: Path) -> None:
    """Does the same on entropyd's transport."""
    server = CoreServer(UNLIMITED)
    server.add(Method(_SERVICE, name, echo) for name, echo in _echoes(folder).items())
    server.add_insecure_port(address)
    await server.start()
    await asyncio.Event().wait()


def _echoes(folder: Path) -> dict[str, Callable[[bytes, Any], Awaitable[bytes]]]:
    def echo(answer: bytes) -> Callable[[bytes, Any], Awaitable[bytes]]:
        async def handle(request: bytes, context: Any) -> bytes:
            del request, context
            return answer

        return handle

    return {name: echo((folder / name).read_bytes()) for name in ("Compress", "Decompress")}


class NaiveService(coding_pb2_grpc.CodingServiceServicer):
    """One call of TFC per request."""

    def __init__(self, config: UniversalBatchedConfig, *, function: bool) -> None:
        import tensorflow as tf  # noqa: PLC0415 - the echo server needs none
        from tests.support.tfc_models import tfc_model  # noqa: PLC0415

        self._config = config
        model = self._model = tfc_model(config)
        if function:
            any_batch = tf.TensorSpec([None] * (1 + config.coding_rank), tf.float32)
            any_shape = tf.TensorSpec([config.coding_rank - len(config.prior_shape)], tf.int32)
            self._compress = tf.function(model.compress, input_signature=[any_batch])
            self._decompress = tf.function(
                model.decompress, input_signature=[tf.TensorSpec([None], tf.string), any_shape]
            )
        else:
            self._compress, self._decompress = model.compress, model.decompress

    def Compress(self, request: coding_pb2.CompressRequest, context: Any) -> coding_pb2.CompressResponse:
        """See coding.proto."""
        del context
        _, array = array_from_message(request.bottleneck, "bottleneck")
        units = array.reshape(-1, *array.shape[array.ndim - self._config.coding_rank :])
        strings = self._compress(units).numpy().tolist()
        compressed = types_pb2.CompressedTensor(
            model_id=request.model_id,
            dtype=dtype_number("float32"),
            batch_shape=array.shape[: array.ndim - self._config.coding_rank],
            broadcast_shape=units.shape[1 : 1 + self._config.coding_rank - len(self._config.prior_shape)],
            payload=b"".join(strings),
            lengths=[len(string) for string in strings],
        )
        return coding_pb2.CompressResponse(compressed=compressed)

    def Decompress(
        self, request: coding_pb2.DecompressRequest, context: Any
    ) -> coding_pb2.DecompressResponse:
        """See coding.proto."""
        del context
        compressed = request.compressed
        ends = np.cumsum(compressed.lengths).tolist()
        starts = [0, *ends[:-1]]
        strings = [compressed.payload[start:end] for start, end in zip(starts, ends, strict=True)]
        values = self._decompress(strings, np.array(compressed.broadcast_shape, np.int32)).numpy()
        shape = (*compressed.batch_shape, *values.shape[1:])
        return coding_pb2.DecompressResponse(tensor=tensor_to_message(values.reshape(shape)))


def serve_naive(address: str, config: UniversalBatchedConfig, *, function: bool) -> None:
    """Serves TFC until the process is ended."""
    server = grpc.server(ThreadPoolExecutor(8), options=UNLIMITED)
    coding_pb2_grpc.add_CodingServiceServicer_to_server(NaiveService(config, function=function), server)
    server.add_insecure_port(address)
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    address, kind, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    match kind:
        case "echo":
            asyncio.run(serve_echo(address, folder))
        case "floor":
            turns.run(serve_floor(address, folder))
        case "location_scale":
            location_scale.serve(address)
        case _:
            config = UniversalBatchedConfig.from_dict(json.loads((folder / "config.json").read_text()))
            serve_naive(address, config, function=kind == "function")
