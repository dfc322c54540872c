"""Laws of the rules and alerts, held by Prometheus's own tool."""

from __future__ import annotations

import subprocess

import pytest

from tests.support.machine import program
from tests.support.prometheus import ALERTS, DEPLOY, RULES


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", "--lint-fatal", RULES, ALERTS),
        ("check", "config", DEPLOY / "prometheus" / "prometheus.yml"),
        ("test", "rules", DEPLOY / "prometheus" / "tests" / "rules_test.yml"),
    ],
    ids=["rules", "config", "tests"],
)
def test_promtool_agrees(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [program("promtool", "prometheus"), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
