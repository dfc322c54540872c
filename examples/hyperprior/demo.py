"""Photos through the hyperprior and an entropyd server, beside JPEG and WebP files of the same size.

    python -m examples.hyperprior.demo --output demo-output [--server HOST:PORT]

Without --server it starts a server of its own on a Unix socket, with a store in a temporary folder.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

import entropyd
from entropyd_server.local import LocalServer
from examples.hyperprior import photos
from examples.hyperprior.codec import Codec
from examples.hyperprior.networks import QUALITIES
from examples.hyperprior.peers import PEERS, Coded, at_equal_bytes, measured
from examples.hyperprior.photos import Photo

JPEGS = [peer for peer in PEERS if peer.startswith("JPEG")]
# What the picture shows of each photo: row and column of the middle of a detail, and the quality.
DETAIL = 160
DETAILS = {"astronaut": (110, 220), "chelsea": (120, 180), "coffee": (180, 330), "rocket": (300, 330)}
SHOWN = "low"


@dataclass(frozen=True)
class Result:
    """A photo in one quality, by the hyperprior and by its peers at the same size.

    `calls` are those to the server: a name, and bytes of arrays and strings sent and received.
    """

    name: str
    quality: str
    photo: Photo
    ours: Coded
    part_bytes: dict[str, int]
    compress_ms: float
    decompress_ms: float
    peers: dict[str, Coded]
    calls: list[tuple[str, int, int]]

    @property
    def bits_per_pixel(self) -> float:
        """Bits of the whole file per pixel."""
        return 8 * self.ours.size_bytes / (self.photo.shape[0] * self.photo.shape[1])

    @property
    def over_jpeg_db(self) -> float:
        """PSNR above the better of both JPEGs."""
        return self.ours.psnr_db - max(self.peers[peer].psnr_db for peer in JPEGS)


def main() -> None:
    """Codes all photos, prints the table and draws the picture."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--output", type=Path, default=Path("demo-output"), help="folder (%(default)s)")
    arguments.add_argument("--server", help="server to use, HOST:PORT; default: one of its own")
    arguments.add_argument(
        "--photo", action="append", choices=photos.HELD_OUT, help="photo to code, several times; default: all"
    )
    options = arguments.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        if not options.server:
            print("starting a server (TensorFlow takes some seconds to load) ...", flush=True)
            options.server = stack.enter_context(LocalServer()).target
        codec = Codec(stack.enter_context(entropyd.Client(options.server)))
        chosen = options.photo or photos.HELD_OUT
        work = [
            (name, photo, quality)
            for name, photo in photos.held_out().items()
            for quality in QUALITIES
            if name in chosen
        ]
        results = [
            code(codec, name, photo, quality, options.output)
            for name, photo, quality in track(work, "coding", disable=not sys.stdout.isatty())
        ]
    show(results)
    draw(results, options.output / "photos.png")
    print(f"files: {options.output}/*.entropyd, picture: {options.output / 'photos.png'}")


def code(codec: Codec, name: str, photo: Photo, quality: str, folder: Path) -> Result:
    """Compresses a photo to a file, restores it from that file, and compares."""
    path = folder / f"{name}-{quality}.entropyd"
    begun = time.perf_counter()
    codec.compress(photo, quality).save(path)
    halfway = time.perf_counter()
    bundle = entropyd.CompressedBundle.load(path)
    restored = codec.decompress(bundle)
    ended = time.perf_counter()
    ours = measured(photo, restored, path.stat().st_size)
    return Result(
        name,
        quality,
        photo,
        ours,
        {part: len(tensor.payload) for part, tensor in bundle.items()},
        1e3 * (halfway - begun),
        1e3 * (ended - halfway),
        {peer: at_equal_bytes(peer, photo, ours.size_bytes) for peer in PEERS},
        calls_of(codec, bundle),
    )


def calls_of(codec: Codec, bundle: entropyd.CompressedBundle) -> list[tuple[str, int, int]]:
    """The calls that one photo takes, with the bytes that travel."""
    z = codec.z_model.decompress(bundle["z"])
    indexes, loc = codec.predict(z)
    symbols = {"z": z, "y": np.round(codec.latents(bundle) - loc)}
    calls = []
    for part, tensor in bundle.items():
        array_bytes = symbols[part].size * (1 if np.abs(symbols[part]).max() < 128 else 2)
        rows_bytes = indexes.nbytes if part == "y" else 0
        calls.append((f"Compress {part}", array_bytes + rows_bytes, len(tensor.payload)))
        calls.append((f"Decompress {part}", len(tensor.payload) + rows_bytes, array_bytes))
    return sorted(calls)


