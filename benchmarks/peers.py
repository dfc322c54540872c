"""Servers to compare with, each in a process of its own.

    python -m benchmarks.peers ADDRESS echo FOLDER

`echo` answers Compress and Decompress with prepared bytes, the files `Compress` and `Decompress` of FOLDER:
the limit of the transport, which no server in this language can beat.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import grpc

_SERVICE = "entropyd.v1.CodingService"
_UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


async def serve_echo(address: str, folder: Path) -> None:
    """Answers prepared bytes until the process is ended."""
    server = grpc.aio.server(options=_UNLIMITED)
    handlers = {name: _echo((folder / name).read_bytes()) for name in ("Compress", "Decompress")}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


def _echo(answer: bytes) -> grpc.RpcMethodHandler[bytes, bytes]:
    async def handler(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        del request, context
        return answer

    return grpc.unary_unary_rpc_method_handler(handler)


if __name__ == "__main__":
    asyncio.run(serve_echo(sys.argv[1], Path(sys.argv[3])))
