"""Coding with tables alone, whose rows are picked by position or by index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from entropyd.contract.kinds.tabulated import TabulatedConfig
from entropyd_server.coding.codec import Codec
from entropyd_server.coding.coders import Coder, RangeCoder, Rans64Coder
from entropyd_server.coding.indexed import IndexedCodec
from entropyd_server.coding.kinds.continuous_batched import ContinuousBatchedCodec
from entropyd_server.coding.offsets import OffsetByRow
from entropyd_server.coding.tables import CodingTables

_CODERS: Mapping[str, Coder] = {"range": RangeCoder(), "rans64": Rans64Coder()}


class TabulatedIndexedCodec(IndexedCodec, OffsetByRow):
    """Codec with prod(row_shape) rows, and an offset for each of them or none."""

    def place(
        self,
        row_index: npt.NDArray[np.int32],
        unit_symbols: int,  # noqa: ARG002
        unit_numbers: npt.NDArray[np.int64],  # noqa: ARG002
    ) -> npt.NDArray[Any]:
        if self.kernel_offset is None:
            return self.no_offsets
        return self.kernel_offset[row_index]


def tabulated_codec(config: TabulatedConfig, tables: CodingTables) -> Codec:
    """Makes the codec of a configuration; raises InvalidConfigError if the tables are not those of one."""
    codec = ContinuousBatchedCodec if config.row_by == "position" else TabulatedIndexedCodec
    return codec.of(config, tables, coder=_CODERS[config.coder])
