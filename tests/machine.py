"""Programs of the machine that tests drive: a real Prometheus, a real browser, a real proxy.

Owns what happens when one is missing: the test is skipped with the package to install, but in continuous
integration, where `.ci/run` installs them, it fails.
"""

from __future__ import annotations

import os
import shutil

import pytest


def program(name: str, package: str) -> str:
    """The path of a program; skips or fails the test if the machine lacks it.

    Args:
      name: What to run.
      package: The Debian package that has it, listed in .ci/apt-packages.
    """
    # Debian keeps servers where an ordinary user's PATH does not lead.
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        missing = f"{name} is not installed; try: apt-get install {package}"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return found
