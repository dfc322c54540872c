"""Types of values on the command line."""

from __future__ import annotations

import math
from typing import Any

import click
from click.shell_completion import CompletionItem

from entropyd import EntropydError
from entropyd.cli.session import connect

_COMPLETION_TIMEOUT_S = 2.0


class _ModelId(click.ParamType[str]):
    """The id of a model, or its first digits."""

    name = "MODEL_ID"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Ids of the server's models; none if no server answers in time, or --local would start one."""
        del param
        options = ctx.find_root().params
        if options["local"]:
            return []
        try:
            with connect(options, _COMPLETION_TIMEOUT_S) as client:
                return [
                    CompletionItem(found.id) for found in client.models() if found.id.startswith(incomplete)
                ]
        except (EntropydError, OSError, ValueError):
            return []


MODEL_ID = _ModelId()


class FiniteRange(click.FloatRange):
    """A range of finite numbers: click.FloatRange accepts NaN."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number
