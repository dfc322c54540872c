"""A method that a server serves, in the form that both transports take."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from entropyd_server.transport.call import Call

# Takes a request and its call, returns the serialised response.
Handle = Callable[[Any, "Call"], Awaitable["bytes | None"]]
# Raises to refuse a call, before its message is received.
Open = Callable[["Call"], None]


@dataclass(frozen=True)
class Method:
    """One method of a service.

    Attributes:
      service: Full name of the service.
      handle: Answers a call. Its request is the serialised message, or an iterator of parsed messages if
        `request_streaming`. If `response_streaming`, it sends messages by `Call.write` and returns None.
      open: Refuses a call from what its headers say.
      parse: Reads one message of a request stream.
      render: Serialises one message of a response stream.
    """

    service: str
    name: str
    handle: Handle
    open: Open = lambda _call: None  # refuses none
    request_streaming: bool = False
    response_streaming: bool = False
    parse: Callable[[bytes], Any] = bytes
    render: Callable[[Any], bytes] = bytes

    @property
    def path(self) -> str:
        return f"/{self.service}/{self.name}"
