"""Registers entropy models of CompressAI on a server."""

from __future__ import annotations

from typing import Any

from compressai.entropy_models import EntropyBottleneck, GaussianConditional, GaussianMixtureConditional

from entropyd import Client, Model
from entropyd.compressai.tables import config_of
from entropyd.compressai.tensors import array_of_tensor, sent_dtype


def register(client: Client, module: Any) -> Model:
    """Registers an entropy model with its exact tables, so that any client codes with them.

    Strings are the module's own. The model takes arrays [N, C, H, W], with an index for each element: its
    channel in an EntropyBottleneck, whose medians the model subtracts and adds; what `build_indexes` returns
    in a GaussianConditional, whose means the caller subtracts and adds.

    Args:
      client: Connected to the server.
      module: An EntropyBottleneck or a GaussianConditional, with its tables.

    Raises:
      InvalidConfigError: If the tables are none for CompressAI's rANS coder.
      ModelStateError: If the module was not updated.
      TypeError: If it is of another class.
      ValueError: If the module codes with another coder.
    """
    check_has_tables(module)
    if not isinstance(module, EntropyBottleneck):
        return client.create_model(config_of(module, "float32"))
    medians = module.quantiles[:, 0, 1]
    dtype = str(medians.dtype).removeprefix("torch.")
    offset = array_of_tensor(medians.to(sent_dtype(medians.dtype)))
    return client.create_model(config_of(module, dtype, quantization_offset=offset))


def check_has_tables(module: Any) -> None:
    """Refuses, with a TypeError, a module of a class that does not code with tables of its own."""
    if isinstance(module, GaussianMixtureConditional):
        raise TypeError(
            f"the module is a {type(module).__name__}, which makes a table for every symbol as it codes; "
            "expected one whose tables update() makes"
        )
    if not isinstance(module, (EntropyBottleneck, GaussianConditional)):
        expected = "an EntropyBottleneck or a GaussianConditional"
        raise TypeError(f"the module is a {type(module).__name__}; expected {expected}")
