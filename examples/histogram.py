"""A histogram as a model: the DCT coefficients of a photo, coded at their empirical entropy.

    python examples/histogram.py [--server HOST:PORT]

Without --server it starts a server of its own. docs/tables.md has more on rows of integers.
"""

import argparse
from contextlib import ExitStack

import numpy as np
import scipy.fft
import skimage.data

import entropyd
from entropyd import tables
from entropyd_server.local import LocalServer

arguments = argparse.ArgumentParser(description="a photo's coefficients, coded with their histograms")
arguments.add_argument("--server", help="server to use; by default one is started")
options = arguments.parse_args()
# 64 x 64 blocks of 8 x 8 pixels, 64 coefficients each: integers in steps of 8.
blocks = skimage.data.astronaut().mean(axis=-1).reshape(64, 8, 64, 8).swapaxes(1, 2)
x = np.rint(scipy.fft.dctn(blocks, axes=(2, 3), norm="ortho") / 8).reshape(64, 64, 64).astype(np.float32)
low = x.min(axis=(0, 1)).astype(int)
histograms = [np.bincount(column) for column in (x.astype(int) - low).reshape(-1, 64).T]
with ExitStack() as stack:
    client = stack.enter_context(entropyd.Client(options.server or stack.enter_context(LocalServer()).target))
    rows = tables.from_counts(histograms)
    model = client.create_model(entropyd.TabulatedConfig(rows, low, coding_rank=3))
    compressed = model.compress(x)
    error = np.abs(model.decompress(compressed) - x).max()
entropy = sum(-(n[n > 0] * np.log2(n[n > 0] / n.sum())).sum() for n in histograms)
bits = 8 * len(compressed.payload)
more = 100 * (bits / entropy - 1)
print(f"entropy {entropy:.0f} bits, coded in {bits} bits, {more:.3f} % more, largest error {error:.0f}")
