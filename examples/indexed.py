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

arguments = argparse.ArgumentParser(description="latents with a scale for each element")
arguments.add_argument("--server", help="server to use; by default one is started")
options = arguments.parse_args()
# In place of a network: which of 64 scales from 0.11 to 256 each element has, and its mean.
rng = np.random.default_rng(0)
indexes = rng.integers(0, 50, (8, 32, 48, 64))
loc = rng.normal(0, 10, indexes.shape).astype(np.float32)
scale = 0.11 * (256 / 0.11) ** (indexes / 63)
y = rng.normal(loc, scale).astype(np.float32)
with ExitStack() as stack:
    client = stack.enter_context(entropyd.Client(options.server or stack.enter_context(LocalServer()).target))
    prior = priors.indexed("NoisyNormal", index_ranges=(64,), loc=0.0, scale=priors.log_spaced(0.11, 256.0))
    model = client.create_model(entropyd.LocationScaleIndexedConfig(prior=prior, coding_rank=3))
    compressed = model.compress(y, indexes, loc)
    restored = model.decompress(compressed, indexes, loc)
symbols = np.round(y - loc)
probabilities = ndtr((symbols + 0.5) / scale) - ndtr((symbols - 0.5) / scale)
entropy, bits = -np.log2(probabilities).sum(), 8 * len(compressed.payload)
print(f"entropy {entropy:.0f} bits, coded in {bits} bits, largest error {np.abs(y - restored).max():.3f}")
