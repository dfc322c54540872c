"""Writes what the manifests repeat of Prometheus and Grafana: `python -m tests.deploy.write_monitoring`.

Owns the copies in the component `monitoring`, which kustomize needs within its own folder. Invariant: they
hold what the originals hold and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from tests.deploy.dockerfile import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

DEPLOY = REPOSITORY / "deploy"
COMPONENT = DEPLOY / "kubernetes" / "components" / "monitoring"
RULES = ("rules.yml", "alerts.yml")


def copies() -> dict[Path, str]:
    """What each copy should hold."""
    groups = [
        group
        for name in RULES
        for group in yaml.safe_load((DEPLOY / "prometheus" / name).read_text())["groups"]
    ]
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {
            "name": "entropyd",
            "namespace": "entropyd",
            "labels": {"app.kubernetes.io/name": "entropyd"},
        },
        "spec": {"groups": groups},
    }
    head = "# Written by `make manifests` from deploy/prometheus; change it there.\n"
    return {
        COMPONENT / "rules.yaml": head + yaml.safe_dump(rule, sort_keys=False, width=110),
        COMPONENT / "entropyd.json": (DEPLOY / "grafana" / "entropyd.json").read_text(),
    }


if __name__ == "__main__":
    for path, text in copies().items():
        path.write_text(text)
