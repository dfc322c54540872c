"""Checks when an array is created, so that one that can never be written is refused then."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import NamedTuple

import numpy as np

from entropyd._connection import Connection
from entropyd._messages import check_bytes
from entropyd.zarr.chunks import compressed_chunk

# Time limit for creating an array where no server answers.
_TIMEOUT_S = 3.0


class CodecSettings(NamedTuple):
    """The attributes of an EntropydCodec."""

    model_id: str
    max_error: float | None
    missing: tuple[float, ...]


@lru_cache(maxsize=64)
def try_coding_unit(
    server: Connection, codec: CodecSettings, dtype: str, rank: int, chunk_shape: tuple[int, ...] | None
) -> None:
    """Compresses a chunk of one coding unit of missing values; a success is cached.

    Args:
      server: The server to use.
      codec: The settings of the array's codec.
      dtype: Name of the array's dtype.
      rank: Number of its axes.
      chunk_shape: Shape of its chunks; None for any that end in the model's prior_shape.

    Raises:
      EntropydError: As the first write would; UnavailableError or DeadlineExceededError if no server answers
        in time.
    """
    with server.client(_TIMEOUT_S) as client:
        model = client.model(codec.model_id)
        if chunk_shape is None or rank < model.coding_rank:
            unit = model.prior_shape[max(len(model.prior_shape) - rank, 0) :]
        else:
            unit = chunk_shape[rank - model.coding_rank :]
        check_bytes(prod(unit) * np.dtype(dtype).itemsize, client.server_info())
        chunk = np.full((1,) * (rank - len(unit)) + unit, np.nan, dtype)
        compressed_chunk(model, chunk, codec.max_error, codec.missing)
