"""CompressAI's entropy models with random tables, and tensors for them."""

from __future__ import annotations

from typing import Any

import torch
from compressai.entropy_models import EntropyBottleneck, GaussianConditional

SCALES = [0.11, 0.4, 1.0, 3.5, 20.0]


def bottleneck(channels: int = 5, **named: Any) -> EntropyBottleneck:
    """An EntropyBottleneck with other quantiles, medians among them, in every channel."""
    module = EntropyBottleneck(channels, **named)
    median = torch.randn(channels) * 3
    spread = 1 + 8 * torch.rand(channels, 2)
    module.quantiles.data[:, 0, 0] = median - spread[:, 0]
    module.quantiles.data[:, 0, 1] = median
    module.quantiles.data[:, 0, 2] = median + spread[:, 1]
    for matrix in module.matrices:
        matrix.data += torch.randn_like(matrix)
    module.update()
    return module


def conditional(scales: list[float] | None = None) -> GaussianConditional:
    """A GaussianConditional with tables."""
    module = GaussianConditional(None)
    module.update_scale_table(torch.tensor(scales or SCALES))
    return module


def latent(size: tuple[int, ...], spread: float = 6.0) -> torch.Tensor:
    """Random numbers, ties, and escapes within easy reach."""
    values = torch.randn(size) * spread
    flat = values.view(-1)
    flat[::7] = torch.round(flat[::7]) + 0.5
    flat[::31] *= 50
    return values


def with_tables(module: Any, rows: list[list[int]], offsets: list[int]) -> Any:
    """A module with other tables, as from a checkpoint."""
    widest = max(map(len, rows))
    module._quantized_cdf = torch.tensor([row + [0] * (widest - len(row)) for row in rows], dtype=torch.int32)
    module._cdf_length = torch.tensor([len(row) for row in rows], dtype=torch.int32)
    module._offset = torch.tensor(offsets, dtype=torch.int32)
    return module
