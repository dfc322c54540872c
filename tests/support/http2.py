"""HTTP/2 frames, for what gRPC's own clients do not send."""

from __future__ import annotations

import socket
import struct

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_INITIAL_WINDOW_SIZE = 4
_END_STREAM, _END_HEADERS, _ACK = 0x1, 0x4, 0x1
_CANCEL = 8


def connect(address: tuple[str, int], *, takes_answers: bool = True) -> socket.socket:
    """A connection on which HTTP/2 has begun; with no window for answers where it takes none."""
    settings = b"" if takes_answers else struct.pack(">HI", _INITIAL_WINDOW_SIZE, 0)
    connection = socket.create_connection(address, timeout=30)
    begin = frame(_SETTINGS, settings) + frame(_SETTINGS, flags=_ACK)
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + begin)
    return connection


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    """A frame (RFC 9113, 4.1)."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def opening(stream: int, path: bytes, *fields: tuple[bytes, bytes], ends: bool = False) -> bytes:
    """The HEADERS frame that begins a call, with fields as they are given; `ends` if no message follows."""
    usual = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"test")]
    usual += [(b"content-type", b"application/grpc"), (b"te", b"trailers")]
    # Literal fields that are never indexed, without Huffman coding (RFC 7541, 6.2.3).
    block = b"".join(b"\x10" + _string(name) + _string(value) for name, value in (*usual, *fields))
    return frame(_HEADERS, block, flags=_END_HEADERS | (_END_STREAM if ends else 0), stream=stream)


def message(stream: int, content: bytes) -> bytes:
    """The DATA frame with the last message of a call."""
    return frame(_DATA, struct.pack(">BI", 0, len(content)) + content, flags=_END_STREAM, stream=stream)


def reset(stream: int) -> bytes:
    """The frame that takes a call back."""
    return frame(_RST_STREAM, struct.pack(">I", _CANCEL), stream=stream)


def ping() -> bytes:
    """The frame that asks whether the other end is there."""
    return frame(_PING, bytes(8))


def kinds(content: bytes) -> list[str]:
    """Names of the frames that a server sent, as far as they are whole."""
    names = {_DATA: "DATA", _HEADERS: "HEADERS", _SETTINGS: "SETTINGS", _PING: "PING", _GOAWAY: "GOAWAY"}
    found, offset = [], 0
    while offset + 9 <= len(content):
        found.append(names.get(content[offset + 3], "another"))
        offset += 9 + int.from_bytes(content[offset : offset + 3], "big")
    return found


def _string(text: bytes) -> bytes:
    length = len(text)
    if length < 127:
        return bytes([length]) + text
    length, encoded = length - 127, b"\x7f"  # RFC 7541, 5.1
    while length >= 128:
        encoded += bytes([length % 128 + 128])
        length //= 128
    return encoded + bytes([length]) + text
