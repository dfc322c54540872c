"""A real Prometheus server that scrapes one entropyd."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.support.machine import program
from tests.support.operations import until

if TYPE_CHECKING:
    from typing_extensions import Self

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yml"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"

_CONFIG = """
global: {{ scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 1s }}
rule_files: ["{rules}", "{alerts}"]
scrape_configs:
  - job_name: entropyd
    static_configs: [{{ targets: ["{target}"], labels: {{ namespace: tests }} }}]
"""


class Prometheus:
    """Scrapes the entropyd whose status page is at `status_url`, with the rules and alerts of `deploy`."""

    def __init__(self, status_url: str) -> None:
        self._target = urlsplit(status_url).netloc

    def __enter__(self) -> Self:
        prometheus = program("prometheus", "prometheus")
        self._folder = tempfile.TemporaryDirectory(prefix="prometheus-")
        folder = Path(self._folder.name)
        config = folder / "prometheus.yml"
        config.write_text(_CONFIG.format(rules=RULES, alerts=ALERTS, target=self._target))
        with socket.create_server(("127.0.0.1", 0)) as free:
            address = f"127.0.0.1:{free.getsockname()[1]}"
        self._url = f"http://{address}"
        self._log = (folder / "log").open("w+")
        command = [prometheus, f"--config.file={config}"]
        command += [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address={address}"]
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        try:
            until(self._ready, "Prometheus is ready")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()
        self._log.close()
        self._folder.cleanup()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What an expression is now: a list of series with `metric` and `value`."""
        result: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return result

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer of the HTTP API."""
        url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own server
                return json.load(answer)["data"]
        except urllib.error.HTTPError as refusal:
            with refusal:
                raise AssertionError(f"{parameters}: {refusal.read().decode()}") from refusal

    def _ready(self) -> bool:
        assert self._process.poll() is None, Path(self._log.name).read_text()
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=10):  # noqa: S310 - our own server
                return True
        except OSError:
            return False
