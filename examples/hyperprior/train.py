"""Trains the hyperprior on photographs of Debian's wallpapers, from nothing to `weights.npz`.

    python -m examples.hyperprior.train [--server HOST:PORT]

Training goes on where it was interrupted. With --server, bits of latents and their gradients come from the
entropy model of a server; without, they are computed here.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_compression as tfc
from rich.console import Console
from rich.progress import Progress, track

import entropyd
from entropyd.tfc import rate
from examples.hyperprior import networks, photos
from examples.hyperprior.codec import WEIGHTS, latents_config, load_weights

# Steps of the hyper networks alone, and of all networks.
HYPER_STEPS, STEPS = 1500, 6500
BATCH, PATCH = 9, 128
# Adam's largest step, and its part for residual layers and for transforms, which begin as good ones.
RATE, RESIDUAL_RATE, TRANSFORM_RATE = 2e-3, 0.25, 0.05
WARM_UP, REPORT = 200, 250
# Numbers of batches, beyond all steps, from which the spreads of latents are learned.
SPREAD_PATCHES = range(10**9, 10**9 + 8)
LEAST_PROBABILITY = 1e-9

Arrays = Mapping[str, npt.NDArray[np.float32]]
# Bits [batch] of latents, given indexes of scales and means, each [batch, height, width, 192].
Bits = Callable[[Any, Any, Any], Any]


def main() -> None:
    """Trains, and writes the weights."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--server", help="take bits and gradients from this server, HOST:PORT")
    arguments.add_argument("--steps", type=int, default=STEPS, help="default: %(default)s")
    arguments.add_argument("--folder", type=Path, default=Path("hyperprior-training"), help="for checkpoints")
    arguments.add_argument("--output", type=Path, default=WEIGHTS, help="file of weights to write")
    options = arguments.parse_args()
    with ExitStack() as stack:
        bits: Bits = latents_bits
        if options.server:
            client = stack.enter_context(entropyd.Client(options.server))
            bits = partial(rate, client.create_model(latents_config()), training=False)
        weights = train(bits, options.steps, options.folder)
    committed = held_out_loss(load_weights())
    np.savez_compressed(options.output, **{name: value.astype(np.float16) for name, value in weights.items()})
    print(f"{options.output}: {options.output.stat().st_size / 1e6:.2f} MB")
    trained = held_out_loss(load_weights(options.output))
    print(f"loss on photos held out: {trained:.4f}, that of {WEIGHTS.name} as it was: {committed:.4f}")


class TensorFlowLayers:
    """The layers of `networks.Layers` in TensorFlow."""

    def convolve(self, x: Any, kernel: Any, bias: Any = None) -> Any:
        y = tf.nn.conv2d(x, kernel, 1, "VALID")
        return y if bias is None else tf.nn.bias_add(y, bias)

    def pad(self, x: Any, width: int) -> Any:
        return tf.pad(x, [(0, 0), (width, width), (width, width), (0, 0)], "SYMMETRIC")

    def to_depth(self, x: Any, size: int) -> Any:
        return tf.nn.space_to_depth(x, size)

    def to_space(self, x: Any, size: int) -> Any:
        return tf.nn.depth_to_space(x, size)

    def join(self, x: Any, y: Any) -> Any:
        return tf.concat([x, y], -1)

    def rectify(self, x: Any) -> Any:
        return tf.nn.leaky_relu(x, 1 / 8)


LAYERS = TensorFlowLayers()


class Patches:
    """Random patches of the training photos."""

    def __init__(self) -> None:
        files = track(photos.training_files(), "loading photos", console=Console(stderr=True), transient=True)
        self._photos = [scaled for path in files for scaled in photos.scaled(path)]
        areas = np.array([photo.shape[0] * photo.shape[1] for photo in self._photos])
        self._shares = np.sqrt(areas) / np.sqrt(areas).sum()

    def batch(self, step: int) -> npt.NDArray[np.float32]:
        """Pixels around 0 [9, 128, 128, 3]: of random photos, mirrored and transposed at random."""
        rng = np.random.default_rng(step)
        chosen = rng.choice(len(self._photos), BATCH, p=self._shares)
        patches = [_patch(self._photos[number], rng) for number in chosen]
        return np.stack(patches).astype(np.float32) - 128


