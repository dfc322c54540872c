"""What a benchmark ran on."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path


def machine(*packages: str) -> str:
    """CPU model and family, cores, and versions of Python and of packages."""
    cpuinfo = Path("/proc/cpuinfo")
    models = {
        line.split(":")[1].strip()
        for line in (cpuinfo.read_text().splitlines() if cpuinfo.exists() else [])
        if line.startswith(("model name", "cpu family"))
    }
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("numpy", *packages))
    cpu = " / ".join(sorted(models)) or platform.machine()
    return f"{cpu}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}"
