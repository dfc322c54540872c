"""The codec's four networks, written once: NumPy codes with them, TensorFlow trains them.

A photo is cut into blocks of 8x8 pixels. Analysis makes 192 latents of each block, synthesis makes pixels of
latents. Both are a linear transform of overlapping windows of 16x16 pixels, which starts as a discrete cosine
transform, and some residual layers. Hyper-analysis makes `z` of the latents, one vector for 2x2 blocks, and
hyper-synthesis predicts from `z` mean and scale of each latent, as in Minnen, Ballé and Toderici, "Joint
Autoregressive and Hierarchical Priors for Learned Image Compression" (2018), without the autoregressive part.

All qualities share the weights but one gain for each latent: the latents are multiplied by it before they are
rounded, and divided after.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import scipy.fft

BLOCK = 8
# Blocks, in height and width, for which there is one vector of `z`.
REACH = 4
# What a photo's height and width are padded to a multiple of.
TILE = REACH * BLOCK
LATENTS = 3 * BLOCK * BLOCK
HYPER_LATENTS = 32
WIDTH = 64
DEPTHS = {"analysis": 3, "synthesis": 4}

# Scales of the latents' logistic distributions: 64, each 1.13 times the one before.
LOWEST_SCALE, HIGHEST_SCALE, SCALES = 0.06, 128.0, 64
LOG_RATIO = float(np.log(HIGHEST_SCALE / LOWEST_SCALE) / (SCALES - 1))

# Steps between latents at the beginning, in levels of 8-bit pixels, and what a squared error costs in bits.
STEPS = (90.0, 52.0, 30.0)
LAMBDAS = (0.0032, 0.0096, 0.029)
QUALITIES = ("low", "medium", "high")

Array = Any
Weights = Mapping[str, Array]


class Layers(Protocol):
    """What the networks are made of. Arrays are [batch, height, width, channels]."""

    def convolve(self, x: Array, kernel: Array, bias: Array | None = None) -> Array:
        """Correlation with a kernel [rows, columns, inputs, outputs], without padding."""

    def pad(self, x: Array, width: int) -> Array:
        """Mirrors height and width at their edges, the values at the edges included."""

    def to_depth(self, x: Array, size: int) -> Array:
        """Moves blocks of size x size into channels, row by row."""

    def to_space(self, x: Array, size: int) -> Array:
        """The inverse of `to_depth`."""

    def join(self, x: Array, y: Array) -> Array:
        """All channels of x, then those of y."""

    def rectify(self, x: Array) -> Array:
        """Leaky rectifier: x where it is positive, x / 8 elsewhere."""


def analysis(layers: Layers, weights: Weights, pixels: Array) -> Array:
    """Pixels around 0 [batch, height, width, 3] to latents of gain 1 [batch, height / 8, width / 8, 192]."""
    windows = layers.to_depth(layers.pad(pixels, BLOCK // 2), BLOCK)
    latents = layers.convolve(windows, weights["analysis/transform"])
    return _averages(layers, weights["analysis/averages"], _residual(layers, weights, "analysis", latents))


def synthesis(layers: Layers, weights: Weights, latents: Array) -> Array:
    """The inverse of `analysis`, as far as latents allow."""
    latents = _averages(layers, weights["synthesis/averages"], latents)
    latents = layers.pad(_residual(layers, weights, "synthesis", latents), 1)
    windows = layers.convolve(latents, weights["synthesis/transform"])
    return layers.to_space(windows, BLOCK)[:, BLOCK // 2 : -BLOCK // 2, BLOCK // 2 : -BLOCK // 2]


def hyper_analysis(layers: Layers, weights: Weights, scaled: Array) -> Array:
    """Latents times their gains to z [batch, height / 32, width / 32, 32]."""
    signed = layers.join(scaled, abs(scaled))
    hidden = layers.rectify(_dense(layers, weights, "hyper_analysis/0", signed))
    hidden = layers.rectify(_dense(layers, weights, "hyper_analysis/1", layers.to_depth(hidden, 2)))
    hidden = layers.rectify(_dense(layers, weights, "hyper_analysis/2", layers.to_depth(hidden, 2)))
    return _same(layers, weights, "hyper_analysis/3", hidden)


def hyper_synthesis(layers: Layers, weights: Weights, z: Array) -> tuple[Array, Array]:
    """Predicts scale indexes, 0 to 63, and means of the latents times their gains from `z`.

    Indexes are neither integers yet nor within their range.
    """
    hidden = layers.rectify(_same(layers, weights, "hyper_synthesis/0", z))
    hidden = layers.rectify(layers.to_space(_dense(layers, weights, "hyper_synthesis/1", hidden), 2))
    hidden = layers.rectify(_same(layers, weights, "hyper_synthesis/2", hidden))
    hidden = layers.rectify(layers.to_space(_dense(layers, weights, "hyper_synthesis/3", hidden), 2))
    hidden = layers.rectify(_same(layers, weights, "hyper_synthesis/4", hidden))
    found = _dense(layers, weights, "hyper_synthesis/5", hidden)
    return found[..., :LATENTS], found[..., LATENTS:]


def _residual(layers: Layers, weights: Weights, network: str, latents: Array) -> Array:
    for depth in range(DEPTHS[network]):
        hidden = layers.rectify(_dense(layers, weights, f"{network}/{depth}/narrow", latents))
        hidden = layers.rectify(_same(layers, weights, f"{network}/{depth}/mix", hidden))
        latents = latents + _dense(layers, weights, f"{network}/{depth}/widen", hidden)
    return latents


def _averages(layers: Layers, kernel: Array, latents: Array) -> Array:
    """Transforms the averages of each 4x4 blocks, which resemble each other, in their places."""
    averages = layers.convolve(layers.to_depth(latents[..., :3], REACH), kernel)
    return layers.join(layers.to_space(averages, REACH), latents[..., 3:])


def _dense(layers: Layers, weights: Weights, name: str, x: Array) -> Array:
    return layers.convolve(x, weights[f"{name}/kernel"], weights[f"{name}/bias"])


def _same(layers: Layers, weights: Weights, name: str, x: Array) -> Array:
    return _dense(layers, weights, name, layers.pad(x, 1))


class NumpyLayers:
    """The layers in NumPy: a convolution is a matrix product for each place in the kernel."""

    def convolve(self, x: Array, kernel: Array, bias: Array | None = None) -> Array:
        rows, columns = kernel.shape[:2]
        height, width = x.shape[1] - rows + 1, x.shape[2] - columns + 1
        total = np.zeros((*x.shape[:1], height, width, kernel.shape[3]), x.dtype)
        for row in range(rows):
            for column in range(columns):
                total += x[:, row : row + height, column : column + width] @ kernel[row, column]
        return total if bias is None else total + bias

    def pad(self, x: Array, width: int) -> Array:
        return np.pad(x, [(0, 0), (width, width), (width, width), (0, 0)], mode="symmetric")

    def to_depth(self, x: Array, size: int) -> Array:
        batch, height, width, channels = x.shape
        blocks = x.reshape(batch, height // size, size, width // size, size, channels)
        return blocks.swapaxes(2, 3).reshape(batch, height // size, width // size, -1)

    def to_space(self, x: Array, size: int) -> Array:
        batch, height, width, channels = x.shape
        blocks = x.reshape(batch, height, width, size, size, channels // size**2)
        return blocks.swapaxes(2, 3).reshape(batch, height * size, width * size, -1)

    def join(self, x: Array, y: Array) -> Array:
        return np.concatenate([x, y], axis=-1)

    def rectify(self, x: Array) -> Array:
        return np.maximum(x, x / 8)


def initial_weights(seed: int = 0) -> dict[str, npt.NDArray[np.float32]]:
    """Weights to begin training with: a cosine transform, and residual layers that do nothing yet."""
    rng = np.random.default_rng(seed)
    weights: dict[str, npt.NDArray[np.float32]] = {}

    def add(name: str, shape: tuple[int, ...], scale: float = 1.0) -> None:
        deviation = scale * np.sqrt(2 / np.prod(shape[:-1]))
        weights[f"{name}/kernel"] = rng.normal(0, deviation, shape).astype(np.float32)
        weights[f"{name}/bias"] = np.zeros(shape[-1], np.float32)

    cosine = scipy.fft.dct(np.eye(REACH), norm="ortho", axis=0)
    averages = np.einsum("ur,vc,kp->rckuvp", cosine, cosine, np.eye(3)).reshape(1, 1, 3 * REACH**2, -1)
    weights["analysis/averages"] = averages.astype(np.float32)
    weights["synthesis/averages"] = averages.swapaxes(2, 3).astype(np.float32)
    forward, backward = _cosine_transform()
    for network, transform in (("analysis", forward), ("synthesis", backward)):
        weights[f"{network}/transform"] = transform.astype(np.float32)
        for depth in range(DEPTHS[network]):
            add(f"{network}/{depth}/narrow", (1, 1, LATENTS, WIDTH))
            add(f"{network}/{depth}/mix", (3, 3, WIDTH, WIDTH))
            add(f"{network}/{depth}/widen", (1, 1, WIDTH, LATENTS), scale=0)
    add("hyper_analysis/0", (1, 1, 2 * LATENTS, WIDTH))
    add("hyper_analysis/1", (1, 1, 4 * WIDTH, WIDTH))
    add("hyper_analysis/2", (1, 1, 4 * WIDTH, WIDTH))
    add("hyper_analysis/3", (3, 3, WIDTH, HYPER_LATENTS), scale=0.5)
    add("hyper_synthesis/0", (3, 3, HYPER_LATENTS, WIDTH))
    add("hyper_synthesis/1", (1, 1, WIDTH, 4 * WIDTH))
    add("hyper_synthesis/2", (3, 3, WIDTH, WIDTH))
    add("hyper_synthesis/3", (1, 1, WIDTH, 4 * WIDTH))
    add("hyper_synthesis/4", (3, 3, WIDTH, 2 * WIDTH))
    add("hyper_synthesis/5", (1, 1, 2 * WIDTH, 2 * LATENTS), scale=0.1)
    weights["log_gain"] = np.log(UNIT / np.outer(STEPS, np.ones(LATENTS))).astype(np.float32)
    weights["z/loc"] = np.zeros(HYPER_LATENTS, np.float32)
    weights["z/log_scale"] = np.full(HYPER_LATENTS, np.log(0.5), np.float32)
    return weights


# Pixel levels for each unit of latents of gain 1.
UNIT = 20.0


def _cosine_transform() -> tuple[Array, Array]:
    """Kernels [2, 2, 192, 192] of analysis and synthesis: 8x8 cosine transform, and orthonormal colours.

    Windows of 2x2 blocks that begin half a block earlier; the transform fills their middle.
    """
    cosine = scipy.fft.dct(np.eye(BLOCK), norm="ortho", axis=0)
    colour = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
    # [row, column, colour] of pixels to [vertical frequency, horizontal frequency, component].
    basis = np.einsum("ur,vc,kp->rcpuvk", cosine, cosine, colour).reshape(BLOCK, BLOCK, 3, LATENTS)
    window = np.zeros((2 * BLOCK, 2 * BLOCK, 3, LATENTS))
    window[BLOCK // 2 : -BLOCK // 2, BLOCK // 2 : -BLOCK // 2] = basis
    kernel = window.reshape(2, BLOCK, 2, BLOCK, 3, LATENTS).swapaxes(1, 2).reshape(2, 2, LATENTS, LATENTS)
    # A block of pixels lies in the windows before it and after: the kernel backwards.
    return kernel / UNIT, kernel[::-1, ::-1].swapaxes(2, 3) * UNIT


def gain(weights: Weights, quality: int) -> Array:
    """What latents are multiplied by before they are rounded [192]."""
    return np.exp(weights["log_gain"][quality])