def _patch(photo: photos.Photo, rng: np.random.Generator) -> photos.Photo:
    row, column = (rng.integers(side - PATCH + 1) for side in photo.shape[:2])
    patch = photo[row : row + PATCH, column : column + PATCH]
    down, right = rng.choice((-1, 1), 2)
    patch = patch[::down, ::right]
    return patch.swapaxes(0, 1) if rng.random() < 0.5 else patch


class Training(tf.Module):  # type: ignore[misc]
    """Weights in training.

    Each weight is a variable times its size, so that a step of Adam changes all of them by as much.

    Args:
      bits: Estimates the bits of latents.
      steps: How many there will be, for the rate of learning.
      pixels: Patches, from which the spreads of latents are learned.
    """

    def __init__(self, bits: Bits, steps: int, pixels: npt.NDArray[np.float32]) -> None:
        super().__init__()
        weights, self._sizes = conditioned(pixels)
        self._bits = bits
        self._variables = {name: tf.Variable(value / self._sizes[name]) for name, value in weights.items()}
        schedule = tf.keras.optimizers.schedules.CosineDecay(
            0.0, max(steps - WARM_UP, 1), alpha=0.02, warmup_target=RATE, warmup_steps=WARM_UP
        )
        self.adam = tf.keras.optimizers.Adam(
            schedule, beta_2=0.99, global_clipnorm=1.0, use_ema=True, ema_momentum=0.999
        )
        self.adam.build(list(self._variables.values()))

    def weights(self) -> dict[str, Any]:
        """The weights by name."""
        return {name: value * self._sizes[name] for name, value in self._variables.items()}

    @tf.function  # type: ignore[untyped-decorator]
    def step(self, pixels: Any, *, hyper_only: bool) -> Any:
        """One step of Adam, of all networks or the hyper networks; returns the loss."""
        chosen = [
            variable
            for name, variable in self._variables.items()
            if not hyper_only or name.startswith(("hyper", "z"))
        ]
        with tf.GradientTape() as tape:
            result = loss(self.weights(), pixels, self._bits)
        self.adam.apply_gradients(zip(tape.gradient(result, chosen), chosen, strict=True))
        return result


def loss(weights: Mapping[str, Any], pixels: Any, bits: Bits) -> Any:
    """Bits per pixel, and what the squared error costs, so weighted that qualities count alike."""
    quality = tf.range(BATCH) % len(networks.QUALITIES)
    gain = tf.exp(tf.gather(weights["log_gain"], quality))[:, None, None]
    y = networks.analysis(LAYERS, weights, pixels) * gain
    z = rounded(networks.hyper_analysis(LAYERS, weights, y))
    indexes, mean = networks.hyper_synthesis(LAYERS, weights, z)
    indexes = tfc.upper_bound(tfc.lower_bound(indexes, 0.0), networks.SCALES - 1.0)
    restored = networks.synthesis(LAYERS, weights, (rounded(y - mean) + mean) / gain)
    z_bits = logistic_bits(z - weights["z/loc"], tf.exp(weights["z/log_scale"]))
    rate_of_all = (z_bits + bits(y, indexes, mean)) / PATCH**2
    cost = tf.gather(networks.LAMBDAS, quality)
    error = tf.reduce_mean(tf.square(pixels - restored), (1, 2, 3))
    return tf.reduce_mean((rate_of_all + cost * error) * tf.sqrt(networks.LAMBDAS[1] / cost))


def held_out_loss(weights: Arrays) -> float:
    """The mean loss of the photos that training never sees, cut into patches, each in every quality."""
    patches = [
        photo[row : row + PATCH, column : column + PATCH]
        for photo in photos.held_out().values()
        for row in range(0, photo.shape[0] - PATCH + 1, PATCH)
        for column in range(0, photo.shape[1] - PATCH + 1, PATCH)
    ]
    each = BATCH // len(networks.QUALITIES)
    batches = [
        np.repeat(patches[first : first + each], len(networks.QUALITIES), axis=0).astype(np.float32) - 128
        for first in range(0, len(patches) - each + 1, each)
    ]
    return float(np.mean([loss(weights, batch, latents_bits) for batch in batches]))


