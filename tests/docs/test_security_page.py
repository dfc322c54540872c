"""The commands of docs/security.md, run as they are written, and a server with what they made."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import entropyd
from entropyd_server.local import LocalServer
from tests.support.load import free_ports
from tests.support.machine import program

PAGE = Path(__file__).resolve().parents[2] / "docs" / "security.md"


def test_certificates_and_tokens_made_by_the_page_are_good(tmp_path: Path) -> None:
    program("openssl", "openssl")
    blocks = re.findall(r"^```console tour\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    steps = [step.partition("\n") for block in blocks for step in re.split(r"^\$ ", block, flags=re.M)[1:]]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for command, _, printed in steps:
        ran = subprocess.run(
            ["/bin/bash", "-c", command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (ran.returncode, ran.stdout.strip(), ran.stderr) == (0, printed.strip(), ""), command
    cert, key, client_ca, tokens = (
        str(tmp_path / name) for name in ("server.crt", "server.key", "client-ca.pem", "tokens")
    )
    credentials = entropyd.tls_credentials(
        tmp_path / "ca.pem", tmp_path / "client.crt", tmp_path / "client.key"
    )
    address = f"localhost:{free_ports(1)[0]}"
    flags = ["--role", "coding", "--tls-cert", cert, "--tls-key", key]
    flags += ["--tls-client-ca", client_ca, "--tokens-file", tokens]
    with LocalServer(*flags, listen=address, credentials=credentials) as server:
        for name in ("ci", "trainer", "operator"):
            token = (tmp_path / f"{name}.token").read_text().strip()
            with entropyd.Client(server.target, credentials=credentials, token=token) as client:
                assert client.server_info().roles == ("coding",)
        with entropyd.Client(server.target, credentials=credentials) as client:
            with pytest.raises(entropyd.UnauthenticatedError):
                client.server_info()
