"""Transform coding of photos through an entropyd server, end to end.

    python examples/photos.py --output demo-output [--server HOST:PORT] [--step 16]

Each photo is split into 8x8 blocks, transformed (DCT of Y, Cb and Cr: 192 coefficients per block) and divided
by a step. That array is the bottleneck. The server quantizes it, codes it with a Laplace prior per
coefficient, fitted on three of the photos, and restores it with noise of known variance. The decoder damps
that noise and inverts the transform.

Without --server it starts a server of its own on a Unix socket, with a store in a temporary folder.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import scipy.fft
import skimage.data
from rich.console import Console
from rich.progress import track
from rich.table import Table

import entropyd
from entropyd import priors
from entropyd_server.local import LocalServer

if TYPE_CHECKING:
    import numpy.typing as npt

    Photo = npt.NDArray[np.uint8]
    Floats = npt.NDArray[np.float32]

BLOCK = 8
FITTED = ("astronaut", "coffee", "rocket")
NEW = ("chelsea", "hubble_deep_field", "retina")
# Rows of Y, Cb, Cr over R, G, B: ITU-R BT.601, as in JPEG.
YCBCR = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
# Y is centred on 0, as Cb and Cr are.
LEVEL = np.array([128, 0, 0])


@dataclass
class Result:
    """The result of coding one photo."""

    name: str
    original: Photo
    restored: Photo
    compressed_bytes: int
    compress_ms: float
    decompress_ms: float
    largest_error: float

    @property
    def bits_per_pixel(self) -> float:
        """Bits of the bit string per pixel."""
        return 8 * self.compressed_bytes / (self.original.shape[0] * self.original.shape[1])

    @property
    def psnr_db(self) -> float:
        """Peak signal-to-noise ratio of the restored photo."""
        return psnr_db(self.original, self.restored)


def main() -> None:
    """Runs the demo and fails if a promise does not hold."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--output", type=Path, default=Path("demo-output"), help="folder for the picture")
    arguments.add_argument("--server", help="server to use; default: one of its own")
    arguments.add_argument("--step", type=float, default=16.0, help="quantization step of the coefficients")
    options = arguments.parse_args()
    with contextlib.ExitStack() as stack:
        target = options.server or stack.enter_context(own_server()).target
        client = stack.enter_context(entropyd.Client(target))
        results = run(client, options.step)
    show(results)
    options.output.mkdir(parents=True, exist_ok=True)
    picture = options.output / "photos.png"
    draw(results, picture)
    print(f"picture: {picture}")
    worst = max(result.largest_error for result in results)
    print(f"largest |bottleneck - restored|: {worst:.6f} (promised: 1/2)")
    if worst > 0.5 + 1e-4:  # float32 keeps coefficients of a few hundred to about 1e-5
        sys.exit("the error bound of universal quantization does not hold")


def own_server() -> LocalServer:
    """A server for this run only."""
    print("starting a server (TensorFlow takes some seconds to load) ...", flush=True)
    return LocalServer()


def run(client: entropyd.Client, step: float) -> list[Result]:
    """Fits a prior on some photos, registers the model, and codes all of them."""
    photos = {name: getattr(skimage.data, name)() for name in (*FITTED, *NEW)}
    bottlenecks = {name: analyse(photo, step) for name, photo in photos.items()}
    samples = np.concatenate([bottlenecks[name].reshape(-1, 3 * BLOCK * BLOCK) for name in FITTED])
    loc = np.median(samples, axis=0)
    # The mean absolute deviation is a Laplace distribution's scale; the floor keeps rare values affordable.
    scale = np.maximum(np.abs(samples - loc).mean(axis=0), 0.05)
    started = time.perf_counter()
    model = client.create_model(
        entropyd.UniversalBatchedConfig(
            prior=priors.NoisyLaplace(loc=loc, scale=scale), coding_rank=3, tail_mass=2**-10
        )
    )
    print(f"model {model.id}")
    print(f"{model.info.table_rows} rows of coding tables, {time.perf_counter() - started:.1f} s to build")
    return [
        code(model, name, photos[name], bottlenecks[name], step)
        for name in track(photos, "coding", disable=not sys.stdout.isatty())
    ]


def code(model: entropyd.Model, name: str, photo: Photo, bottleneck: Floats, step: float) -> Result:
    """Compresses one photo, restores it, and compares."""
    started = time.perf_counter()
    compressed = model.compress(bottleneck)
    halfway = time.perf_counter()
    restored = model.decompress(compressed)
    ended = time.perf_counter()
    return Result(
        name=name,
        original=photo,
        restored=synthesise(damp(restored, model.prior), step, photo.shape[:2]),
        compressed_bytes=len(compressed.payload),
        compress_ms=1e3 * (halfway - started),
        decompress_ms=1e3 * (ended - halfway),
        largest_error=float(np.abs(bottleneck - restored).max()),
    )


