"""Writes Prometheus's rules as its operator takes them: `python -m tests.deploy.write_monitoring`."""

from __future__ import annotations

import yaml

from tests.deploy.dockerfile import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
COMPONENT = DEPLOY / "kubernetes" / "components" / "monitoring"
MANIFEST = COMPONENT / "rules.yaml"
RULES = ("rules.yml", "alerts.yml")


def written() -> str:
    """What the manifest should hold."""
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
    return head + yaml.safe_dump(rule, sort_keys=False, width=110)


if __name__ == "__main__":
    MANIFEST.write_text(written())
