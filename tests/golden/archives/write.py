"""Writes the golden archives: run `python -m tests.golden.archives.write NAME...`; nothing else does.

It starts a server of its own, makes the models and writes `NAME.entropyd` and the restored array, `NAME.npy`.
A name that is there already is refused: these files stand for archives that people have on their disks, so a
change that cannot read them is a mistake, whatever it says here. New features get new names.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

import entropyd
from entropyd import priors
from entropyd.archive import ArchiveWriter, EmbeddedModel
from entropyd_server.local import LocalServer

FOLDER = Path(__file__).parent

CHANNELS = priors.NoisyNormal(loc=[0.0, 1.0, -2.0], scale=[0.5, 2.0, 6.0])
WIDE = priors.NoisyLaplace(loc=np.float64(0.25), scale=np.float64(40.0))

# name: (prior, other arguments of the configuration, shape, metadata)
CASES: dict[str, tuple[entropyd.Prior, dict[str, Any], tuple[int, ...], dict[str, Any]]] = {
    "batch": (CHANNELS, {"coding_rank": 2}, (7, 5, 3), {}),
    "grid_with_metadata": (CHANNELS, {"coding_rank": 2}, (2, 3, 4, 3), {"sensor": "left", "gains": [1, 0.5]}),
    "single_unit": (CHANNELS, {"coding_rank": 2}, (6, 3), {}),
    "no_items": (CHANNELS, {"coding_rank": 2}, (0, 6, 3), {}),
    "empty_units": (CHANNELS, {"coding_rank": 2}, (4, 0, 3), {}),
    "several_blocks": (
        priors.NoisyLaplace(loc=0.0, scale=300.0),
        {"coding_rank": 1, "bottleneck_dtype": "float16", "range_coder_precision": 16, "num_noise_levels": 3},
        (3000, 20),
        {},
    ),
    "float64_precision_16": (
        WIDE,
        {"coding_rank": 1, "bottleneck_dtype": "float64", "range_coder_precision": 16, "num_noise_levels": 3},
        (9, 11),
        {},
    ),
    "float16": (CHANNELS, {"coding_rank": 2, "bottleneck_dtype": "float16"}, (3, 5, 3), {}),
}


def main() -> None:
    names = sys.argv[1:] or sys.exit(f"name what to write, of: {', '.join(CASES)}")
    there = [name for name in names if (FOLDER / f"{name}.entropyd").exists()]
    if there:
        sys.exit(f"golden archives are never written again: {', '.join(there)}")
    with LocalServer() as server, entropyd.Client(server.target) as client:
        for name in names:
            write(client, name)


def write(client: entropyd.Client, name: str) -> None:
    prior, arguments, shape, metadata = CASES[name]
    model = client.create_model(entropyd.UniversalBatchedConfig(prior=prior, **arguments))
    scale = 300 if name == "several_blocks" else 3
    x = np.random.default_rng(6).laplace(0, scale, shape).astype(model.bottleneck_dtype)
    compressed = model.compress(x)
    embedded = EmbeddedModel.of(model)
    with ArchiveWriter(FOLDER / f"{name}.entropyd", metadata=metadata, model=embedded) as writer:
        writer.append(compressed)
    np.save(FOLDER / f"{name}.npy", model.decompress(compressed))


if __name__ == "__main__":
    main()
