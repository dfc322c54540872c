"""Frames between the server and a worker process.

Owns how a message is framed on the two pipes, and the frames that every worker sends: `ready` and `error`. It
must not know what a worker computes, nor import TensorFlow: both ends import it. Invariant: a frame is data
only (a safetensors blob, never pickle), so reading one runs nothing that the other end chose, and an error
that crosses is the same error of the catalog.

A frame is the number of bytes that follow as a little-endian uint64, then one safetensors blob: named
tensors, and metadata from names to strings, of which `kind` says what the frame is.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt
from google.rpc import status_pb2
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from entropyd.contract.errors import EntropydError, from_status, to_status

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping

LENGTH = struct.Struct("<Q")
# Far above any frame; what is larger is no length but stray bytes.
MAX_FRAME_BYTES = 2**36

READY = "ready"
ERROR = "error"


class FrameError(Exception):
    """Bytes that are no frame, or a frame that was not expected there."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One message.

    Attributes:
      kind: What it says, as in `ready`.
      metadata: Strings by name.
      tensors: Arrays by name.
    """

    kind: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    tensors: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Renders the frame, its length first."""
        tensors = {name: np.ascontiguousarray(tensor) for name, tensor in self.tensors.items()}
        blob = save_tensors(tensors, {**self.metadata, "kind": self.kind})
        return LENGTH.pack(len(blob)) + blob

    @classmethod
    def from_blob(cls, blob: bytes) -> Frame:
        """Parses what follows the length.

        Raises:
          FrameError: If it is no frame.
        """
        try:
            tensors = load_tensors(blob)
            # safetensors hands out the metadata of files only. The header is its length and then JSON.
            (header_bytes,) = LENGTH.unpack_from(blob)
            metadata = json.loads(blob[LENGTH.size : LENGTH.size + header_bytes])["__metadata__"]
            return cls(metadata.pop("kind"), metadata, tensors)
        except (SafetensorError, struct.error, ValueError, KeyError) as error:
            raise FrameError(f"{len(blob)} bytes are no frame: {error}") from error


def frame_bytes(length: bytes) -> int:
    """Number of bytes that a frame's first eight announce.

    Raises:
      FrameError: If no frame is as long.
    """
    (announced,) = LENGTH.unpack(length)
    if announced > MAX_FRAME_BYTES:
        raise FrameError(f"a frame announces {announced} bytes")
    return int(announced)


def read_frame(stream: BinaryIO) -> Frame | None:
    """Reads one frame in a worker; None where the server closed the pipe.

    Raises:
      FrameError: If the bytes are no frame.
    """
    length = stream.read(LENGTH.size)
    if len(length) < LENGTH.size:
        return None
    blob = stream.read(frame_bytes(length))
    return Frame.from_blob(blob)


def write_frame(stream: BinaryIO, frame: Frame) -> None:
    """Writes one frame in a worker.

    Raises:
      BrokenPipeError: If the server is gone.
    """
    stream.write(frame.to_bytes())
    stream.flush()


async def read_blob(stream: asyncio.StreamReader) -> bytes:
    """Reads one frame without its length in the server.

    Raises:
      asyncio.IncompleteReadError: If the worker closed the pipe.
      FrameError: If the bytes are no frame.
    """
    return await stream.readexactly(frame_bytes(await stream.readexactly(LENGTH.size)))


def ready_frame(versions: Mapping[str, str]) -> Frame:
    """A worker's first frame, with the versions that it computes with."""
    return Frame(READY, {"versions": json.dumps(dict(versions))})


def versions_of(frame: Frame) -> dict[str, str]:
    """The versions in a `ready` frame.

    Raises:
      FrameError: If it is another frame.
    """
    if frame.kind != READY:
        raise FrameError(f"a worker began with a {frame.kind!r} frame")
    return dict(json.loads(frame.metadata["versions"]))


def error_frame(error: EntropydError) -> Frame:
    """The answer to a request that failed."""
    status = to_status(error).SerializeToString()
    return Frame(ERROR, {"code": error.code}, {"status": np.frombuffer(status, np.uint8)})


def error_of(frame: Frame) -> EntropydError:
    """The error in an `error` frame."""
    status = status_pb2.Status.FromString(frame.tensors["status"].tobytes())
    return from_status(frame.metadata["code"], status.message, status)


def expect(frame: Frame, kind: str) -> Frame:
    """A worker's answer, if it is of the kind that was asked for.

    Raises:
      EntropydError: What the worker raised instead.
      FrameError: If it is something else.
    """
    if frame.kind == ERROR:
        raise error_of(frame)
    if frame.kind != kind:
        raise FrameError(f"a {frame.kind!r} frame came where {kind!r} was expected")
    return frame
