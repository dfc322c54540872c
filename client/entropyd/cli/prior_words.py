"""Makes a prior of the words of a command line."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from entropyd import InvalidConfigError, Prior, priors
from entropyd.cli.arrays import read_array
from entropyd.contract.index_functions import FUNCTIONS
from entropyd.contract.json_text import parse_json

_AXIS = "axis="


def prior_of(
    family: str, parameters: Sequence[str] = (), index_ranges: str | None = None, scales: str | None = None
) -> Prior:
    """The prior that options of `models create` describe.

    Args:
      family: As in `NoisyNormal`.
      parameters: NAME=VALUE each. A value is a number, a JSON list or the path of a .npy file; in an indexed
        prior also FUNCTION:ARGUMENT:..., whose arguments are such values and perhaps, last, axis=N.
      index_ranges: Integers with commas between them, for an indexed prior.
      scales: LOW:HIGH:COUNT, for an indexed prior; in place of `index_ranges` and the parameter `scale`.

    Raises:
      click.UsageError: Naming the option, what it holds and what was expected.
      InvalidConfigError: If the family does not take these parameters.
    """
    indexed = index_ranges is not None or scales is not None
    values = dict(_parameter(text, indexed=indexed) for text in parameters)
    if scales is not None:
        if index_ranges is not None or "scale" in values:
            other = "--index-ranges" if index_ranges is not None else "-p scale="
            raise click.UsageError(f"--scales {scales!r:.80} has what {other} says; leave one of them out")
        return _scaled(family, scales, values)
    if index_ranges is not None:
        return priors.indexed(family, integers_of("--index-ranges", index_ranges), **values)
    return Prior(family, values)


def _parameter(text: str, *, indexed: bool) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"parameter {text!r:.80} is not NAME=VALUE")
    function, *arguments = value.split(":")
    if not arguments or function not in FUNCTIONS:
        return name, _value(name, value)
    if not indexed:
        what = f"parameter {name}: {value!r:.80} is a function of the index"
        raise click.UsageError(f"{what}; --index-ranges says how many indexes there are")
    return name, _function(name, function, arguments)


def _value(name: str, text: str) -> Any:
    if text.endswith(".npy"):
        return read_array(Path(text))
    try:
        return parse_json(text)
    except ValueError as error:
        functions = ", ".join(_form(function) for function in FUNCTIONS)
        what = f"parameter {name}: {text!r:.80} is not a number, JSON list or .npy file"
        raise click.UsageError(f"{what}, nor a function of the index ({functions})") from error


def _function(name: str, function: str, words: Sequence[str]) -> Any:
    make = getattr(priors, function)
    axis: dict[str, Any] = {}
    arguments = list(words)
    if words[-1].startswith(_AXIS):
        axis["axis"] = _value(name, arguments.pop().removeprefix(_AXIS))
    values = [_value(name, argument) for argument in arguments]
    try:
        inspect.signature(make).bind(*values, **axis)
    except TypeError:
        given = ":".join([function, *words])
        what = f"parameter {name}: {given!r:.80} is not {_form(function)}"
        raise click.UsageError(f"{what}, perhaps with :axis=N") from None
    with _said_of(f"parameter {name}: {function}"):
        return make(*values, **axis)


def _form(function: str) -> str:
    """As `affine:OFFSET:SLOPE`."""
    *arguments, _ = inspect.signature(getattr(priors, function)).parameters
    return ":".join([function, *(argument.upper() for argument in arguments)])


def _scaled(family: str, scales: str, others: Mapping[str, Any]) -> Prior:
    try:
        low, high, count = scales.split(":")
        ends, ranges = (float(low), float(high)), (int(count),)
    except ValueError:
        raise click.UsageError(f"--scales {scales!r:.80} is not LOW:HIGH:COUNT, as in 0.11:256:64") from None
    with _said_of(f"--scales {scales!r:.80}:"):
        scale = priors.log_spaced(*ends)
    return priors.indexed(family, ranges, **{"loc": 0.0, **others, "scale": scale})


def integers_of(option: str, text: str) -> tuple[int, ...]:
    """Integers with commas between them; raises click.UsageError, naming the option, for anything else."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        what = f"{option} {text!r:.80} is not a list of integers, as in 64 or 16,32"
        raise click.UsageError(what) from None


@contextmanager
def _said_of(subject: str) -> Iterator[None]:
    """Puts `subject` before what is wrong with the arguments of a function."""
    try:
        yield
    except InvalidConfigError as error:
        raise click.UsageError(f"{subject} {error}") from error
