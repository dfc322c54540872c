"""The codec that zarr calls."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from zarr.abc.codec import ArrayBytesCodec

from entropyd import bounded
from entropyd._connection import Connection
from entropyd._info import ServerInfo
from entropyd._messages import check_bytes
from entropyd._model import Model
from entropyd.contract.errors import (
    DeadlineExceededError,
    InvalidConfigError,
    InvalidRequestError,
    UnavailableError,
    Violation,
)
from entropyd.zarr.chunks import check_dtype, compressed_chunk, restored_chunk
from entropyd.zarr.server import configured_server, served_model

if TYPE_CHECKING:  # zarr.core is private: its modules depend on zarr's version
    from typing_extensions import Self
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer, NDBuffer
    from zarr.core.dtype.wrapper import TBaseDType, TBaseScalar, ZDType

NAME = "entropyd"
# Time limit for creating an array where no server answers.
_CREATION_TIMEOUT_S = 3.0


@dataclass(frozen=True)
class EntropydCodec(ArrayBytesCodec):
    """Stores a chunk as an archive.

    NaN, the values of `missing` and the array's fill value are restored exactly. zarr pads chunks that reach
    beyond the array with the fill value.

    Attributes:
      model_id: Config hash of the model. The innermost axes of a chunk are coding units, as in
        `Model.compress`; without `max_error` the array has the model's bottleneck_dtype.
      max_error: Bound on the error of every other element, as in `entropyd.bounded`; None stores chunks as
        universal quantization restores them, within 1/2.
      missing: More values that mark missing data, as in `entropyd.bounded`.

    Raises:
      InvalidConfigError: If model_id is not a config hash, max_error not a finite number above 0, or missing
        not a sequence of numbers.
    """

    is_fixed_size = False

    model_id: str
    max_error: float | None = None
    missing: Sequence[float] = ()
    # False for a codec that was read from an array's metadata: opening an array needs no server.
    _asks_server: bool = field(default=True, repr=False, compare=False, kw_only=True)

    def __post_init__(self) -> None:
        problems = [
            _model_id_problem(self.model_id),
            None if self.max_error is None else bounded.max_error_problem(self.max_error),
            bounded.missing_problem(self.missing),
        ]
        found = [problem for problem in problems if problem is not None]
        if found:
            raise InvalidConfigError.of(found)
        if self.max_error is not None:
            object.__setattr__(self, "max_error", float(self.max_error))
        object.__setattr__(self, "missing", bounded.missing_values(self.missing))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Reads the codec's entry of `zarr.json`.

        Raises:
          InvalidConfigError: If a member is missing, unknown or wrong.
        """
        try:
            configuration = dict(data["configuration"])
            if "missing" in configuration:
                configuration["missing"] = bounded.missing_from_json(configuration["missing"])
            unknown = configuration.keys() - {"model_id", "max_error", "missing"}
            if not unknown:
                return cls(**configuration, _asks_server=False)
        except (KeyError, TypeError, ValueError) as error:
            raise _no_configuration(data) from error
        raise _no_configuration(data)

    def to_dict(self) -> dict[str, Any]:
        """The codec's entry of `zarr.json`."""
        configuration: dict[str, Any] = {"model_id": self.model_id}
        if self.max_error is not None:
            configuration["max_error"] = self.max_error
        if self.missing:
            configuration["missing"] = bounded.missing_to_json(self.missing)
        return {"name": NAME, "configuration": configuration}

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Raises NotImplementedError: the size is not known before a chunk is compressed."""
        raise NotImplementedError

    def evolve_from_array_spec(self, array_spec: ArraySpec) -> Self:
        """Refuses a new array if its dtype and rank show that no chunk could be written.

        zarr gives the codec of a shard's chunks no more than these. If no server answers, the first write
        fails instead.

        Raises:
          InvalidRequestError: If the model takes indexes.
          InvalidTensorError, ModelNotFoundError, ModelStateError: As the first write would.
        """
        answered = self._try(array_spec.dtype, len(array_spec.shape))
        return self if answered else replace(self, _asks_server=False)

    def validate(
        self, *, shape: tuple[int, ...], dtype: ZDType[TBaseDType, TBaseScalar], chunk_grid: Any
    ) -> None:
        """Refuses a new array if its coding units show that no chunk could be written.

        Raises:
          InvalidTensorError, LimitExceededError: As the first write would.
        """
        # Which grids there are, and their classes' names, depend on zarr's version; a regular one has this.
        chunk_shape = getattr(chunk_grid, "chunk_shape", None)
        if chunk_shape is not None:
            self._try(dtype, len(shape), chunk_shape)

    def _try(
        self, dtype: ZDType[TBaseDType, TBaseScalar], rank: int, chunk_shape: tuple[int, ...] | None = None
    ) -> bool:
        """Compresses one coding unit as a chunk of a new array; False if no server answers."""
        if not self._asks_server:
            return True
        name = dtype.to_native_dtype().name
        check_dtype(name, self.max_error)
        try:
            _try_on_server(configured_server(), self, name, rank, chunk_shape)
        except (UnavailableError, DeadlineExceededError):
            return False
        return True

    async def _encode_single(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        check_dtype(chunk_spec.dtype.to_native_dtype().name, self.max_error)
        missing = bounded.missing_values((*self.missing, float(chunk_spec.fill_value)))
        content = await asyncio.to_thread(self._compressed, chunk_data.as_numpy_array(), missing)
        return chunk_spec.prototype.buffer.from_bytes(content)

    def _compressed(self, chunk: npt.NDArray[Any], missing: tuple[float, ...]) -> bytes:
        return compressed_chunk(served_model(self.model_id), chunk, self.max_error, missing)

    async def _decode_single(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        restored = await asyncio.to_thread(restored_chunk, chunk_data.to_bytes())
        # zarr may write to the chunk.
        chunk = np.array(restored, chunk_spec.dtype.to_native_dtype()).reshape(chunk_spec.shape)
        return chunk_spec.prototype.nd_buffer.from_numpy_array(chunk)


@lru_cache(maxsize=64)
def _try_on_server(
    server: Connection, codec: EntropydCodec, dtype: str, rank: int, chunk_shape: tuple[int, ...] | None
) -> None:
    """Tries a coding unit on a server; a success is cached.

    Raises:
      EntropydError: As `try_coding_unit`; UnavailableError or DeadlineExceededError if no server answers in
        time.
    """
    with server.client(_CREATION_TIMEOUT_S) as client:
        model = client.model(codec.model_id)
        try_coding_unit(model, client.server_info(), codec, dtype=dtype, rank=rank, chunk_shape=chunk_shape)


def try_coding_unit(
    model: Model,
    server_info: ServerInfo,
    codec: EntropydCodec,
    *,
    dtype: str,
    rank: int,
    chunk_shape: tuple[int, ...] | None,
) -> None:
    """Compresses a chunk of one coding unit of missing values.

    Args:
      model: The codec's model.
      server_info: That of its server.
      codec: The array's codec.
      dtype: Name of the array's dtype.
      rank: Number of its axes.
      chunk_shape: Shape of its chunks; None for any that end in the model's prior_shape.

    Raises:
      EntropydError: As the first write would.
    """
    check_dtype(dtype, codec.max_error)
    if chunk_shape is None or rank < model.coding_rank:
        unit = model.prior_shape[max(len(model.prior_shape) - rank, 0) :]
    else:
        unit = chunk_shape[rank - model.coding_rank :]
    check_bytes(prod(unit) * np.dtype(dtype).itemsize, server_info)
    chunk = np.full((1,) * (rank - len(unit)) + unit, np.nan, dtype)
    compressed_chunk(model, chunk, codec.max_error, codec.missing)


def coded_by(array: Any) -> str:
    """The id of the model that codes the chunks of a Zarr array, or those within its shards.

    Raises:
      InvalidRequestError: If EntropydCodec is not among its codecs.
    """
    codecs = list(getattr(array.metadata, "codecs", ()))  # arrays of Zarr v2 have none
    for codec in codecs:
        if isinstance(codec, EntropydCodec):
            return codec.model_id
        codecs += getattr(codec, "codecs", ())  # of a shard
    names = ", ".join(type(codec).__name__ for codec in codecs) or "none"
    raise InvalidRequestError.at("array", f"has codecs {names}; expected EntropydCodec among them")


def _model_id_problem(found: Any) -> Violation | None:
    if isinstance(found, str) and re.fullmatch("[0-9a-f]{64}", found):
        return None
    return Violation("model_id", f"is {found!r:.80}; expected 64 lower-case hexadecimal digits")


def _no_configuration(found: Any) -> InvalidConfigError:
    what = f"is {found!r:.120}; expected a configuration with model_id and perhaps max_error and missing"
    return InvalidConfigError.at("codec", what)
