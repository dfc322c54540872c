"""What kinds with indexes share: TFC's constructor arguments in place of a prior."""

from __future__ import annotations

from functools import partial
from typing import Any

from entropyd_server.modeling.worker.indexed_priors import at_indexes, on_grid


def grid_prior(config: Any) -> Any:
    """The distribution of all rows, of batch shape index_ranges."""
    return on_grid(config.needed_prior)


def prior_function(config: Any, prior: Any, *, compression: bool, channel: bool) -> Any:
    """What TFC's `prior_fn` is, of a tensor of indexes: the density at each.

    Args:
      config: The configuration.
      prior: What `grid_prior` makes; its tails may be fixed.
      compression: Whether TFC calls it for the rows of its tables: with the grid, and no other indexes.
      channel: Whether the last axis of the indexes is that of `index_ranges`.
    """
    if compression:
        return lambda indexes: prior  # noqa: ARG005 - TFC passes them by name
    return partial(at_indexes, config.needed_prior, channel=channel)


def indexes_as_they_are(indexes: Any) -> Any:
    """The one function of the index in TFC's object; all others are within `prior_function`."""
    return indexes
