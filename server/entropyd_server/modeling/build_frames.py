"""The frames for building tables: the request and the response."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from entropyd.contract.config import UniversalBatchedConfig
from entropyd_server.modeling.limits import Work
from entropyd_server.modeling.protocol import Frame, expect

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

BUILD_TABLES = "build_tables"
TABLES = "tables"

BUILDING = Work("build", "building the tables", "they have many rows, or long ones")


@dataclass(frozen=True, eq=False)
class BuiltTables:
    """Coding tables as TFC built them.

    Attributes:
      cdf: int32 [length], the rows one after the other, each -precision, 0, ..., 2^precision.
      cdf_offset: int32 [num_noise_levels * prod(prior_shape)], the smallest integer of each row.
      built_with: Versions by name: python, numpy, tensorflow, tensorflow_compression,
        tensorflow_probability.
    """

    cdf: npt.NDArray[np.int32]
    cdf_offset: npt.NDArray[np.int32]
    built_with: Mapping[str, str]

    def to_frame(self) -> Frame:
        """The response to `build_tables`."""
        tensors = {"cdf": self.cdf, "cdf_offset": self.cdf_offset}
        return Frame(TABLES, {"built_with": json.dumps(dict(self.built_with))}, tensors)

    @classmethod
    def from_frame(cls, frame: Frame) -> BuiltTables:
        """Reads the response.

        Raises:
          EntropydError: What the worker raised.
          FrameError: If the frame is neither tables nor an error.
        """
        expect(frame, TABLES)
        built_with = json.loads(frame.metadata["built_with"])
        return cls(frame.tensors["cdf"], frame.tensors["cdf_offset"], built_with)


def build_tables_frame(config: UniversalBatchedConfig) -> Frame:
    """The request to build the tables of `config`."""
    return Frame(BUILD_TABLES, {"config": config.canonical_json.decode()})


def config_of(frame: Frame) -> UniversalBatchedConfig:
    """The configuration in a frame."""
    return UniversalBatchedConfig.from_dict(json.loads(frame.metadata["config"]))