def analyse(photo: Photo, step: float) -> Floats:
    """Photo [height, width, 3] to bottleneck [height / 8, width / 8, 192], edges repeated to whole blocks."""
    planes = photo.astype(np.float64) @ YCBCR.T - LEVEL
    height, width = photo.shape[:2]
    planes = np.pad(planes, [(0, -height % BLOCK), (0, -width % BLOCK), (0, 0)], mode="edge")
    rows, columns = planes.shape[0] // BLOCK, planes.shape[1] // BLOCK
    blocks = planes.reshape(rows, BLOCK, columns, BLOCK, 3).transpose(0, 2, 4, 1, 3)
    coefficients = scipy.fft.dctn(blocks, axes=(-2, -1), norm="ortho")
    bottleneck: Floats = (coefficients / step).reshape(rows, columns, -1).astype(np.float32)
    return bottleneck


def damp(restored: Floats, prior: entropyd.Prior) -> Floats:
    """The best linear estimate of the bottleneck: universal quantization adds noise of variance 1/12."""
    loc, variance = prior.parameters["loc"], 2 * prior.parameters["scale"] ** 2
    estimate: Floats = loc + (restored - loc) * variance / (variance + 1 / 12)
    return estimate


def synthesise(bottleneck: Floats, step: float, size: tuple[int, ...]) -> Photo:
    """The inverse of `analyse`."""
    rows, columns = bottleneck.shape[:2]
    coefficients = bottleneck.astype(np.float64).reshape(rows, columns, 3, BLOCK, BLOCK) * step
    blocks = scipy.fft.idctn(coefficients, axes=(-2, -1), norm="ortho")
    planes = blocks.transpose(0, 3, 1, 4, 2).reshape(rows * BLOCK, columns * BLOCK, 3) + LEVEL
    photo = planes[: size[0], : size[1]] @ np.linalg.inv(YCBCR).T
    restored: Photo = photo.round().clip(0, 255).astype(np.uint8)
    return restored


def psnr_db(original: Photo, restored: Photo) -> float:
    """Peak signal-to-noise ratio over all three colours."""
    error = np.mean((original.astype(np.float64) - restored) ** 2)
    return float(10 * np.log10(255**2 / error))


def show(results: list[Result]) -> None:
    """Prints the table."""
    table = Table(
        box=None,
        title="Photos through entropyd",
        caption="(new): not among the photos that the prior was fitted on",
    )
    table.add_column("photo", no_wrap=True)
    for column in ("pixels", "raw kB", "coded kB", "ratio", "bits/pixel", "PSNR dB"):
        table.add_column(column, justify="right")
    for column in ("compress ms", "decompress ms"):
        table.add_column(column, justify="right", style="dim", no_wrap=True)
    for result in results:
        height, width = result.original.shape[:2]
        table.add_row(
            result.name + ("" if result.name in FITTED else " (new)"),
            f"{width}x{height}",
            f"{result.original.nbytes / 1e3:.0f}",
            f"{result.compressed_bytes / 1e3:.1f}",
            f"{result.original.nbytes / result.compressed_bytes:.1f}",
            f"{result.bits_per_pixel:.3f}",
            f"{result.psnr_db:.2f}",
            f"{result.compress_ms:.1f}",
            f"{result.decompress_ms:.1f}",
        )
    Console(width=max(Console().width, 110)).print(table)


def draw(results: list[Result], path: Path) -> None:
    """Draws each photo beside what was restored of it, and the magnified difference."""
    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the backend is chosen

    figure, axes = plt.subplots(len(results), 3, figsize=(12, 3.4 * len(results)), layout="constrained")
    for row, result in zip(axes, results, strict=True):
        difference = np.abs(result.original.astype(int) - result.restored).mean(axis=-1)
        row[0].imshow(result.original)
        row[0].set_title(f"{result.name}, {result.original.nbytes / 1e3:.0f} kB raw")
        row[1].imshow(result.restored)
        row[1].set_title(
            f"restored from {result.compressed_bytes / 1e3:.1f} kB, "
            f"{result.bits_per_pixel:.2f} bits/pixel, {result.psnr_db:.1f} dB"
        )
        row[2].imshow(difference, cmap="magma", vmin=0, vmax=16)
        row[2].set_title("|difference|, mean of R, G, B, 0 to 16")
        for axis in row:
            axis.axis("off")
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
