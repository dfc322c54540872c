"""Makes TensorFlow find the variables of an entropy model whose prior is a mixture of TFC."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


class HeldPrior:
    """Mixed into a class of TFC, in front of tf.Module.

    tf.Module looks for variables in the `vars` of an object, and raises a ValueError for a mixture, to which
    TFC 2.14.1 gives no `_parameter_properties`. Here `vars` has the variables of such a prior in its place.
    """

    @property
    def _prior(self) -> Any:
        held = vars(self).get("_prior")
        return held[0].prior if isinstance(held, tuple) else held

    @_prior.setter
    def _prior(self, prior: Any) -> None:
        vars(self)["_prior"] = prior if _can_be_expanded(prior) else (_Hidden(prior), *prior.variables)

    @property
    def submodules(self) -> tuple[Any, ...]:
        """See tf.Module."""
        found: tuple[Any, ...] = super().submodules  # type: ignore[misc]
        held = vars(self).get("_prior")
        return (*found, self._prior, *self._prior.submodules) if isinstance(held, tuple) else found


class _Hidden:
    """A prior where TensorFlow does not look for it."""

    def __init__(self, prior: Any) -> None:
        self.prior = prior


def _can_be_expanded(prior: Any) -> bool:
    try:
        tf.nest.flatten(prior, expand_composites=True)
    except NotImplementedError:
        return False
    return True
