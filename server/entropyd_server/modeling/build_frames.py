"""The frames for building tables: the request and the response."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from entropyd.contract.config import ModelConfig
from entropyd.contract.kinds import config_from_dict
from entropyd.contract.tables import RawTables
from entropyd_server.modeling.limits import Work
from entropyd_server.modeling.protocol import Frame, expect

BUILD_TABLES = "build_tables"
TABLES = "tables"

BUILDING = Work("build", "building the tables", "they have many rows, or long ones")


@dataclass(frozen=True, eq=False)
class BuiltTables:
    """Coding tables as TFC built them, and the versions by name: Python, NumPy, TensorFlow's packages."""

    tables: RawTables
    built_with: Mapping[str, str]

    def to_frame(self) -> Frame:
        """Makes the response to `build_tables`."""
        return Frame(TABLES, {"built_with": json.dumps(dict(self.built_with))}, self.tables.by_name())

    @classmethod
    def from_frame(cls, frame: Frame) -> BuiltTables:
        """Reads the response; raises as `expect` does."""
        expect(frame, TABLES)
        built_with = json.loads(frame.metadata["built_with"])
        return cls(RawTables(**frame.tensors), built_with)


def build_tables_frame(config: ModelConfig) -> Frame:
    """Makes the request to build the tables of `config`."""
    return Frame(BUILD_TABLES, {"config": config.canonical_json.decode()})


def config_of(frame: Frame) -> ModelConfig:
    """Reads the configuration in a frame."""
    return config_from_dict(json.loads(frame.metadata["config"]))
