"""What a soak showed: a table, a verdict and a plot."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from collections import Counter
    from pathlib import Path

    from rich.console import Console

    from tests.soak.flatness import Growth, Watch


@dataclass(frozen=True)
class Outcome:
    """What a soak showed.

    Attributes:
      growths: How everything that was watched did.
      ends: How many operations ended in which way.
      coded: How many round trips each kind of model had, on each route.
      kills: How often what was killed or restarted.
      failures: Operations that ended as they must not, and what did not come to rest at the end.
      watch: All samples.
      since_s: From when on they are judged.
    """

    growths: list[Growth]
    ends: Counter[str]
    coded: Counter[tuple[str, str]]
    kills: Counter[str]
    failures: list[str]
    watch: Watch
    since_s: float

    @property
    def passed(self) -> bool:
        """Whether every operation ended as it must and nothing grew."""
        return not self.failures and all(growth.flat for growth in self.growths)


def report(outcome: Outcome, console: Console) -> None:
    """Prints what was watched, what was done, and the verdict."""
    table = Table("", "first half", "second half", "growth", "allowed", "")
    for growth in outcome.growths:
        table.add_row(
            growth.name,
            f"{growth.earlier:.1f}",
            f"{growth.later:.1f}",
            f"{growth.later - growth.earlier:+.1f}",
            f"{growth.allowed:.1f}" if math.isfinite(growth.allowed) else "",
            _judgement(growth),
        )
    console.print(table)
    ends = ", ".join(f"{count} {end}" for end, count in sorted(outcome.ends.items()))
    kills = ", ".join(f"{count} times {what}" for what, count in sorted(outcome.kills.items()))
    console.print(f"{outcome.ends.total()} operations: {ends}")
    kinds = {kind for kind, _ in outcome.coded}
    ways = sorted({route for _, route in outcome.coded})
    console.print(f"round trips of {len(kinds)} kinds of model, each over {'; '.join(ways)}")
    console.print(f"{kills}; judged from {outcome.since_s / 60:.1f} min on")
    for failure, count in _counted(outcome.failures):
        console.print(f"FAILED {count} times: {failure}", markup=False)
    console.print("PASS: every operation ended as it must, and nothing grew" if outcome.passed else "FAIL")


def _judgement(growth: Growth) -> str:
    if not math.isfinite(growth.allowed):
        return "not judged"
    return "flat" if growth.flat else "GROWS"


def _counted(failures: list[str]) -> list[tuple[str, int]]:
    return [(failure, failures.count(failure)) for failure in dict.fromkeys(failures)]


def plot(outcome: Outcome, path: Path) -> None:
    """Draws everything that was watched over time; a dotted line is where judging begins."""
    import matplotlib as mpl  # noqa: PLC0415 - only who asks for a picture waits for it

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "entropyd"
    from matplotlib import pyplot as plt  # noqa: PLC0415

    names = [name.rpartition(": ") for name in outcome.watch.samples]
    quantities = list(dict.fromkeys(quantity for _, _, quantity in names))
    holders = list(dict.fromkeys(holder for holder, _, _ in names))
    figure, axes = plt.subplots(
        2, math.ceil(len(quantities) / 2), sharex=True, figsize=(12, 6.5), squeeze=False
    )
    panels: dict[str, Any] = dict(zip(quantities, axes.flat, strict=False))
    for (holder, _, quantity), points in zip(names, outcome.watch.samples.values(), strict=True):
        minutes, values = [at_s / 60 for at_s, _ in points], [value for _, value in points]
        colour = f"C{holders.index(holder)}"
        panels[quantity].plot(minutes, values, linewidth=1, color=colour, label=holder)
    for quantity, panel in panels.items():
        panel.axvline(outcome.since_s / 60, color="0.5", linestyle=":", linewidth=1)
        panel.set_title(quantity, loc="left")
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
    axes[0, 0].legend(fontsize=8)
    for panel in axes[-1]:
        panel.set_xlabel("minutes")
    figure.tight_layout()
    figure.savefig(path, dpi=120, metadata={"Date": None} if path.suffix == ".svg" else None)
