"""What operations have in common: servers, models and ways to call them, and what is chosen next."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.soak.models import Inputs, configs, inputs

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    import entropyd.aio
    from entropyd.contract.config import ModelConfig
    from tests.soak.routes import Route

# Supplied tables: models that churn need no TensorFlow but where it is what churns.
TABLES = (np.array([-4, 0, 3, 16, -4, 0, 1, 2, 16], np.int32), np.array([-1, 5], np.int32))


@dataclass(frozen=True)
class Scene:
    """Where operations take place.

    Attributes:
      target: All servers with the coding role.
      client: Connected to the server that has every role.
      stub: CodingService of a channel without retries to the same server.
      made: The models of `configs` as objects of that client.
      routes: All ways to the same models, on all servers with the coding role.
      damaged: Id of a model whose object is damaged.
      chance: What is done next, and with what.
      configs: Configurations of the models.
    """

    target: str
    client: entropyd.aio.Client
    stub: Any
    made: Sequence[entropyd.aio.Model]
    routes: Sequence[Route]
    damaged: str
    chance: random.Random
    configs: Sequence[ModelConfig] = field(default_factory=configs)

    def picked(self) -> tuple[Route, Any, Inputs]:
        """A route, one of its models, and what to code with it."""
        route, number = self.chance.choice(self.routes), self.chance.randrange(len(self.configs))
        return route, route.models[number], inputs(self.configs[number], self.chance)

    def made_inputs(self) -> tuple[entropyd.aio.Model, Inputs]:
        """One of `made`, and what to code with it."""
        number = self.chance.randrange(len(self.configs))
        return self.made[number], inputs(self.configs[number], self.chance)
