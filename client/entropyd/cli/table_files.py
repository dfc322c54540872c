"""Tables of `.npz` files, as configurations of models that are tables alone.

A file has one of three sets of arrays: rows with their offsets; the buffers of one of CompressAI's modules,
by their names in its `state_dict`; or `cdf` and `cdf_offset` in TFC's layout.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy.typing as npt

from entropyd import TabulatedConfig
from entropyd.cli.arrays import member_names, open_member

Arrays = Mapping[str, npt.NDArray[Any]]

_BUFFERS = ("_quantized_cdf", "_cdf_length", "_offset")
_EXPECTED = f"rows and offsets, perhaps lengths; {', '.join(_BUFFERS)} of CompressAI; or cdf and cdf_offset"


def tabulated_of(path: Path, coding_rank: int, **options: Any) -> TabulatedConfig:
    """The configuration of the tables in a file; `options` are further arguments of TabulatedConfig.

    Raises:
      click.ClickException: If the file cannot be read, or its arrays are not those of tables.
      InvalidConfigError: If they make no model.
    """
    names = member_names(path)
    buffers = [name for name in names if name.rpartition(".")[2] == _BUFFERS[0]]
    if buffers:
        if len(buffers) > 1:
            found = f"{path} has the tables of {len(buffers)} modules: {', '.join(sorted(buffers))}"
            raise click.ClickException(f"{found}; expected those of one")
        return _of_buffers(path, names, buffers[0].removesuffix(_BUFFERS[0]), coding_rank, options)
    arrays = {name: _member(path, name) for name in names}
    offset = arrays.pop("quantization_offset", None)
    options["quantization_offset"] = offset
    if arrays.keys() == {"cdf", "cdf_offset"}:
        return TabulatedConfig.of_tables((arrays["cdf"], arrays["cdf_offset"]), coding_rank, **options)
    if arrays.keys() | {"lengths"} == {"rows", "offsets", "lengths"}:
        return _of_rows(arrays["rows"], arrays["offsets"], arrays.get("lengths"), coding_rank, options)
    found = f"{path} has the arrays {', '.join(sorted(arrays)) or 'of no name'}"
    raise click.ClickException(f"{found}; expected {_EXPECTED}")


def _of_buffers(
    path: Path, names: list[str], prefix: str, coding_rank: int, options: dict[str, Any]
) -> TabulatedConfig:
    missing = [f"{prefix}{name}" for name in _BUFFERS if f"{prefix}{name}" not in names]
    if missing:
        raise click.ClickException(f"{path} lacks {' and '.join(missing)}; expected {', '.join(_BUFFERS)}")
    rows, lengths, offsets = (_member(path, f"{prefix}{name}") for name in _BUFFERS)
    if not rows.size:
        raise click.ClickException(f"{path} has empty tables; call update() of the module before saving it")
    if f"{prefix}quantiles" in names:
        quantiles = _member(path, f"{prefix}quantiles")
        if quantiles.shape != (len(rows), 1, 3):
            found = f"{prefix}quantiles of {path} has shape {quantiles.shape}"
            raise click.ClickException(f"{found}; expected {(len(rows), 1, 3)}")
        # An EntropyBottleneck subtracts the median of a channel, the middle one of its quantiles.
        medians = quantiles[:, 0, 1]
        shape = options.get("row_shape")
        options["quantization_offset"] = medians if shape is None else medians.reshape(shape)
    return _of_rows(rows, offsets, lengths, coding_rank, options)


def _of_rows(
    rows: npt.NDArray[Any], offsets: Any, lengths: Any, coding_rank: int, options: dict[str, Any]
) -> TabulatedConfig:
    """The precision follows from the end of a row, which is the largest number of a matrix."""
    largest = int(rows.max()) if rows.size and rows.dtype.kind in "iu" else 0
    precision = largest.bit_length() - 1 if 2 <= largest <= 1 << 16 else 16
    given = {"lengths": lengths, "precision": precision, **options}
    return TabulatedConfig(rows, offsets, coding_rank, **given)


def _member(path: Path, name: str) -> npt.NDArray[Any]:
    with open_member(path, name) as array:
        return array
