"""Codes photos with a hyperprior: the networks run here, in NumPy, the entropy coding on a server.

    python -m examples.hyperprior.codec compress photo.png photo.entropyd --quality medium
    python -m examples.hyperprior.codec decompress photo.entropyd restored.png

A file is a bundle of two tensors: `z`, and `y`, the latents of the photo. Each latent is coded with the mean
and the scale that hyper-synthesis predicts from `z`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

import entropyd
from entropyd import priors
from examples.hyperprior import networks
from examples.hyperprior.fixed_point import FixedPointLayers
from examples.hyperprior.networks import NumpyLayers

Photo = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

WEIGHTS = Path(__file__).with_name("weights.npz")


def latents_config() -> entropyd.LocationScaleIndexedConfig:
    """The model of latents: a logistic distribution of each scale."""
    scale = priors.log_spaced(networks.LOWEST_SCALE, networks.HIGHEST_SCALE)
    prior = priors.indexed("NoisyLogistic", index_ranges=(networks.SCALES,), loc=0.0, scale=scale)
    return entropyd.LocationScaleIndexedConfig(prior=prior, coding_rank=3)


class Codec:
    """Compresses photos to bundles, and back.

    Args:
      client: Connected to the server that codes.
      weights: Those of `networks`; None for those that were trained.
      layers: Those of all networks but hyper-synthesis.
      predictor: Those of hyper-synthesis. The default computes the same numbers on every machine, so that
        files decode anywhere.
    """

    def __init__(
        self,
        client: entropyd.Client,
        weights: networks.Weights | None = None,
        layers: NumpyLayers | None = None,
        predictor: NumpyLayers | None = None,
    ) -> None:
        self._weights = load_weights() if weights is None else weights
        self._layers = layers or NumpyLayers()
        self._predictor = predictor or FixedPointLayers()
        self.z_model = client.create_model(
            entropyd.ContinuousBatchedConfig(
                prior=priors.NoisyLogistic(
                    loc=self._weights["z/loc"], scale=np.exp(self._weights["z/log_scale"])
                ),
                coding_rank=3,
                offset_heuristic=False,  # so that what is coded is z, rounded
            )
        )
        self.y_model = client.create_model(latents_config())

    def compress(self, photo: Photo, quality: str) -> entropyd.CompressedBundle:
        """Compresses a photo [height, width, 3] in one of `networks.QUALITIES`."""
        height, width = photo.shape[:2]
        edges = [(0, -height % networks.TILE), (0, -width % networks.TILE), (0, 0)]
        pixels = np.pad(photo, edges, mode="edge").astype(np.float32) - 128
        gain = networks.gain(self._weights, networks.QUALITIES.index(quality))
        y = networks.analysis(self._layers, self._weights, pixels[None]) * gain
        z = networks.hyper_analysis(self._layers, self._weights, y)[0]
        indexes, loc = self.predict(z.round())  # as the decoder will see it
        parts = {"z": self.z_model.compress(z), "y": self.y_model.compress(y[0], indexes, loc)}
        return entropyd.pack(parts, metadata={"height": height, "width": width, "quality": quality})

    def decompress(self, bundle: entropyd.CompressedBundle) -> Photo:
        """Restores a photo. Errors as `latents`."""
        return self.synthesise(self.latents(bundle), bundle.metadata)

    def latents(self, bundle: entropyd.CompressedBundle) -> Floats:
        """Latents [height / 8, width / 8, 192].

        Raises:
          IndexesMismatchError: If `z` predicts other scales here than where the photo was compressed.
        """
        indexes, loc = self.predict(self.z_model.decompress(bundle["z"]))
        return self.y_model.decompress(bundle["y"], indexes, loc)

    def predict(self, z: Floats) -> tuple[npt.NDArray[np.uint8], Floats]:
        """Indexes of scales, and means, of latents [height / 8, width / 8, 192]."""
        indexes, loc = networks.hyper_synthesis(self._predictor, self._weights, z[None])
        rows = np.floor(indexes[0] + 0.5).clip(0, networks.SCALES - 1)
        return rows.astype(np.uint8), loc[0].astype(np.float32)

    def synthesise(self, y: Floats, metadata: Mapping[str, Any]) -> Photo:
        """The photo of latents [height / 8, width / 8, 192]."""
        latents = y / networks.gain(self._weights, networks.QUALITIES.index(metadata["quality"]))
        pixels = networks.synthesis(self._layers, self._weights, latents[None])[0] + 128
        photo = pixels[: metadata["height"], : metadata["width"]].round().clip(0, 255)
        restored: Photo = photo.astype(np.uint8)
        return restored


def load_weights(path: Path = WEIGHTS) -> dict[str, Floats]:
    """The weights in a file of `train`."""
    with np.load(path) as file:
        return {name: file[name].astype(np.float32) for name in file}


def main() -> None:
    """The command."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("command", choices=("compress", "decompress"))
    arguments.add_argument("source", type=Path, help="a photo, or for decompress a file of compress")
    arguments.add_argument("target", type=Path, help="file to write")
    arguments.add_argument("--quality", choices=networks.QUALITIES, default="medium", help="(%(default)s)")
    arguments.add_argument("--server", default="127.0.0.1:7070", help="server to use (%(default)s)")
    options = arguments.parse_args()
    with entropyd.Client(options.server) as client:
        codec = Codec(client)
        if options.command == "compress":
            with Image.open(options.source) as image:
                photo = np.asarray(image.convert("RGB"))
            codec.compress(photo, options.quality).save(options.target)
            bits = 8 * options.target.stat().st_size / (photo.shape[0] * photo.shape[1])
            print(f"{options.target}: {options.target.stat().st_size} bytes, {bits:.2f} bits per pixel")
        else:
            photo = codec.decompress(entropyd.CompressedBundle.load(options.source))
            Image.fromarray(photo).save(options.target)


if __name__ == "__main__":
    main()
