"""An encoder in plain NumPy, trained against the rate term of a remote entropy model.

    python examples/encoder.py [--server HOST:PORT] [--steps 300]

A matrix maps vectors of 8 correlated numbers to a bottleneck, whose bits entropyd estimates, and another
matrix maps it back. Training minimises bits + 12 * squared error, per vector. The server returns the gradient
of the bits with respect to the bottleneck (`gradient=True`); this program applies the chain rule through the
matrices. It needs no TensorFlow and no automatic differentiation.

Every 100 steps the prior is fitted again to the encoder's current output. At the end held-out vectors are
coded, and the lengths of their bit strings are compared with the estimated bits.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import entropyd
from entropyd.fitting import starting_prior
from entropyd_server.local import LocalServer

if TYPE_CHECKING:
    import numpy.typing as npt

SIZE = 8
BATCH = 512
DISTORTION_WEIGHT = 12.0
REFIT_STEPS = 100
RATE = 0.01


def main() -> None:
    """Trains, prints loss, bits and error, and codes held-out vectors."""
    arguments = argparse.ArgumentParser(description="an encoder trained against a remote rate term")
    arguments.add_argument("--server", help="server to use; by default one is started")
    arguments.add_argument("--steps", type=int, default=300, help="steps of training")
    options = arguments.parse_args()
    with ExitStack() as stack:
        target = options.server or stack.enter_context(LocalServer()).target
        train(stack.enter_context(entropyd.Client(target)), options.steps)


@dataclass
class Pair:
    """Encoder and decoder, and the state of Adam for both."""

    encoder: npt.NDArray[np.float32]
    decoder: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        self._mean = [np.zeros_like(self.encoder), np.zeros_like(self.decoder)]
        self._square = [np.zeros_like(self.encoder), np.zeros_like(self.decoder)]
        self._step = 0

    def descend(self, gradients: list[npt.NDArray[np.float32]]) -> None:
        """One step of Adam (Kingma & Ba, 2015)."""
        self._step += 1
        for matrix, gradient, mean, square in zip(
            (self.encoder, self.decoder), gradients, self._mean, self._square, strict=True
        ):
            mean[:] += 0.1 * (gradient - mean)
            square[:] += 0.001 * (gradient**2 - square)
            unbiased = mean / (1 - 0.9**self._step)
            matrix[:] -= RATE * unbiased / (np.sqrt(square / (1 - 0.999**self._step)) + 1e-8)


def train(client: entropyd.Client, steps: int) -> None:
    """Trains a pair and prints its cost."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(0, 1, (SIZE, SIZE)) * np.geomspace(3, 0.05, SIZE)

    def draw(rows: int) -> npt.NDArray[np.float32]:
        return (rng.normal(0, 1, (rows, SIZE)) @ mixing.T).astype(np.float32)

    identity = np.eye(SIZE, dtype=np.float32)
    pair = Pair(identity.copy(), identity.copy())
    model = fitted(client, draw(4 * BATCH) @ pair.encoder)
    print("  step   bits/vector   squared error    loss")
    for step in range(steps):
        if step and step % REFIT_STEPS == 0:
            model = fitted(client, draw(4 * BATCH) @ pair.encoder)
        x = draw(BATCH)
        answer = model.perturb(x @ pair.encoder, training=True, gradient=True)
        error = answer.perturbed @ pair.decoder - x
        bits, squared = float(answer.bits.mean()), float((error**2).sum(axis=1).mean())
        if step % max(steps // 10, 1) == 0:
            print(f"{step:6d} {bits:13.3f} {squared:15.3f} {bits + DISTORTION_WEIGHT * squared:7.2f}")
        # d loss / d restored, then back through decoder and noise (an identity) to the bottleneck.
        upstream = 2 * DISTORTION_WEIGHT * error / BATCH
        bottleneck = upstream @ pair.decoder.T + answer.gradient / BATCH
        pair.descend([x.T @ bottleneck, answer.perturbed.T @ upstream])
    report(fitted(client, draw(4 * BATCH) @ pair.encoder), pair, draw(20 * BATCH))


def fitted(client: entropyd.Client, bottleneck: npt.NDArray[np.float32]) -> Any:
    """A model whose prior fits the encoder's output."""
    prior = starting_prior(bottleneck, "NoisyNormal")
    config = entropyd.UniversalBatchedConfig(prior=prior, coding_rank=1, expected_grads=True)
    return client.fit_model(config, bottleneck, max_steps=100)


def report(model: Any, pair: Pair, held_out: npt.NDArray[np.float32]) -> None:
    """Codes vectors that training has not seen, one coding unit each."""
    bottleneck = held_out @ pair.encoder
    _, bits = model(bottleneck, training=False)
    compressed = model.compress(bottleneck)
    error = model.decompress(compressed) @ pair.decoder - held_out
    coded = 8 * len(compressed.payload) / len(held_out)
    squared = float((error**2).sum(axis=1).mean())
    print(f"held out: {bits.mean():.3f} bits/vector estimated, {coded:.3f} coded in whole bytes")
    print(f"held out: squared error {squared:.3f} of {float((held_out**2).sum(axis=1).mean()):.3f}")


if __name__ == "__main__":
    main()
