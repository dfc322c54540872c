"""Programs and users of the machine that tests need: a real Prometheus, a real browser, a real proxy.

Where a program is missing, the test is skipped with the package to install, but in continuous integration,
where `.ci/run` installs them, it fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import NoReturn

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
        missing(f"{name} is not installed; try: apt-get install {package}")
    return found


def missing(reason: str) -> NoReturn:
    """Skips the test; in continuous integration, fails it."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def offline() -> list[str]:
    """What runs the command after it without any network, where the tester may make it so."""
    command = ["unshare", "--map-root-user", "--net"]
    return (
        command
        if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0
        else []
    )


def unprivileged(user: str, group: str) -> list[str]:
    """What runs the command after it as another user, where the tester may become one."""
    if os.geteuid() != 0:
        return []
    become = ["setpriv", "--reuid", user, "--regid", group, "--clear-groups", "--no-new-privs"]
    # If root may give it: the right to read what is in the tester's folders, as the interpreter; no more.
    for rights in ("-all,+dac_read_search", "-all"):
        command = [*become, *(f"--{kind}={rights}" for kind in ("inh-caps", "ambient-caps", "bounding-set"))]
        if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
            return command
    raise AssertionError("setpriv cannot become another user")
