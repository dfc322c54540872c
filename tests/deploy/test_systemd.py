"""The unit for systemd."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from entropyd_server import app
from tests.deploy.dockerfile import REPOSITORY
from tests.deploy.flags import flags
from tests.support.machine import program

UNIT = REPOSITORY / "deploy" / "systemd" / "entropyd.service"
INSTALLED = "/opt/entropyd/bin/entropyd-server"


def test_systemd_takes_every_line(tmp_path: Path) -> None:
    analyze = program("systemd-analyze", "systemd")
    here = tmp_path / UNIT.name
    here.write_text(
        UNIT.read_text().replace(INSTALLED, str(Path(sys.executable).with_name("entropyd-server")))
    )
    verified = subprocess.run([analyze, "verify", here], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")


def test_the_unit_sets_flags_of_the_server_and_leaves_time_to_drain() -> None:
    text = UNIT.read_text()
    variables = re.findall(r"^Environment=(ENTROPYD_\w+)=", text, re.MULTILINE)
    assert variables
    assert set(variables) <= set(flags())
    (stop,) = re.findall(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
    assert int(stop) > float(str(flags()["ENTROPYD_DRAIN_SECONDS"].default)) + app._GRACE_SECONDS