def show(results: list[Result]) -> None:
    """Prints the table, and how the averages compare."""
    table = Table(box=None, title="PSNR in dB (MS-SSIM) at equal bytes of the whole files")
    table.add_column("photo", no_wrap=True)
    for column in ("bits/pixel", "bytes", "z", "y"):
        table.add_column(column, justify="right")
    for column in ("hyperprior", *PEERS):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("over JPEG", "compress ms", "decompress ms"):
        table.add_column(column, justify="right", style="dim" if column.endswith("ms") else None)
    for result in results:
        table.add_row(
            f"{result.name} {result.quality}",
            f"{result.bits_per_pixel:.2f}",
            *(f"{size:.0f}" for size in (result.ours.size_bytes, *result.part_bytes.values())),
            *(
                f"{coded.psnr_db:.2f} ({coded.ms_ssim:.3f})"
                for coded in (result.ours, *result.peers.values())
            ),
            f"{result.over_jpeg_db:+.2f}",
            f"{result.compress_ms:.0f}",
            f"{result.decompress_ms:.0f}",
        )
    Console(width=max(Console().width, 150)).print(table)
    first = results[0]
    height, width = first.photo.shape[:2]
    print(f"calls for {first.name} {first.quality}, {width}x{height}: bytes sent and received")
    for call, sent, received in first.calls:
        print(f"  {call:12} {sent:8} {received:8}")
    count = len(results)
    for peer in PEERS:
        gain = np.mean([result.ours.psnr_db - result.peers[peer].psnr_db for result in results])
        print(f"on average {gain:+.2f} dB over {peer}")
    least = min(result.over_jpeg_db for result in results)
    above = sum(result.over_jpeg_db >= 1 for result in results)
    print(f"{above} of {count} at least 1 dB above both JPEGs, the least at {least:+.2f} dB")


def draw(results: list[Result], path: Path) -> None:
    """Draws for each photo PSNR over bits, and a detail through each codec at equal bytes."""
    mpl.use("agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the backend is chosen

    names = list(dict.fromkeys(result.name for result in results))
    columns = ("", "original", "hyperprior", *PEERS)
    figure, axes = plt.subplots(
        len(names),
        len(columns),
        figsize=(21, 3.9 * len(names)),
        layout="constrained",
        squeeze=False,
        width_ratios=[1.5, *[1] * 5],
    )
    for row, name in zip(axes, names, strict=True):
        mine = [result for result in results if result.name == name]
        bits = [result.bits_per_pixel for result in mine]
        row[0].plot(
            bits, [result.ours.psnr_db for result in mine], "o-", lw=2.5, color="C3", label="hyperprior"
        )
        for peer, style in zip(PEERS, ("s--", "^--", "d:"), strict=True):
            row[0].plot(bits, [result.peers[peer].psnr_db for result in mine], style, label=peer)
        row[0].set(title=name, xlabel="bits per pixel", ylabel="PSNR, dB")
        row[0].grid(alpha=0.3)
        row[0].legend()
        (shown,) = (result for result in mine if result.quality == SHOWN)
        for axis, column in zip(row[1:], columns[1:], strict=True):
            coded = shown.ours if column == "hyperprior" else shown.peers.get(column)
            axis.imshow(detail(name, coded.restored if coded else shown.photo), interpolation="nearest")
            if coded:
                ours = column == "hyperprior"
                axis.set_title(
                    f"{column}\n{coded.size_bytes / 1e3:.1f} kB, {coded.psnr_db:.1f} dB",
                    color="C3" if ours else "black",
                    weight="bold" if ours else "normal",
                )
            else:
                axis.set_title(f"original\n{shown.photo.nbytes / 1e3:.0f} kB raw")
            axis.axis("off")
    figure.suptitle(
        f"Photos at equal bytes: the codecs of a row have files of the same size (quality {SHOWN})", size=16
    )
    figure.savefig(path, dpi=80)


def detail(name: str, photo: Photo) -> Photo:
    """A square of a photo."""
    row, column = (max(middle - DETAIL // 2, 0) for middle in DETAILS[name])
    return photo[row : row + DETAIL, column : column + DETAIL]


if __name__ == "__main__":
    main()
