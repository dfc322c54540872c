"""Types of values on the command line."""

from __future__ import annotations

import math
from typing import Any

import click
from click.shell_completion import CompletionItem

from entropyd import Client, EntropydError, UnimplementedError
from entropyd.cli.session import connect

_COMPLETION_TIMEOUT_S = 2.0


class _ModelId(click.ParamType[str]):
    """The id of a model, its first digits, or its name."""

    name = "MODEL_ID"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Ids and names of the models; none if no server answers in time, or --local would start one."""
        del param
        options = ctx.find_root().params
        if options["local"]:
            return []
        try:
            with connect(options, _COMPLETION_TIMEOUT_S) as client:
                found = [*(model.id for model in client.models()), *model_names(client)]
                return [CompletionItem(word) for word in found if word.startswith(incomplete)]
        except (EntropydError, OSError, ValueError):
            return []


MODEL_ID = _ModelId()


def model_names(client: Client) -> dict[str, str]:
    """Ids by name; none on a server that is too old for names."""
    try:
        return client.model_names()
    except UnimplementedError:
        return {}


name_option = click.option(
    "--name", help="Name to give the model; it is moved to the model if it is another one's."
)


class FiniteRange(click.FloatRange):
    """A range of finite numbers: click.FloatRange accepts NaN."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number
