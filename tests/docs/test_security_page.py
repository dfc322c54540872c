"""The commands of docs/security.md, run as they are written, and a server with what they made."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import entropyd
from entropyd_server.local import LocalServer
from tests.support.load import free_ports
from tests.support.machine import program
from tests.support.pages import blocks
from tests.support.stored_models import CHANNELS, put_model


def run(command: str, **environment: str) -> str:
    """What a command prints; it must end well, and write nothing to standard error."""
    ran = subprocess.run(
        ["/bin/bash", "-c", command],
        env={**os.environ, **environment, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, ""), f"{command}\n{ran.stderr}"
    return ran.stdout.strip()


def test_certificates_and_tokens_made_by_the_page_are_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program("openssl", "openssl")
    monkeypatch.chdir(tmp_path)
    for block in blocks("security.md", "console tour"):
        for step in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, printed = step.partition("\n")
            assert run(command) == printed.strip(), command
    store = (tmp_path / "store").as_uri()
    model = put_model(store)
    np.save("latents.npy", np.zeros((2, 5, CHANNELS), np.float32))
    ((serve, call),) = (block.split("\nentropyd ") for block in blocks("security.md", "sh"))
    command, listen, _, *flags = shlex.split(serve.replace("\\\n", ""))
    assert (command, listen) == ("entropyd-server", "--listen")
    (program_of_page,) = blocks("security.md", "python")
    names: dict[str, Any] = {"entropyd": entropyd}
    address = f"localhost:{free_ports(1)[0]}"
    exec(program_of_page.replace("entropyd.example.org:7070", address), names)  # noqa: S102 - our own page
    credentials = names["credentials"]
    with LocalServer(
        "--role", "coding,registry", *flags, listen=address, credentials=credentials, store=store
    ) as server:
        called = f"entropyd {call}".replace("entropyd.example.org:7070", address)
        assert "latents.entropyd: 120 -> " in run(called, MODEL=model.id)
        for name in ("ci", "trainer", "operator"):
            token = (tmp_path / f"{name}.token").read_text().strip()
            with entropyd.Client(server.target, credentials=credentials, token=token) as client:
                assert client.server_info().roles == ("coding", "registry")
        with entropyd.Client(server.target, credentials=credentials) as client:
            with pytest.raises(entropyd.UnauthenticatedError):
                client.server_info()
