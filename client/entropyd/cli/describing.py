"""What `models create`, `list` and `show` say of a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from entropyd import Model, Prior, TabulatedConfig
from entropyd.contract.index_functions import IndexFunction

# Of a tabulated model's rows, `models show` prints so many.
_MOST_ROWS = 16


def describe(model: Model) -> dict[str, Any]:
    """The properties of a model, as JSON values."""
    config = model.config
    arguments = {name: getattr(config, name) for name in config.fields}
    ranges = {} if config.index_ranges is None else {"index_ranges": list(config.index_ranges)}
    return {
        "model_id": model.id,
        "kind": config.kind,
        "prior": config.family,
        "prior_shape": list(model.prior_shape),
        **ranges,
        **{name: value for name, value in arguments.items() if isinstance(value, (bool, int, float, str))},
        "tables_digest": model.tables_digest.hex(),
        "table_rows": model.info.table_rows,
        "table_bytes": model.info.table_bytes,
        "tables_origin": model.info.tables_origin,
        "created_at": model.info.created_at.isoformat(),
        "built_with": dict(model.built_with),
    }


def in_words(model: Model) -> str:
    """The same for people, a line for each, with the parameters of the prior below it."""
    return "\n".join(f"{name:22} {value}" for name, value in _lines(model))


def _lines(model: Model) -> Iterator[tuple[str, Any]]:
    config = model.config
    for name, value in describe(model).items():
        if name == "table_rows":
            yield name, f"{value:,} ({config.rows_in_words})" if value else value
        elif name == "table_bytes":
            yield name, f"{value:,}"
        else:
            yield name, value
        if name == "table_rows" and isinstance(config, TabulatedConfig):
            yield from ((f"  {row}", what) for row, what in of_rows(config))
        if name == "prior" and config.prior is not None:
            yield from ((f"  {parameter}", what) for parameter, what in of_prior(config.prior))


def of_rows(config: TabulatedConfig) -> Iterator[tuple[str, str]]:
    """The integers, the mode, the entropy and the escape's probability of each of the first rows."""
    ends = np.append(np.flatnonzero(config.cdf < 0)[1:], len(config.cdf))[:_MOST_ROWS]
    rows = np.split(config.cdf[: ends[-1]], ends[:-1])
    for number, (row, first) in enumerate(zip(rows, config.cdf_offset.tolist(), strict=False)):
        shares = np.diff(row[1:]) / row[-1]
        *own, escape = shares.tolist()
        entropy = float(np.sum(shares * np.log2(1 / shares)))
        what = f"{entropy:.3f} bits, escape {escape:.3g}"
        if own:
            mode = int(np.argmax(own))
            what = f"{first} ... {first + len(own) - 1}, mode {first + mode} ({own[mode]:.3g}), {what}"
        yield f"row {number}", what
    if config.table_rows > _MOST_ROWS:
        yield "...", f"{config.table_rows - _MOST_ROWS:,} more"


def of_prior(prior: Prior) -> Iterator[tuple[str, str]]:
    """Each parameter that is numbers, a function or another prior; a network has too many numbers to say."""
    for name, value in prior.parameters.items():
        if isinstance(value, Prior):
            yield name, value.family
            yield from ((f"  {below}", what) for below, what in of_prior(value))
        elif isinstance(value, IndexFunction):
            which = "all indexes" if value.takes_all_indexes else f"index {value.axis}"
            function = f"{value.name} of {which}" if len(prior.index_ranges or ()) > 1 else value.name
            yield name, f"{function} {_range(prior.on_grid().parameters[name])}"
        elif name not in prior.variables and name != "batch_shape":
            yield name, _range(value)


def _range(values: npt.NDArray[Any]) -> str:
    if values.size == 1:
        return f"{values.item():.6g}"
    shape = " x ".join(str(length) for length in values.shape)
    return f"{values.min():.6g} ... {values.max():.6g}, {shape} values"
