"""What happens when a decoder's network predicts other scales than the encoder's, and how to prevent it.

    python -m examples.hyperprior.mismatch [--server HOST:PORT]

An encoder computes hyper-synthesis in float32, a decoder in float16. For some latents they predict different
scales. From the first of these on, a decoder reads garbage; entropyd refuses to decode. The remedy is
hyper-synthesis in fixed point, which gives the same scales everywhere.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack

import numpy as np
from rich.console import Console
from rich.table import Table

import entropyd
from entropyd_server.local import LocalServer
from examples.hyperprior.codec import Codec
from examples.hyperprior.networks import QUALITIES, Array, NumpyLayers
from examples.hyperprior.peers import psnr_db
from examples.hyperprior.photos import Photo, held_out

COLUMNS = (
    "other scales of latents",
    "PSNR of the encoder",
    "PSNR without a check",
    "entropyd",
    "fixed point: latents",
    "fixed point: PSNR",
    "fixed point: more bytes",
)


class HalfLayers(NumpyLayers):
    """Layers in float16; sums of products are float32 until they are complete, as on graphics cards."""

    def convolve(self, x: Array, kernel: Array, bias: Array | None = None) -> Array:
        return half(super().convolve(half(x), half(kernel), bias))


def half(x: Array) -> Array:
    """What float16 keeps of values."""
    return x.astype(np.float16).astype(np.float32)


def main() -> None:
    """Prints for each photo what the decoders make of it."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--server", help="server to use, HOST:PORT; default: one of its own")
    options = arguments.parse_args()
    table = Table(box=None, title="Encoded with float32, decoded with float16")
    table.add_column("photo", no_wrap=True)
    for column in COLUMNS:
        table.add_column(column, justify="right")
    with ExitStack() as stack:
        target = options.server or stack.enter_context(LocalServer()).target
        client = stack.enter_context(entropyd.Client(target))
        rows = {
            f"{name} {quality}": compared(client, photo, quality)
            for name, photo in held_out().items()
            for quality in QUALITIES
        }
    for name, row in rows.items():
        table.add_row(name, *row)
    Console(width=max(Console().width, 110)).print(table)


def compared(client: entropyd.Client, photo: Photo, quality: str) -> list[str]:
    """A row of the table, after the name."""
    float32, float16 = Codec(client, predictor=NumpyLayers()), Codec(client, predictor=HalfLayers())
    bundle = float32.compress(photo, quality)
    z = float32.z_model.decompress(bundle["z"])
    differ = np.count_nonzero(float32.predict(z)[0] != float16.predict(z)[0])
    row = [
        f"{differ}",
        f"{psnr_db(photo, float32.decompress(bundle)):.2f}",
        unchecked(float16, bundle, photo),
    ]
    try:
        float16.decompress(bundle)
        row.append("decoded")
    except entropyd.IndexesMismatchError as error:
        row.append(f"{error.reason}, unit {', '.join(map(str, error.units))}")

    fixed, fixed16 = Codec(client), Codec(client, layers=HalfLayers())
    remedied = fixed.compress(photo, quality)
    same = np.array_equal(fixed.latents(remedied), fixed16.latents(remedied))
    more = sum(len(part.payload) for part in remedied.values()) - sum(
        len(part.payload) for part in bundle.values()
    )
    restored = psnr_db(photo, fixed16.decompress(remedied))
    return [*row, "the same bits" if same else "DIFFERENT", f"{restored:.2f}", f"{more:+d}"]


def unchecked(codec: Codec, bundle: entropyd.CompressedBundle, photo: Photo) -> str:
    """PSNR of what a decoder makes of bare strings, which carry no checksums of indexes."""
    indexes, loc = codec.predict(codec.z_model.decompress(bundle["z"]))
    try:
        y = codec.y_model.decompress(bundle["y"].strings, indexes, loc)
    except entropyd.CorruptStringError as error:
        return error.reason
    return f"{psnr_db(photo, codec.synthesise(y, bundle.metadata)):.2f}"


if __name__ == "__main__":
    main()
