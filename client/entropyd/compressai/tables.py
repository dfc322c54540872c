"""The tables of CompressAI's entropy models, and configurations of models on a server that have them.

Invariant: tables are taken as they are. Built anew elsewhere, some of their integers would differ.
"""

from __future__ import annotations

from typing import Any

import torch

from entropyd.compressai.tensors import array_of_tensor
from entropyd.contract.errors import ModelStateError
from entropyd.contract.kinds.tabulated import TabulatedConfig

# The layout N, C, H, W, with a bit string for each N.
CODING_RANK = 3


def tables_of(module: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The tables that an entropy model has now.

    Returns:
      Rows [rows, widest], the number of entries that count [rows], and the smallest integer [rows] of each.

    Raises:
      ModelStateError: If there are none, because the module was not updated.
    """
    tables = module._quantized_cdf, module._cdf_length, module._offset  # noqa: SLF001 - what is in a checkpoint
    if not all(table.numel() for table in tables):
        raise without_tables(module)
    return tables


def without_tables(module: Any) -> ModelStateError:
    """The error of an entropy model that was not updated."""
    found = f"the {type(module).__name__} has no tables: call update() of the model, or of the module, first"
    return ModelStateError(found, reason="MODEL_WITHOUT_TABLES")


def config_of(module: Any, dtype: str, *, quantization_offset: Any = None) -> TabulatedConfig:
    """The configuration of the model that has the tables of an entropy model.

    Args:
      module: An EntropyBottleneck or a GaussianConditional.
      dtype: Name of the bottleneck's dtype.
      quantization_offset: As of TabulatedConfig.

    Raises:
      InvalidConfigError: If the tables are none for CompressAI's rANS coder.
      ModelStateError: If the module was not updated.
      ValueError: If the module codes with another coder.
    """
    coder = module.entropy_coder.name
    if coder != "ans":
        raise ValueError(f"the {type(module).__name__} codes with {coder!r}; expected 'ans'")
    cdf, lengths, offsets = map(array_of_tensor, tables_of(module))
    return TabulatedConfig(
        cdf,
        offsets,
        CODING_RANK,
        lengths=lengths,
        row_by="index",
        precision=module.entropy_coder_precision,
        coder="rans64",
        bottleneck_dtype=dtype,
        quantization_offset=quantization_offset,
    )
