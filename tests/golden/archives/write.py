"""Writes the golden archives: run `python -m tests.golden.archives.write NAME...`; nothing else does.

It starts a server of its own, makes the models and writes `NAME.entropyd` and the restored array, `NAME.npy`;
of a model with indexes also these, `NAME.indexes.npy`. Of a bundle, `NAME.PART.npy` are those of its parts.
A name that is there already is refused: these files stand for archives that people have on their disks, so a
change that cannot read them is a mistake, whatever it says here. New features get new names.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import entropyd
from entropyd import bounded, priors
from entropyd.archive import ArchiveWriter, EmbeddedModel, ExactElements
from entropyd.bounded import BoundedTensor, ErrorBound
from entropyd_server.local import LocalServer

if TYPE_CHECKING:
    import numpy.typing as npt

    from entropyd import ModelConfig
    from entropyd.contract.kinds.indexed import IndexedConfig

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
    "exact_elements": (CHANNELS, {"coding_rank": 2}, (7, 5, 3), {"fill": -9999.0}),
    "exact_single_unit": (WIDE, {"coding_rank": 1, "bottleneck_dtype": "float64"}, (40,), {}),
    "exact_in_some_blocks": (
        priors.NoisyLaplace(loc=0.0, scale=300.0),
        {"coding_rank": 1, "bottleneck_dtype": "float16", "range_coder_precision": 16, "num_noise_levels": 3},
        (5000, 20),
        {},
    ),
    "bounded": (CHANNELS, {"coding_rank": 2}, (5, 6, 3), {}),
    "bounded_with_exact_elements": (CHANNELS, {"coding_rank": 2}, (9, 20, 3), {}),
}
# name: (items that have exact elements, bit patterns of those).
EXACT: dict[str, tuple[slice, list[int]]] = {
    "exact_elements": (
        slice(None),
        [0x7FC00000, 0xFF812345, 0x80000000, 0xC61C3C00],
    ),  # NaN, NaN, -0.0, -9999
    "exact_single_unit": (slice(None), [0x7FF8000000000000, 0xC0C3878000000000]),
    "exact_in_some_blocks": (slice(2600, 4000), [0x7E00, 0xF0E2]),
    "indexed_with_exact_elements": (slice(1, 3), [0x7FC00000, 0x80000000]),
}

# Those that keep a bound on the error of each element. The first has a step as it was when it followed from
# the data as well.
BOUNDS = {
    "bounded": ErrorBound(max_error=0.02, step=0.0387, dtype="float64"),
    "bounded_with_exact_elements": ErrorBound.holding(0.02, np.zeros(0, np.float32), "float32"),
}
MISSING = (-9999.0, 0.0)
WITH_EXACT = {*EXACT, "bounded_with_exact_elements"}

SCALES = priors.indexed("NoisyNormal", (16,), loc=0.0, scale=priors.log_spaced(0.11, 32.0))
GRID = priors.indexed(
    "NoisyLogistic", (2, 3), loc=priors.affine(-2.0, 4.0), scale=priors.table([0.5, 1.0, 6.0], axis=1)
)
# Archives of models with indexes, of format version 3.
# name: (configuration, shape, number of the first unit)
INDEXED: dict[str, tuple[IndexedConfig, tuple[int, ...], int]] = {
    "indexed": (entropyd.LocationScaleIndexedConfig(SCALES, 2), (4, 5, 3), 0),
    "indexed_with_unit_numbers": (
        entropyd.UniversalIndexedConfig(GRID, 1, num_noise_levels=2, bottleneck_dtype="float16"),
        (2, 3, 4),
        5,
    ),
    "indexed_with_exact_elements": (entropyd.ContinuousIndexedConfig(GRID, 2), (4, 5, 3), 0),
}
# Bundles, of format version 4.
# name: {part: (configuration, shape, number of the first unit)}
BUNDLES: dict[str, dict[str, tuple[ModelConfig, tuple[int, ...], int]]] = {
    "bundle": {
        "z": (entropyd.ContinuousBatchedConfig(CHANNELS, 2), (2, 4, 3), 0),
        "y": (entropyd.LocationScaleIndexedConfig(SCALES, 3), (2, 4, 5, 3), 0),
    },
    "bundle_of_every_shape": {
        "grid": (entropyd.UniversalBatchedConfig(CHANNELS, 2), (2, 3, 4, 3), 0),
        "no_items": (entropyd.UniversalBatchedConfig(CHANNELS, 2), (0, 6, 3), 0),
        "two_blocks": (entropyd.UniversalBatchedConfig(CHANNELS, 2), (65540, 0, 3), 0),
        "numbered": (INDEXED["indexed_with_unit_numbers"][0], (2, 3, 4), 5),
        "one_unit": (entropyd.UniversalBatchedConfig(CHANNELS, 2), (6, 3), 0),
    },
}
BUNDLE_METADATA = {"photo": "coffee"}
NAMES = {*CASES, *INDEXED, *BUNDLES}


def main() -> None:
    names = sys.argv[1:] or sys.exit(f"name what to write, of: {', '.join(sorted(NAMES))}")
    there = [name for name in names if (FOLDER / f"{name}.entropyd").exists()]
    if there:
        sys.exit(f"golden archives are never written again: {', '.join(there)}")
    with LocalServer() as server, entropyd.Client(server.target) as client:
        for name in names:
            (write_indexed if name in INDEXED else write_bundle if name in BUNDLES else write)(client, name)


def write(client: entropyd.Client, name: str) -> None:
    prior, arguments, shape, metadata = CASES[name]
    model = client.create_model(entropyd.UniversalBatchedConfig(prior=prior, **arguments))
    if name in BOUNDS:
        write_bounded(model, name, shape)
        return
    scale = 300 if name.endswith("_blocks") else 3
    x = np.random.default_rng(6).laplace(0, scale, shape).astype(model.bottleneck_dtype)
    compressed, exact = model.compress(x), exact_of(name, x)
    save(name, model, compressed, exact, metadata)
    np.save(FOLDER / f"{name}.npy", exact.applied(model.decompress(compressed)))


def write_indexed(client: entropyd.Client, name: str) -> None:
    config, shape, first_unit = INDEXED[name]
    model = client.create_model(config)
    x, indexes = array_of(model, shape)
    assert indexes is not None
    compressed = model.compress(x, indexes, first_unit=first_unit)
    exact = exact_of(name, x)
    save(name, model, compressed, exact, {})
    np.save(FOLDER / f"{name}.indexes.npy", indexes)
    np.save(FOLDER / f"{name}.npy", exact.applied(model.decompress(compressed, indexes)))


def write_bundle(client: entropyd.Client, name: str) -> None:
    parts, models = {}, []
    for part, (config, shape, first_unit) in BUNDLES[name].items():
        model = client.create_model(config)
        x, indexes = array_of(model, shape)
        parts[part] = model.compress(x, indexes, first_unit=first_unit)
        models.append(EmbeddedModel.of(model))
        if indexes is not None:
            np.save(FOLDER / f"{name}.{part}.indexes.npy", indexes)
        np.save(FOLDER / f"{name}.{part}.npy", model.decompress(parts[part], indexes))
    entropyd.pack(parts, metadata=BUNDLE_METADATA).save(FOLDER / f"{name}.entropyd", models=models)


def array_of(
    model: entropyd.Model, shape: tuple[int, ...]
) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8] | None]:
    """An array for a model, and indexes if it takes any."""
    rng = np.random.default_rng(8)
    x = rng.laplace(0, 3, shape).astype(model.bottleneck_dtype)
    if model.index_ranges is None:
        return x, None
    several = getattr(model.config, "channel_axis", None) == -1
    ranges = model.index_ranges if several else model.index_ranges[0]
    return x, rng.integers(0, ranges, shape + np.shape(ranges)).astype(np.uint8)


def save(
    name: str,
    model: entropyd.Model,
    compressed: entropyd.CompressedTensor,
    exact: ExactElements,
    metadata: dict[str, Any],
) -> None:
    exact_dtype = exact.dtype if len(exact) else None
    target, embedded = FOLDER / f"{name}.entropyd", EmbeddedModel.of(model)
    with ArchiveWriter(target, metadata=metadata, model=embedded, exact_dtype=exact_dtype) as writer:
        writer.append(compressed, exact)


def exact_of(name: str, x: npt.NDArray[Any]) -> ExactElements:
    """Runs of exact elements in the case's items, as missing values are in a row of measurements."""
    if name not in EXACT:
        return ExactElements.none(x.dtype, x.size)
    items, patterns = EXACT[name]
    rng = np.random.default_rng(7)
    bits = rng.choice(np.array(patterns, f"<u{x.dtype.itemsize}"), x.size).repeat(3)[: x.size]
    mask = np.zeros(x.shape, np.bool_)
    mask[items] = (rng.random(x.size).repeat(4)[: x.size] < 0.3).reshape(x.shape)[items]
    return ExactElements.of(bits.view(x.dtype).reshape(x.shape), mask)


def write_bounded(model: entropyd.Model, name: str, shape: tuple[int, ...]) -> None:
    """Data around 0; for exact elements with gaps, values beside them, and large ones that rounding moves."""
    bound = BOUNDS[name]
    x = np.random.default_rng(6).laplace(0, 0.1, shape).astype(bound.dtype)
    if name == "bounded_with_exact_elements":
        flat = x.reshape(-1)
        flat[::7], flat[3::11], flat[40:90], flat[100:110] = np.nan, -9999.0, 0.0, -0.0
        flat[120:180] = np.linspace(-0.01, 0.01, 60)
        flat[200:] += np.linspace(0, 2000, flat.size - 200).astype(np.float32)
        tensor = bounded.compress(model, x, bound.max_error, MISSING)
        assert tensor.bound == bound
    else:
        compressed = model.compress(bound.bottleneck(x, model.bottleneck_dtype))
        tensor = BoundedTensor(compressed, bound, ExactElements.none(bound.dtype))
    save(name, model, tensor.compressed, tensor.exact, bound.metadata)
    np.save(FOLDER / f"{name}.npy", bounded.decompress(model, tensor))


if __name__ == "__main__":
    main()
