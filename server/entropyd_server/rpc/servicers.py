"""Makes the methods of a servicer, which takes and returns protobuf messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from entropyd_server.rpc.messages import read_message, write_message
from entropyd_server.transport.call import Call
from entropyd_server.transport.method import Handle, Method


def methods_of(servicer: object, service: ServiceDescriptor) -> Iterator[Method]:
    """Yields the methods of a service, answered by a servicer's methods of the same names."""
    for method in service.methods:
        parse = partial(read_message, GetMessageClass(method.input_type))
        yield Method(
            service.full_name,
            method.name,
            _handle(getattr(servicer, method.name), method, parse),
            request_streaming=method.client_streaming,
            response_streaming=method.server_streaming,
            parse=parse,
            render=write_message,
        )


def _handle(answer: Callable[..., Any], method: MethodDescriptor, parse: Callable[[bytes], Any]) -> Handle:
    """Parses and serialises the messages that are not part of a stream."""

    async def one_to_one(message: bytes, call: Call) -> bytes:
        return write_message(await answer(parse(message), call))

    async def one_to_many(message: bytes, call: Call) -> None:
        await answer(parse(message), call)

    async def many_to_one(messages: Any, call: Call) -> bytes:
        return write_message(await answer(messages, call))

    if method.client_streaming:
        return answer if method.server_streaming else many_to_one
    return one_to_many if method.server_streaming else one_to_one
