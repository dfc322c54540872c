"""Latents with a scale and a mean for each element, as a hyperprior predicts them, coded at their entropy.

    python examples/indexed.py [--server HOST:PORT]

Without --server it starts a server of its own. docs/hyperprior.md has the rest of such a codec.
"""

import argparse
from contextlib import ExitStack

import numpy as np
from scipy.special import ndtr

import entropyd
from entropyd import priors
from entropyd_server.local import LocalServer

arguments = argparse.ArgumentParser(description="latents with a scale for each element, coded at their entropy")
arguments.add_argument("--server", help="server to use; by default one is started")
options = arguments.parse_args()
rng = np.random.default_rng(0)
indexes = rng.integers(0, 50, (8, 32, 48, 64))  # of 64 scales from 0.11 to 256; a network predicts
scale = 0.11 * (256 / 0.11) ** (indexes / 63)  # them, and loc
loc = rng.normal(0, 10, indexes.shape).astype(np.float32)
y = rng.normal(loc, scale).astype(np.float32)
with ExitStack() as stack:
    server = options.server or stack.enter_context(LocalServer()).target
    client = stack.enter_context(entropyd.Client(server))
    prior = priors.indexed("NoisyNormal", index_ranges=(64,), loc=0.0, scale=priors.log_spaced(0.11, 256.0))
    model = client.create_model(entropyd.LocationScaleIndexedConfig(prior=prior, coding_rank=3))
    compressed = model.compress(y, indexes, loc)
    restored = model.decompress(compressed, indexes, loc)
symbols = np.round(y - loc)
probabilities = ndtr((symbols + 0.5) / scale) - ndtr((symbols - 0.5) / scale)
entropy, bits = -np.log2(probabilities).sum(), 8 * len(compressed.payload)
print(f"entropy {entropy / y.size:.4f} bits per symbol, coded {bits / y.size:.4f}")
print(f"{bits / entropy - 1:.2%} more than the entropy; largest error {np.abs(y - restored).max():.3f}")
