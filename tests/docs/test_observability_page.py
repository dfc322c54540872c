"""Laws of docs/observability.md: its table and the metrics agree, name by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from entropyd_server.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Mapping

DOCS = Path(__file__).parents[2] / "docs"
ROW = re.compile(r"\| `(entropyd_\w+)(?:\{([\w,]+)\})?` \| (\w+) \| (\w*) \|")


def registered() -> dict[str, tuple[str, frozenset[str]]]:
    """Type and labels of every metric, by its name in queries."""
    metrics = Metrics("1.2.3", ["coding"])
    metrics.methods["Compress"].calls_by_code["OK"] += 1
    metrics.kind_symbols["compress", "power_law"] += 1
    metrics.stream_messages["CompressStream", "OK"] += 1
    metrics.worker_restarts["cpu", "died"] += 1
    metrics.store_operations = {("read", "ok"): 1}
    metrics.reloads["tokens", "ok"] += 1
    metrics.worker_up["cpu"] = lambda: True
    metrics.certificate_expiry = {"tls-cert": 0.0}
    found = {}
    for family in metrics.collect():
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        labels = {label for sample in family.samples for label in sample.labels if label != "le"}
        found[family.name + suffix] = (family.type, frozenset(labels))
    return found


def documented() -> Mapping[str, tuple[str, frozenset[str]]]:
    rows = ROW.findall((DOCS / "observability.md").read_text())
    return {name: (kind, frozenset(filter(None, labels.split(",")))) for name, labels, kind, _ in rows}


def test_the_table_and_the_metrics_agree() -> None:
    assert documented() == registered()


def test_units_are_those_of_the_names() -> None:
    rows = ROW.findall((DOCS / "observability.md").read_text())
    for name, _, kind, unit in rows:
        named = next(
            (unit for unit in ("seconds", "bytes", "symbols", "units", "bits") if f"_{unit}" in name), ""
        )
        assert unit == named, (name, kind)
