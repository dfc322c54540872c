"""The hyperprior of examples/hyperprior: its networks, its files, and what it says of itself."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import entropyd
from examples.hyperprior import networks, peers, photos
from examples.hyperprior.codec import Codec, load_weights
from examples.hyperprior.fixed_point import FixedPointLayers
from examples.hyperprior.networks import NumpyLayers

if TYPE_CHECKING:
    from entropyd_server.local import LocalServer

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def codec(client: entropyd.Client) -> Codec:
    return Codec(client)


@pytest.fixture(scope="module")
def chelsea() -> photos.Photo:
    return photos.held_out()["chelsea"]


def test_the_first_transform_loses_nothing() -> None:
    weights, pixels = networks.initial_weights(), np.random.default_rng(0).normal(0, 50, (2, 64, 96, 3))
    latents = networks.analysis(NumpyLayers(), weights, pixels)
    assert latents.shape == (2, 8, 12, networks.LATENTS)
    np.testing.assert_allclose(networks.synthesis(NumpyLayers(), weights, latents), pixels, atol=1e-3)
    # It is orthonormal: a step of the latents is as large an error in each.
    assert np.square(latents).sum() * networks.UNIT**2 == pytest.approx(np.square(pixels).sum(), rel=1e-5)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([1.0, 30.0, 1e6]))
def test_fixed_point_predicts_the_same_in_any_order_of_summation(seed: int, size: float) -> None:
    rng, layers, weights = np.random.default_rng(seed), FixedPointLayers(), dict(load_weights())
    z = np.round(rng.normal(0, size, (1, 2, 3, networks.HYPER_LATENTS)))
    expected = networks.hyper_synthesis(layers, weights, z)
    order = rng.permutation(networks.HYPER_LATENTS)
    weights["hyper_synthesis/0/kernel"] = weights["hyper_synthesis/0/kernel"][:, :, order]
    found = networks.hyper_synthesis(layers, weights, z[..., order])
    for array, same in zip(expected, found, strict=True):
        np.testing.assert_array_equal(array, same)
        np.testing.assert_array_equal(array * 256, np.round(array * 256))


def test_ms_ssim_is_that_of_tensorflow(chelsea: photos.Photo) -> None:
    import tensorflow as tf  # noqa: PLC0415 - slow to load

    worse = np.clip(chelsea + np.random.default_rng(0).normal(0, 20, chelsea.shape), 0, 255).astype(np.uint8)
    expected = float(tf.image.ssim_multiscale(tf.constant(chelsea), tf.constant(worse), 255))
    assert peers.ms_ssim(chelsea, worse) == pytest.approx(expected, abs=1e-4)
    assert peers.ms_ssim(chelsea, chelsea) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("quality", networks.QUALITIES)
def test_a_file_restores_what_the_encoder_saw_better_than_jpeg_of_its_size(
    codec: Codec, chelsea: photos.Photo, tmp_path: Path, quality: str
) -> None:
    bundle = codec.compress(chelsea, quality)
    bundle.save(tmp_path / "chelsea.entropyd")
    restored = codec.decompress(entropyd.CompressedBundle.load(tmp_path / "chelsea.entropyd"))
    np.testing.assert_array_equal(restored, codec.decompress(bundle))
    assert restored.shape == chelsea.shape
    size_bytes = (tmp_path / "chelsea.entropyd").stat().st_size
    jpeg = peers.at_equal_bytes("JPEG 4:2:0", chelsea, size_bytes)
    assert peers.psnr_db(chelsea, restored) > jpeg.psnr_db + 1


def test_training_counts_the_bits_that_a_file_takes(codec: Codec, chelsea: photos.Photo) -> None:
    from examples.hyperprior import train  # noqa: PLC0415 - loads TensorFlow

    bundle = codec.compress(chelsea, "medium")
    weights = load_weights()
    z = codec.z_model.decompress(bundle["z"])
    indexes, loc = codec.predict(z)
    y = codec.latents(bundle)
    expected = train.latents_bits(y[None], indexes[None].astype(np.float32), loc[None])
    assert 8 * len(bundle["y"].payload) == pytest.approx(float(expected[0]), rel=0.01)
    expected = train.logistic_bits(z[None] - weights["z/loc"], np.exp(weights["z/log_scale"]))
    assert 8 * len(bundle["z"].payload) == pytest.approx(float(expected[0]), rel=0.02)


def test_tensorflow_and_numpy_have_the_same_layers(chelsea: photos.Photo) -> None:
    from examples.hyperprior import train  # noqa: PLC0415 - loads TensorFlow

    weights, pixels = load_weights(), chelsea[None, :128, :192].astype(np.float32) - 128
    found = []
    for layers in (NumpyLayers(), train.LAYERS):
        y = networks.analysis(layers, weights, pixels)
        z = networks.hyper_analysis(layers, weights, y)
        found.append(
            [y, z, *networks.hyper_synthesis(layers, weights, z), networks.synthesis(layers, weights, y)]
        )
    for array, tensor in zip(*found, strict=True):
        np.testing.assert_allclose(array, tensor, rtol=1e-3, atol=1e-2)


def test_a_float16_decoder_is_refused_and_fixed_point_is_the_remedy(client: entropyd.Client) -> None:
    from examples.hyperprior.mismatch import compared  # noqa: PLC0415

    chelsea = photos.held_out()["chelsea"]
    differ, psnr, garbage, refused, same, restored, _ = compared(client, chelsea, "low")
    assert int(differ) > 0
    assert garbage == "CORRUPT_STRING" or float(garbage) < float(psnr) - 6
    assert refused == "INDEXES_MISMATCH, unit 0"
    assert same == "the same bits"
    assert float(restored) == pytest.approx(float(psnr), abs=0.2)


def test_the_demo_prints_a_row_for_each_quality_and_draws_them(server: LocalServer, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.hyperprior.demo", "--server", server.target]
    command += ["--photo", "chelsea", "--output", str(tmp_path)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    for quality in networks.QUALITIES:
        assert re.search(rf"chelsea {quality} +[\d.]+ +\d+", ran.stdout)
        assert (tmp_path / f"chelsea-{quality}.entropyd").stat().st_size > 0
    assert "3 of 3 at least 1 dB above both JPEGs" in ran.stdout
    with Image.open(tmp_path / "photos.png") as picture:
        assert picture.width > 1000
