"""What Prometheus and Grafana get in Kubernetes, and what an operator reads when an alert fires."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from tests.deploy.manifests import container, manifests
from tests.deploy.write_flags import PAGE
from tests.deploy.write_monitoring import COMPONENT, MANIFEST, written

OVERLAY = "production"
HEADINGS = set(re.findall(r"^### (\w+)$", PAGE.read_text(), re.MULTILINE))


def rules() -> list[dict[str, Any]]:
    (found,) = manifests(OVERLAY, "PrometheusRule")
    return [rule for group in found["spec"]["groups"] for rule in group["rules"]]


def test_the_operators_rules_are_those_of_prometheus() -> None:
    assert MANIFEST.read_text() == written(), "run: make manifests"


def test_every_alert_has_its_section_and_leads_there() -> None:
    alerts = [rule for rule in rules() if "alert" in rule]
    assert alerts
    assert {alert["alert"] for alert in alerts} <= HEADINGS
    for alert in alerts:
        assert alert["annotations"]["runbook_url"].rpartition("#")[2] == alert["alert"].lower()


def test_the_dashboard_is_found_by_grafanas_sidecar() -> None:
    dashboards = [
        found
        for found in manifests(OVERLAY, "ConfigMap")
        if found["metadata"].get("labels", {}).get("grafana_dashboard") == "1"
    ]
    (dashboard,) = dashboards
    assert json.loads(dashboard["data"]["entropyd.json"])["panels"]


def test_prometheus_scrapes_a_port_that_pods_have() -> None:
    (monitor,) = manifests(OVERLAY, "PodMonitor")
    scraped = {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]}
    for deployment in manifests(OVERLAY, "Deployment"):
        assert scraped <= {port["name"] for port in container(deployment)["ports"]}


def test_the_autoscaler_asks_for_what_the_adapter_offers() -> None:
    (scaler,) = manifests(OVERLAY, "HorizontalPodAutoscaler")
    asked = {
        entry["pods"]["metric"]["name"] for entry in scaler["spec"]["metrics"] if entry["type"] == "Pods"
    }
    adapter = yaml.safe_load((COMPONENT / "prometheus-adapter.yaml").read_text())
    assert asked == {rule["name"]["as"] for rule in adapter["rules"]["custom"]}
