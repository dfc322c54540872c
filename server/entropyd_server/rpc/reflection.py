"""Reflection: which services there are, told to tools like grpcurl.

Owns nothing: it answers as grpcio-reflection does, which yields what our transport has servicers write.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from grpc_reflection.v1alpha.reflection import aio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from grpc_reflection.v1alpha import reflection_pb2

    from entropyd_server.transport.call import Call


class Reflection(aio.ReflectionServicer):  # type: ignore[misc]  # the package carries no types
    """The published protocol, for services by their full names."""

    async def ServerReflectionInfo(  # noqa: N802 - gRPC's name
        self, requests: AsyncIterator[reflection_pb2.ServerReflectionRequest], context: Call
    ) -> None:
        """See grpc/reflection/v1alpha/reflection.proto."""
        async with aclosing(super().ServerReflectionInfo(requests, context)) as answers:
            async for answer in answers:
                await context.write(answer)
