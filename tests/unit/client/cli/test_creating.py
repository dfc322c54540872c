"""Laws of `entropyd models create`: its options make the configuration that Python makes, or are named."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import pytest

import entropyd
from entropyd import priors
from entropyd.cli.creating import configuration, create

if TYPE_CHECKING:
    from pathlib import Path

SCALES = priors.log_spaced(0.11, 256.0)
SCALED = priors.indexed("NoisyNormal", index_ranges=(64,), loc=0.0, scale=SCALES)
STEPS = priors.indexed(
    "NoisyLogistic",
    index_ranges=(5, 16),
    loc=priors.affine(-2, 1),
    scale=priors.log_spaced(0.2, 9, axis=1),
)
WEIGHTS = priors.indexed(
    "NoisyNormalMixture",
    index_ranges=(4,),
    loc=priors.affine([-3, 0], 1),
    scale=priors.exp_affine(0, 0.5),
    weight=priors.softmax_affine([1, 2], [0, 0.5]),
)
SHIFTED = priors.indexed("NoisyNormal", index_ranges=(8,), loc=0.25, scale=priors.log_spaced(1, 4))
TABLE = priors.indexed("NoisyNormal", index_ranges=(3,), loc=priors.table([1, 5, 6]), scale=2.0)
GRID = priors.NoisyNormal(loc=0.0, scale=[1.0, 2.0, 4.0])
ROWS = [[0, 5, 16], [0, 3, 9, 16]]
LONG = [[0, 5, 1 << 16], [0, 3, 9, 1 << 16]]

MADE = {
    "--prior NoisyNormal -p loc=0 -p scale=[1,2,4] --coding-rank 2": entropyd.UniversalBatchedConfig(
        prior=GRID, coding_rank=2
    ),
    "--kind universal-batched --prior NoisyNormal -p loc=0 -p scale=[1,2,4] --coding-rank 2 "
    "--num-noise-levels 3 --tail-mass 0.1": entropyd.UniversalBatchedConfig(
        prior=GRID, coding_rank=2, num_noise_levels=3, tail_mass=0.1
    ),
    "--kind continuous-batched --prior NoisyNormal -p loc=0 -p scale=[1,2,4] --coding-rank 1 "
    "--bottleneck-dtype float16": entropyd.ContinuousBatchedConfig(
        prior=GRID, coding_rank=1, bottleneck_dtype="float16"
    ),
    "--kind location-scale --prior NoisyNormal --scales 0.11:256:64 --coding-rank 3": (
        entropyd.LocationScaleIndexedConfig(prior=SCALED, coding_rank=3)
    ),
    "--kind location-scale --prior NoisyNormal -p loc=0 -p scale=log_spaced:0.11:256 --index-ranges 64 "
    "--coding-rank 3": entropyd.LocationScaleIndexedConfig(prior=SCALED, coding_rank=3),
    "--kind location-scale --prior NoisyNormal -p loc=0 -p scale=scale.npy --coding-rank 1": (
        entropyd.LocationScaleIndexedConfig(prior=GRID, coding_rank=1)
    ),
    "--kind continuous-indexed --prior NoisyNormal --scales 1:4:8 -p loc=0.25 --channel-axis none "
    "--coding-rank 1 --range-coder-precision 14": entropyd.ContinuousIndexedConfig(
        prior=SHIFTED, coding_rank=1, channel_axis=None, range_coder_precision=14
    ),
    "--kind continuous-indexed --prior NoisyLogistic -p loc=affine:-2:1 -p scale=log_spaced:0.2:9:axis=1 "
    "--index-ranges 5,16 --channel-axis 0 --coding-rank 1": entropyd.ContinuousIndexedConfig(
        prior=STEPS, coding_rank=1, channel_axis=0
    ),
    "--kind universal-indexed --prior NoisyNormalMixture -p loc=affine:[-3,0]:1 -p scale=exp_affine:0:0.5 "
    "-p weight=softmax_affine:[1,2]:[0,0.5] --index-ranges 4 --coding-rank 1 --num-noise-levels 7": (
        entropyd.UniversalIndexedConfig(prior=WEIGHTS, coding_rank=1, num_noise_levels=7)
    ),
    "--kind universal-indexed --prior NoisyNormal -p loc=table:loc.npy -p scale=2 --index-ranges 3 "
    "--coding-rank 1 --no-compression": entropyd.UniversalIndexedConfig(
        prior=TABLE, coding_rank=1, compression=False
    ),
    "--kind power-law --coding-rank 2": entropyd.PowerLawConfig(coding_rank=2),
    "--kind power-law --coding-rank 0 --alpha 0.5 --bottleneck-dtype float64": entropyd.PowerLawConfig(
        coding_rank=0, alpha=0.5, bottleneck_dtype="float64"
    ),
    "--kind tabulated --tables rows.npz --coding-rank 1": entropyd.TabulatedConfig(
        ROWS, [-1, 2], 1, precision=4
    ),
    "--kind tabulated --tables list.npz --coding-rank 2 --row-shape 1,2 --bottleneck-dtype float64": (
        entropyd.TabulatedConfig(
            ROWS[:1] * 2,
            [0, 1],
            2,
            precision=4,
            row_shape=(1, 2),
            bottleneck_dtype="float64",
            quantization_offset=[0.5, 0.25],
        )
    ),
    "--kind tabulated --tables flat.npz --coding-rank 0 --row-by index": entropyd.TabulatedConfig(
        ROWS, [-1, 2], 0, precision=4, row_by="index"
    ),
    "--kind tabulated --tables module.npz --coding-rank 3 --row-by index --coder rans64": (
        entropyd.TabulatedConfig(LONG, [-1, 2], 3, row_by="index", coder="rans64")
    ),
    "--kind tabulated --tables model.npz --coding-rank 3 --row-shape 2,1": entropyd.TabulatedConfig(
        LONG,
        [-1, 2],
        3,
        row_shape=(2, 1),
        quantization_offset=np.array([[0.5], [-0.25]]),
    ),
}

INDEXED = "--kind continuous-indexed --prior NoisyNormal --coding-rank 1"
LOCATION_SCALE = "--kind location-scale --prior NoisyNormal --coding-rank 3"
REFUSED = {
    "--kind power-law --prior NoisyNormal --coding-rank 1": (
        "--prior 'NoisyNormal' is no option of --kind power-law; expected one of: universal-batched, "
        "continuous-batched, continuous-indexed, location-scale, universal-indexed"
    ),
    "--alpha 0.5 --prior NoisyNormal --coding-rank 1": (
        "--alpha 0.5 is no option of --kind universal-batched; expected one of: power-law"
    ),
    f"{LOCATION_SCALE} --scales 1:2:3 --num-noise-levels 3": (
        "--num-noise-levels 3 is no option of --kind location-scale; expected one of: universal-batched, "
        "universal-indexed"
    ),
    f"{LOCATION_SCALE} --scales 1:2:3 --channel-axis 0": "--channel-axis '0' is no option of",
    "--kind power-law --coding-rank 1 --no-compression": "--no-compression is no option of --kind power-law",
    "--prior NoisyNormal --scales 1:2:3 --coding-rank 1": "--scales '1:2:3' is no option of --kind univ",
    "--kind location-scale --scales 1:2:3": "--kind location-scale needs --prior and --coding-rank, or",
    "--kind power-law": "--kind power-law needs --coding-rank, or --config",
    f"{LOCATION_SCALE} --scales 1:2": "--scales '1:2' is not LOW:HIGH:COUNT, as in 0.11:256:64",
    f"{LOCATION_SCALE} --scales 1:x:3": "--scales '1:x:3' is not LOW:HIGH:COUNT",
    f"{LOCATION_SCALE} --scales 0:2:3": "--scales '0:2:3': low is 0.0; expected a finite number above 0",
    f"{LOCATION_SCALE} --scales 1:2:3 --index-ranges 3": "--scales '1:2:3' has what --index-ranges says",
    f"{LOCATION_SCALE} --scales 1:2:3 -p scale=1": "--scales '1:2:3' has what -p scale= says",
    f"{INDEXED} --index-ranges 4x5": "--index-ranges '4x5' is not a list of integers, as in 64 or 16,32",
    f"{INDEXED} --scales 1:2:3 --channel-axis last": "--channel-axis 'last' is not an integer or none",
    f"{INDEXED} -p loc=affine:1:2": "parameter loc: 'affine:1:2' is a function of the index; --index-",
    f"{INDEXED} --index-ranges 4 -p loc=affine:1": (
        "parameter loc: 'affine:1' is not affine:OFFSET:SLOPE, perhaps with :axis=N"
    ),
    f"{INDEXED} --index-ranges 4 -p loc=affine:1:x": "parameter loc: 'x' is not a number",
    f"{INDEXED} --index-ranges 4 -p loc=afine:1:2": (
        "parameter loc: 'afine:1:2' is not a number, JSON list or .npy file, nor a function of the index "
        "(affine:OFFSET:SLOPE, "
    ),
    f"{INDEXED} --index-ranges 4 -p loc=affine:1:2:axis=-1": "parameter loc: affine axis is -1; expected",
    f"{INDEXED} --index-ranges 4 -p loc": "parameter 'loc' is not NAME=VALUE",
    "--kind tabulated --coding-rank 1": "--kind tabulated needs --tables, or --config in its place",
    "--kind tabulated --tables rows.npz": "--kind tabulated needs --coding-rank",
    "--kind power-law --tables rows.npz --coding-rank 1": "is no option of --kind power-law; expected one",
    f"{INDEXED} --row-by index": "--row-by 'index' is no option of --kind continuous-indexed; expected",
    "--kind tabulated --tables rows.npz --coding-rank 1 --row-shape 2x2": "--row-shape '2x2' is not a list",
}
REFUSED_FILES = {
    "two.npz": "two.npz has the tables of 2 modules: a._quantized_cdf, b._quantized_cdf; expected",
    "lone.npz": "lone.npz lacks _cdf_length and _offset; expected _quantized_cdf, _cdf_length, _offset",
    "fresh.npz": "fresh.npz has empty tables; call update() of the module before saving it",
    "odd.npz": "odd.npz has the arrays a, rows; expected rows and offsets, perhaps lengths; _quantized_cdf",
    "quantiles.npz": "quantiles of quantiles.npz has shape (2, 3); expected (2, 1, 3)",
    "scale.npy": "scale.npy is not a .npz file",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("scale.npy", np.array([1, 2, 4], np.float32))
    np.save("loc.npy", np.array([1, 5, 6]))
    padded = np.array([[0, 5, 16, 0], [0, 3, 9, 16]])
    np.savez("rows.npz", rows=padded, offsets=[-1, 2], lengths=[3, 4])
    np.savez("list.npz", rows=ROWS[:1] * 2, offsets=[0, 1], quantization_offset=[0.5, 0.25])
    np.savez("flat.npz", cdf=[-4, 0, 5, 16, -4, 0, 3, 9, 16], cdf_offset=[-1, 2])
    long = np.array([[0, 5, 1 << 16, 0], [0, 3, 9, 1 << 16]], np.int32)
    lengths, offsets = np.array([3, 4]), np.array([-1, 2])
    module: dict[str, Any] = {"_quantized_cdf": long, "_cdf_length": lengths, "_offset": offsets}
    np.savez("module.npz", **module, scale_table=[0.1, 2.0])
    medians = np.array([[[-9, 0.5, 9]], [[-9, -0.25, 9]]], np.float32)
    np.savez("model.npz", **{f"eb.{name}": value for name, value in {**module, "quantiles": medians}.items()})
    np.savez("quantiles.npz", **module, quantiles=medians[:, 0])
    np.savez("two.npz", **{"a._quantized_cdf": long, "b._quantized_cdf": long})
    np.savez("lone.npz", _quantized_cdf=long)
    np.savez("fresh.npz", _quantized_cdf=long[:0], _cdf_length=[], _offset=[])
    np.savez("odd.npz", rows=padded, a=[1])


def configured(words: str) -> entropyd.ModelConfig:
    return configuration(create.make_context("create", shlex.split(words)))


@pytest.mark.parametrize("words", MADE)
def test_options_make_the_configuration_that_python_makes(words: str) -> None:
    assert configured(words).to_dict() == MADE[words].to_dict()


def test_every_kind_is_made_without_writing_json() -> None:
    (kinds,) = [
        option.type.choices
        for option in create.params
        if option.name == "kind" and isinstance(option.type, click.Choice)
    ]
    assert {word for words in MADE for word in words.split() if word in kinds} == set(kinds)


@pytest.mark.parametrize("words", REFUSED)
def test_a_mistake_is_answered_with_option_value_and_expectation(words: str) -> None:
    with pytest.raises(click.UsageError) as refused:
        configured(words)
    assert REFUSED[words] in refused.value.message


@pytest.mark.parametrize("name", REFUSED_FILES)
def test_a_file_without_tables_is_answered_with_what_it_holds_and_expectation(name: str) -> None:
    with pytest.raises(click.ClickException) as refused:
        configured(f"--kind tabulated --tables {name} --coding-rank 1")
    assert REFUSED_FILES[name] in refused.value.message


def test_what_is_wrong_with_a_prior_is_said_as_in_python() -> None:
    with pytest.raises(entropyd.InvalidConfigError, match=r"prior\.scale is -1"):
        configured(f"{INDEXED} -p loc=0 -p scale=-1")
    with pytest.raises(entropyd.InvalidConfigError, match="expected one range"):
        configured(f"{LOCATION_SCALE} --index-ranges 4,5 -p loc=0 -p scale=affine:1:1")
