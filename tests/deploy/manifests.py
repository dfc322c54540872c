"""Overlays as `kubectl kustomize` renders them, each once in a run."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.dockerfile import REPOSITORY

FOLDER = REPOSITORY / "deploy" / "kubernetes"
OVERLAYS = sorted(path.parent.name for path in FOLDER.glob("overlays/*/kustomization.yaml"))
Manifest = dict[str, Any]


@functools.cache
def _rendered(overlay: str) -> list[Manifest]:
    kubectl = Path(sys.executable).with_name("kubectl")  # of the wheel; the machine's may be too old
    rendering = [str(kubectl), "kustomize", str(FOLDER / "overlays" / overlay)]
    rendered = subprocess.run(rendering, capture_output=True, text=True, check=False)
    assert (rendered.returncode, rendered.stderr) == (0, "")  # warnings of deprecated fields too
    return [manifest for manifest in yaml.safe_load_all(rendered.stdout) if manifest]


def manifests(overlay: str, kind: str | None = None) -> list[Manifest]:
    """What an overlay renders to, of one kind or of all."""
    return [manifest for manifest in _rendered(overlay) if kind in {None, manifest["kind"]}]


def name_of(manifest: Manifest) -> str:
    return str(manifest["metadata"]["name"])


def container(deployment: Manifest) -> Manifest:
    """The one container of a deployment."""
    (only,) = deployment["spec"]["template"]["spec"]["containers"]
    assert isinstance(only, dict)
    return only


def settings_of(overlay: str, deployment: Manifest) -> dict[str, str]:
    """The environment variables that the manifests give a deployment's container."""
    maps = {name_of(found): found["data"] for found in manifests(overlay, "ConfigMap")}
    found: dict[str, str] = {}
    for source in container(deployment)["envFrom"]:
        if "configMapRef" in source:
            found |= maps[source["configMapRef"]["name"]]
    return found | {entry["name"]: str(entry.get("value", "")) for entry in container(deployment)["env"]}


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return selector.items() <= labels.items()
