"""A model that remembers its calls of Perturb: whether each asked for gradients, and what it returned."""

from __future__ import annotations

from typing import Any, NamedTuple

from entropyd import Model, Perturbed


class RecordedCall(NamedTuple):
    gradient: bool
    found: Perturbed


class RecordedModel(Model):
    """Calls the server as the model does that it is made of."""

    def __init__(self, model: Model) -> None:
        super().__init__(model._session, model.info)
        self.calls: list[RecordedCall] = []

    def perturb(self, *inputs: Any, gradient: bool = False, **options: Any) -> Perturbed:
        found = super().perturb(*inputs, gradient=gradient, **options)
        self.calls.append(RecordedCall(gradient, found))
        return found
