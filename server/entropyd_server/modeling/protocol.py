"""The frames between the server and a worker process, and those that every worker sends: `ready` and `error`.

A frame is the number of bytes that follow as a little-endian uint64, then one safetensors blob: tensors by
name, and strings by name as metadata, of which `kind` tells frames apart. Invariant: a frame is data only,
never pickle, so that reading one runs no code of the other end's choice.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from google.rpc import status_pb2
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from entropyd.contract.errors import EntropydError, from_status, to_status

LENGTH = struct.Struct("<Q")
# Far above any frame: a larger length is stray bytes.
MAX_FRAME_BYTES = 2**36

READY = "ready"
ERROR = "error"


class FrameError(Exception):
    """Bytes that are not a frame, or a frame of an unexpected kind."""


@dataclass(frozen=True, eq=False)
class Frame:
    """A message of a kind, as in `ready`, with strings and arrays by name."""

    kind: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    tensors: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Returns the frame after its length."""
        tensors = {name: np.ascontiguousarray(tensor) for name, tensor in self.tensors.items()}
        blob = save_tensors(tensors, {**self.metadata, "kind": self.kind})
        return LENGTH.pack(len(blob)) + blob

    @classmethod
    def from_blob(cls, blob: bytes) -> Frame:
        """Parses a frame without its length.

        Raises:
          FrameError: If it is not a frame.
        """
        try:
            tensors = load_tensors(blob)
            # safetensors returns the metadata of files only. The header is its length, then JSON.
            (header_bytes,) = LENGTH.unpack_from(blob)
            metadata = json.loads(blob[LENGTH.size : LENGTH.size + header_bytes])["__metadata__"]
            return cls(metadata.pop("kind"), metadata, tensors)
        except (SafetensorError, struct.error, ValueError, KeyError) as error:
            raise FrameError(f"{len(blob)} bytes are not a frame: {error}") from error


def frame_bytes(length: bytes) -> int:
    """Parses the length of a frame; raises FrameError if it is above MAX_FRAME_BYTES."""
    (announced,) = LENGTH.unpack(length)
    if announced > MAX_FRAME_BYTES:
        raise FrameError(f"a frame announces {announced} bytes")
    return int(announced)


def read_frame(stream: BinaryIO) -> Frame | None:
    """Reads one frame in a worker; None if the server closed the pipe.

    Raises:
      FrameError: If the bytes are not a frame.
    """
    length = stream.read(LENGTH.size)
    if len(length) < LENGTH.size:
        return None
    blob = stream.read(frame_bytes(length))
    return Frame.from_blob(blob)


def write_frame(stream: BinaryIO, frame: Frame) -> None:
    """Writes one frame in a worker; raises BrokenPipeError if the server closed the pipe."""
    stream.write(frame.to_bytes())
    stream.flush()


async def read_blob(stream: asyncio.StreamReader) -> bytes:
    """Reads one frame in the server, without its length.

    Raises:
      asyncio.IncompleteReadError: If the worker closed the pipe.
      FrameError: If the length is above MAX_FRAME_BYTES.
    """
    return await stream.readexactly(frame_bytes(await stream.readexactly(LENGTH.size)))


def ready_frame(versions: Mapping[str, str]) -> Frame:
    """Makes a worker's first frame, with the versions of its libraries."""
    return Frame(READY, {"versions": json.dumps(dict(versions))})


def versions_of(frame: Frame) -> dict[str, str]:
    """Returns the versions in a `ready` frame; raises FrameError if it is another one."""
    if frame.kind != READY:
        raise FrameError(f"a worker began with a {frame.kind!r} frame")
    return dict(json.loads(frame.metadata["versions"]))


def error_frame(error: EntropydError) -> Frame:
    """Makes the response to a request that failed."""
    status = to_status(error).SerializeToString()
    return Frame(ERROR, {"code": error.code}, {"status": np.frombuffer(status, np.uint8)})


def error_of(frame: Frame) -> EntropydError:
    """Returns the error that the worker raised."""
    status = status_pb2.Status.FromString(frame.tensors["status"].tobytes())
    return from_status(frame.metadata["code"], status.message, status)


def expect(frame: Frame, kind: str) -> Frame:
    """Returns a response of the expected kind.

    Raises:
      EntropydError: What the worker raised instead.
      FrameError: If it is of another kind.
    """
    if frame.kind == ERROR:
        raise error_of(frame)
    if frame.kind != kind:
        raise FrameError(f"a {frame.kind!r} frame came where {kind!r} was expected")
    return frame
