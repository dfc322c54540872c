"""Reflection: lists the services for tools like grpcurl."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import aio

from entropyd_server.transport.call import Call

REFLECTION = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]


class Reflection(aio.ReflectionServicer):  # type: ignore[misc]  # the package carries no types
    """grpcio-reflection's servicer, which yields responses, on a transport to which servicers write them."""

    async def ServerReflectionInfo(
        self, requests: AsyncIterator[reflection_pb2.ServerReflectionRequest], context: Call
    ) -> None:
        async with aclosing(super().ServerReflectionInfo(requests, context)) as answers:
            async for answer in answers:
                await context.write(answer)
