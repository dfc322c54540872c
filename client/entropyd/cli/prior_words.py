"""Makes a prior of the words of a command line."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click

from entropyd import Prior, priors
from entropyd.cli.arrays import read_array
from entropyd.contract.json_text import parse_json

FUNCTIONS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        function.__name__: function
        for function in (
            priors.affine,
            priors.exp_affine,
            priors.log_spaced,
            priors.softmax_affine,
            priors.table,
        )
    }
)
_AXIS = "axis="
_SCALES = "--scales {!r} is not LOW:HIGH:COUNT, as in 0.11:256:64"


def prior_of(family: str, parameters: Sequence[str], index_ranges: str | None, scales: str | None) -> Prior:
    """The prior that the options of `models create` describe.

    Args:
      family: As in `NoisyNormal`.
      parameters: NAME=VALUE each; a value is a number, a JSON list, the path of a .npy file, or, with ranges,
        FUNCTION:ARGUMENT:... with arguments of the same forms and perhaps axis=N as the last.
      index_ranges: Integers with commas between them; None for an ordinary prior.
      scales: LOW:HIGH:COUNT, in place of `index_ranges` and the parameter `scale`.

    Raises:
      click.UsageError: Naming the option, what it holds and what was expected.
      InvalidConfigError: If the family does not take these parameters.
    """
    indexed = index_ranges is not None or scales is not None
    values = dict(_parameter(text, indexed=indexed) for text in parameters)
    if scales is not None:
        return priors.indexed(family, **_scaled(scales, values, index_ranges))
    if index_ranges is not None:
        return priors.indexed(family, index_ranges=_ranges(index_ranges), **values)
    return Prior(family, values)


def _parameter(text: str, *, indexed: bool) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"parameter {text!r} is not NAME=VALUE")
    function, *arguments = value.split(":")
    if not arguments or function not in FUNCTIONS:
        return name, _value(name, value)
    if not indexed:
        what = f"parameter {name}: {function} is a function of the index"
        raise click.UsageError(f"{what}; --index-ranges says how many indexes there are")
    return name, _function(name, function, arguments)


def _value(name: str, text: str) -> Any:
    if text.endswith(".npy"):
        return read_array(Path(text))
    try:
        return parse_json(text)
    except ValueError as error:
        raise click.UsageError(
            f"parameter {name}: {text!r:.80} is not a number, JSON list, .npy file "
            f"or function of the index ({', '.join(FUNCTIONS)})"
        ) from error


def _function(name: str, function: str, arguments: Sequence[str]) -> Any:
    *rest, last = arguments
    axis: dict[str, Any] = {}
    if last.startswith(_AXIS):
        arguments, axis = rest, {"axis": _value(name, last.removeprefix(_AXIS))}
    make = FUNCTIONS[function]
    values = [_value(name, argument) for argument in arguments]
    try:
        inspect.signature(make).bind(*values, **axis)
    except TypeError:
        taken = ":".join(parameter.upper() for parameter in inspect.signature(make).parameters)
        found = f"parameter {name}: {function} has {len(values)} arguments"
        raise click.UsageError(f"{found}; expected {function}:{taken}") from None
    return make(*values, **axis)


def _ranges(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise click.UsageError(
            f"--index-ranges {text!r} is not a list of integers, as in 64 or 16,32"
        ) from None


def _scaled(scales: str, values: Mapping[str, Any], index_ranges: str | None) -> dict[str, Any]:
    if index_ranges is not None:
        raise click.UsageError(f"--scales {scales!r} has the index range; leave out --index-ranges")
    if "scale" in values:
        raise click.UsageError(f"--scales {scales!r} has the scale; leave out -p scale=")
    try:
        low, high, count = scales.split(":")
        scale = priors.log_spaced(float(low), float(high))
        return {"loc": 0.0, **values, "scale": scale, "index_ranges": (int(count),)}
    except ValueError:
        raise click.UsageError(_SCALES.format(scales)) from None
