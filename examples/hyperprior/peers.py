"""JPEG and WebP of a photo, and how well each codec restores it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import gaussian_filter

from examples.hyperprior.photos import Photo

Floats = npt.NDArray[np.float32]

MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
# Each at its best: optimized Huffman tables, and WebP's slowest method.
PEERS: dict[str, dict[str, Any]] = {
    "JPEG 4:2:0": {"format": "jpeg", "optimize": True, "subsampling": "4:2:0"},
    "JPEG 4:4:4": {"format": "jpeg", "optimize": True, "subsampling": "4:4:4"},
    "WebP": {"format": "webp", "method": 6},
}


@dataclass(frozen=True)
class Coded:
    """A photo that was coded and restored.

    Attributes:
      size_bytes: Of the whole file.
      psnr_db: Peak signal-to-noise ratio over all three colours.
      ms_ssim: Multi-scale structural similarity, at most 1.
    """

    restored: Photo
    size_bytes: float
    psnr_db: float
    ms_ssim: float


def measured(photo: Photo, restored: Photo, size_bytes: int) -> Coded:
    """Compares a restored photo with the original."""
    return Coded(restored, size_bytes, psnr_db(photo, restored), ms_ssim(photo, restored))


def psnr_db(photo: Photo, restored: Photo) -> float:
    """Peak signal-to-noise ratio over all three colours."""
    error = np.mean((photo.astype(np.float64) - restored) ** 2)
    return float(10 * np.log10(255**2 / error))


def ms_ssim(photo: Photo, restored: Photo) -> float:
    """Multi-scale structural similarity (Wang, Simoncelli and Bovik, 2003), the mean of the colours."""
    x, y = photo.astype(np.float32), restored.astype(np.float32)
    similarity = np.ones(3)
    for scale, weight in enumerate(MS_SSIM_WEIGHTS):
        mean_x, mean_y = _blurred(x), _blurred(y)
        variances = _blurred(x * x) + _blurred(y * y) - mean_x**2 - mean_y**2
        # 58.5225 is (0.03 * 255)^2, 6.5025 below is (0.01 * 255)^2.
        covariance = _blurred(x * y) - mean_x * mean_y
        index = (2 * covariance + 58.5225) / (variances + 58.5225)
        if scale == len(MS_SSIM_WEIGHTS) - 1:
            index *= (2 * mean_x * mean_y + 6.5025) / (mean_x**2 + mean_y**2 + 6.5025)
        similarity *= index.mean(axis=(0, 1)).clip(0) ** weight
        x, y = _halved(x), _halved(y)
    return float(similarity.mean())


def _blurred(x: Floats) -> Floats:
    """The mean around each pixel under a Gaussian of 11x11, where it lies within the photo."""
    blurred: Floats = gaussian_filter(x, 1.5, radius=5, axes=(0, 1))[5:-5, 5:-5]
    return blurred


def _halved(x: Floats) -> Floats:
    """Means of 2x2 pixels."""
    x = np.pad(x, [(0, x.shape[0] % 2), (0, x.shape[1] % 2), (0, 0)], mode="edge")
    halved: Floats = (x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]) / 4
    return halved


def at_equal_bytes(peer: str, photo: Photo, size_bytes: float) -> Coded:
    """What a peer gives at a size, between its two nearest qualities by the logarithm of bytes.

    The restored photo is that of the nearer quality.
    """
    low, high = 1, 100
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if len(_file(peer, photo, middle)) <= size_bytes else (low, middle)
    below, above = (_coded(peer, photo, quality) for quality in (low, high))
    share = np.log(size_bytes / below.size_bytes) / np.log(above.size_bytes / below.size_bytes)
    psnr = below.psnr_db + share * (above.psnr_db - below.psnr_db)
    ms_ssim = below.ms_ssim + share * (above.ms_ssim - below.ms_ssim)
    nearer = below if share < 0.5 else above
    return Coded(nearer.restored, size_bytes, float(psnr), float(ms_ssim))


def _coded(peer: str, photo: Photo, quality: int) -> Coded:
    file = _file(peer, photo, quality)
    with Image.open(io.BytesIO(file)) as image:
        return measured(photo, np.asarray(image.convert("RGB")), len(file))


def _file(peer: str, photo: Photo, quality: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(photo).save(file, quality=quality, **PEERS[peer])
    return file.getvalue()