def conditioned(pixels: npt.NDArray[np.float32]) -> tuple[Arrays, dict[str, npt.NDArray[np.float32]]]:
    """Initial weights, and the size of each: from the spread of latents, which differs a hundredfold."""
    weights = networks.initial_weights()
    latents = networks.analysis(networks.NumpyLayers(), weights, pixels).reshape(-1, networks.LATENTS)
    spread = np.maximum(latents.std(axis=0), 0.02)
    unit = networks.UNIT / networks.STEPS[1]
    sizes = {name: np.ones(1, np.float32) for name in weights}
    for name in weights:
        if name.endswith("narrow/kernel"):
            sizes[name] = 1 / spread[:, None]
        elif "/widen/" in name:
            sizes[name] = spread
    sizes["hyper_analysis/0/kernel"] = np.tile(1 / (unit * spread[:, None]), (2, 1))
    last = np.concatenate([np.full(networks.LATENTS, 8, np.float32), unit * spread])
    sizes["hyper_synthesis/5/kernel"] = sizes["hyper_synthesis/5/bias"] = last
    for name, size in sizes.items():
        weights[name] *= size
    # A logistic distribution has half the scale of a Gaussian of the same spread, and a little more.
    index = np.log(0.55 * np.maximum(unit * spread, 0.2) / networks.LOWEST_SCALE) / networks.LOG_RATIO
    weights["hyper_synthesis/5/bias"] = np.concatenate([index, unit * latents.mean(axis=0)]).astype(
        np.float32
    )
    transforms = {"analysis/transform": 1 / networks.UNIT, "synthesis/transform": networks.UNIT}
    for name in weights:
        if name.endswith(("transform", "averages")):
            sizes[name] = np.full(1, TRANSFORM_RATE * transforms.get(name, 1), np.float32)
        elif name.startswith(("analysis", "synthesis")):
            sizes[name] = np.float32(RESIDUAL_RATE) * sizes[name]
    return weights, sizes


def rounded(x: Any) -> Any:
    """Rounds to integers; the gradient is that of x."""
    return x + tf.stop_gradient(tf.round(x) - x)


def latents_bits(y: Any, indexes: Any, mean: Any) -> Any:
    """Bits [batch] of latents, rounded, from indexes of scales and means."""
    return logistic_bits(rounded(y - mean), networks.LOWEST_SCALE * tf.exp(networks.LOG_RATIO * indexes))


def logistic_bits(symbols: Any, scale: Any) -> Any:
    """Bits [batch] of integers [batch, height, width, channels] under logistic distributions."""
    distance = tf.abs(symbols)
    probability = tf.sigmoid((0.5 - distance) / scale) - tf.sigmoid((-0.5 - distance) / scale)
    logarithm = tf.math.log(tfc.lower_bound(probability, LEAST_PROBABILITY))
    return tf.reduce_sum(logarithm, (1, 2, 3)) / -np.log(2).astype(np.float32)


def train(bits: Bits, steps: int, folder: Path) -> dict[str, npt.NDArray[np.float32]]:
    """The weights after so many steps, from the newest checkpoint in the folder on."""
    patches = Patches()
    training = Training(bits, steps, np.concatenate([*map(patches.batch, SPREAD_PATCHES)]))
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(training), str(folder), max_to_keep=1)
    manager.restore_or_initialize()
    console = Console(stderr=True)
    with Progress(
        *Progress.get_default_columns(), console=console, disable=not console.is_terminal
    ) as progress:
        begun = int(training.adam.iterations)
        bar = progress.add_task("training", total=steps, completed=begun)
        losses = []
        for step in range(begun + 1, steps + 1):
            losses.append(training.step(patches.batch(step), hyper_only=step <= HYPER_STEPS))
            progress.advance(bar)
            if step % REPORT == 0 or step == steps:
                progress.print(f"{step} steps: loss {np.mean(losses):.3f}")
                losses.clear()
                manager.save()
    training.adam.finalize_variable_values(list(training.trainable_variables))
    return {name: value.numpy() for name, value in training.weights().items()}


if __name__ == "__main__":
    main()
