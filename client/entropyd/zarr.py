"""A Zarr v3 codec: chunks of float arrays are stored as archives, compressed by an entropyd server.

    serializer = EntropydCodec(model_id=model.id, max_error=0.001)
    array = zarr.create_array(
        store, shape=shape, chunks=chunks, dtype="float32", serializer=serializer, compressors=None
    )

zarr finds the codec by its entry point, so a program that only reads need not import this module. Which
server to use is not a property of the data: it stands in zarr's configuration, as in
`zarr.config.set({"entropyd.server": "host:7070"})` or ZARR_ENTROPYD__SERVER in the environment, and is
127.0.0.1:7070 by default. Beside it stand `entropyd.tls`, `tls_ca`, `tls_cert`, `tls_key` and `token_file`,
as the options of the `entropyd` command.

Owns the conversion between chunks and archives. It must not know how Zarr lays out a store. Invariant: a
chunk is a whole archive, so `entropyd inspect` and `verify` work on it, and damage is an error of that chunk.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from zarr.abc.codec import ArrayBytesCodec

from entropyd import bounded
from entropyd._connection import Connection
from entropyd.archive import Archive, ArchiveWriter
from entropyd.contract.arrays import read_array
from entropyd.contract.errors import InvalidConfigError, Violation

if TYPE_CHECKING:
    import numpy.typing as npt
    from typing_extensions import Self
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer, NDBuffer

    from entropyd._client import Client
    from entropyd._model import Model
    from entropyd.archive import CompressedTensor

NAME = "entropyd"
DEFAULT_SERVER = "127.0.0.1:7070"


@dataclass(frozen=True)
class EntropydCodec(ArrayBytesCodec):
    """Stores a chunk as an archive.

    Attributes:
      model_id: Config hash of the model. The innermost axes of a chunk are coding units, as in
        `Model.compress`; without `max_error` the array has the model's bottleneck_dtype.
      max_error: Bound on the error of every element, as in `entropyd.bounded`; None stores chunks as
        universal quantization restores them, within 1/2.
    """

    is_fixed_size = False

    model_id: str
    max_error: float | None = None

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Reads the codec's entry of `zarr.json`.

        Raises:
          InvalidConfigError: If a member is missing or unknown.
        """
        try:
            return cls(**data["configuration"])
        except (KeyError, TypeError) as error:
            found = f"is {data!r:.120}; expected a configuration with model_id and perhaps max_error"
            raise InvalidConfigError.of([Violation("codec", found)]) from error

    def to_dict(self) -> dict[str, Any]:
        """The codec's entry of `zarr.json`."""
        bound = {} if self.max_error is None else {"max_error": self.max_error}
        return {"name": NAME, "configuration": {"model_id": self.model_id, **bound}}

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Not known before a chunk is compressed."""
        raise NotImplementedError

    async def _encode_single(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        content = await asyncio.to_thread(self._compressed, chunk_data.as_numpy_array())
        return chunk_spec.prototype.buffer.from_bytes(content)

    async def _decode_single(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        restored = await asyncio.to_thread(self._restored, chunk_data.to_bytes())
        # A chunk is somebody else's to write to.
        chunk = np.array(restored, chunk_spec.dtype.to_native_dtype()).reshape(chunk_spec.shape)
        return chunk_spec.prototype.nd_buffer.from_numpy_array(chunk)

    def _compressed(self, chunk: npt.NDArray[Any]) -> bytes:
        # A masked array that is written to a whole chunk comes as one.
        chunk, _ = read_array("chunk", chunk)
        model = _model(_server(), self.model_id)
        chunk = np.ascontiguousarray(chunk, chunk.dtype.newbyteorder("="))
        metadata: dict[str, Any] = {}
        if self.max_error is None:
            compressed: CompressedTensor = model.compress(chunk)
        else:
            tensor = bounded.compress(model, chunk, self.max_error)
            compressed, metadata = tensor.compressed, tensor.bound.metadata
        stream = BytesIO()
        with ArchiveWriter(stream, metadata=metadata) as writer:
            writer.append(compressed)
        return stream.getvalue()

    def _restored(self, content: bytes) -> npt.NDArray[Any]:
        with Archive.from_bytes(content, "a chunk") as archive:
            bound = bounded.ErrorBound.of(archive.metadata)
            restored = _model(_server(), archive.model_id).decompress(archive.read())
        return restored if bound is None else bound.data(restored)


def _server() -> Connection:
    files: dict[str, Any] = {
        name: Path(path)
        for name in ("tls_ca", "tls_cert", "tls_key", "token_file")
        if (path := zarr.config.get(f"entropyd.{name}", None)) is not None
    }
    return Connection(
        str(zarr.config.get("entropyd.server", DEFAULT_SERVER)),
        bool(zarr.config.get("entropyd.tls", default=False)),
        **files,
    )


@lru_cache(maxsize=8)
def _client(server: Connection) -> Client:
    """One connection for all chunks; it closes with the process."""
    return server.client()


@lru_cache(maxsize=64)
def _model(server: Connection, model_id: str) -> Model:
    return _client(server).model(model_id)
