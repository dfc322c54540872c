"""Laws of docs/range-coder.md: the decoder that it prints decodes, and its tables are true."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from entropyd.contract.kinds.power_law import PowerLawConfig
from entropyd_server.coding import self_test
from entropyd_server.coding.dither import noise_levels
from entropyd_server.coding.kinds.power_law import PowerLawCodec
from entropyd_server.coding.kinds.universal_batched import UniversalBatchedCodec
from entropyd_server.coding.tables import CodingTables
from entropyd_server.kernels.range_coder import Status

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "range-coder.md").read_text()
PROGRAM, PRINTED, RUN_LENGTHS = re.findall(r"```(?:python)?\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """Names that the page's program defines, and what it prints."""
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(PROGRAM, names)  # noqa: S102 -- this is the test
    return names | {"printed": printed.getvalue()}


def test_the_program_prints_what_the_page_says(page: dict[str, Any]) -> None:
    assert page["printed"] == PRINTED


def test_the_program_decodes_all_units_of_the_start_up_check(page: dict[str, Any]) -> None:
    assert page["cdf"] == [value for row in self_test.ROWS for value in (-self_test.PRECISION, *row)]
    offsets = [(level + 1) / 4 - 0.5 for level in noise_levels(12, 3).tolist()]
    for integers, string in zip(self_test.INTEGERS, self_test.STRINGS, strict=True):
        values = page["decode"](bytes.fromhex(string), page["cdf"], page["cdf_offset"], 2, 12, 3)
        assert values == [integer + offset for integer, offset in zip(integers, offsets, strict=True)]


@pytest.mark.parametrize(
    "name", ["noisy_normal_float32", "deep_factorized_float32", "empty_intervals", "carries", "no_symbols"]
)
def test_the_program_decodes_the_golden_corpus(page: dict[str, Any], name: str) -> None:
    document = json.loads((ROOT / "tests" / "golden" / f"{name}.json").read_text())
    dtype = document["config"]["bottleneck_dtype"]
    restored = np.frombuffer(base64.b64decode(document["restored_base64"]), dtype)
    count = len(document["noise_levels"])
    prior_size = int(np.prod(document["config"]["prior_shape"]))
    levels = document["config"]["num_noise_levels"]
    for unit, string in enumerate(document["strings_hex"]):
        values = page["decode"](
            bytes.fromhex(string), document["cdf"], document["cdf_offset"], prior_size, count, levels
        )
        assert values == restored[unit * count : (unit + 1) * count].tolist()


@settings(max_examples=200)
@given(string=st.binary(max_size=30) | st.sampled_from(self_test.STRINGS).map(bytes.fromhex))
@example(string=b"\xff" * 40)
@example(string=b"\xff\xff\xff\xff")
def test_the_program_accepts_and_refuses_what_the_server_does(page: dict[str, Any], string: bytes) -> None:
    codec = UniversalBatchedCodec(
        model_id="page",
        tables=CodingTables.parse(page["cdf"], page["cdf_offset"]),
        prior_shape=(2,),
        coding_rank=2,
        bottleneck_dtype="float32",
        num_noise_levels=3,
    )
    decoded = codec.decode(string, np.array([len(string)], np.uint32), codec.rows((6,)))
    if decoded.statuses[0] == Status.OK:
        values = page["decode"](string, page["cdf"], page["cdf_offset"], 2, 12, 3)
        assert np.array(values, np.float32) == pytest.approx(decoded.values[0], rel=1e-6)
    else:
        with pytest.raises(ValueError, match="corrupt"):
            page["decode"](string, page["cdf"], page["cdf_offset"], 2, 12, 3)


@pytest.mark.parametrize(
    ("levels", "first", "shown"),
    [
        (int(levels), int(first), [int(level) for level in shown.split()])
        for levels, first, shown in re.findall(
            r"^\| (\d+) \| (\d+) to \d+ \| ([\d ]+) \|$", PAGE, re.MULTILINE
        )
    ],
)
def test_the_noise_levels_of_the_page_are_drawn(levels: int, first: int, shown: list[int]) -> None:
    assert noise_levels(first + len(shown), levels)[first:].tolist() == shown


# Run lengths

POWER_LAW = PowerLawCodec.of(PowerLawConfig(coding_rank=1))
INTEGERS = st.lists(st.just(0) | st.integers(-9, 9) | st.integers(1 - 2**24, 2**24 - 1), max_size=30)


@pytest.fixture(scope="module")
def run_lengths() -> Any:
    """The page's decoder of run lengths; its own example holds."""
    names: dict[str, Any] = {}
    exec(RUN_LENGTHS, names)  # noqa: S102 -- this is the test
    return names["decode_run_lengths"]


@given(integers=INTEGERS)
def test_the_run_lengths_of_the_server_are_decoded(run_lengths: Any, integers: list[int]) -> None:
    encoded = POWER_LAW.encode(np.array([integers], np.float32), POWER_LAW.rows((len(integers),)))
    assert run_lengths(bytes(encoded.payload), len(integers)) == integers


@settings(max_examples=200)
@given(string=st.binary(max_size=30), count=st.integers(0, 9))
@example(string=bytes(5), count=1)
@example(string=b"\0\0\0\x40" + bytes(8), count=1)
@example(string=b"\0\0\0\x80" + bytes(8), count=1)
def test_run_lengths_are_accepted_and_refused_as_by_the_server(
    run_lengths: Any, string: bytes, count: int
) -> None:
    decoded = POWER_LAW.decode(string, np.array([len(string)], np.uint32), POWER_LAW.rows((count,)))
    if decoded.statuses[0] == Status.OK:
        assert np.array(run_lengths(string, count), np.float32).tolist() == decoded.values[0].tolist()
    else:
        with pytest.raises(ValueError, match="corrupt"):
            run_lengths(string, count)
