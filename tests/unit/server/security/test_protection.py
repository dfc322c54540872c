"""Laws of protection: what is open to a network is told, and a port that is guarded is not open."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from entropyd_server.metrics import Metrics
from entropyd_server.security.protection import Protection
from entropyd_server.security.tls import CERT, CLIENT_CA, KEY
from entropyd_server.settings import Settings, command
from tests.support.certificates import Authority
from tests.support.transports import new_server, run

if TYPE_CHECKING:
    from pathlib import Path

TOKENS = "--tokens-file"
PLAIN = "tokens cross the network in plain text"
OPEN = "may use and delete every model"


def protection(*flags: str) -> Protection:
    served: list[Settings] = []
    assert CliRunner().invoke(command(served.append), flags).exit_code == 0
    return Protection(served[0], Metrics("test"))


@pytest.mark.usefixtures("each_transport")
@pytest.mark.parametrize(
    ("flags", "address", "warning"),
    [
        ((), "0.0.0.0:0", OPEN),
        ((), "127.0.0.1:0", None),
        ((TOKENS,), "0.0.0.0:0", PLAIN),
        ((TOKENS,), "127.0.0.1:0", None),
        ((CERT, KEY), "0.0.0.0:0", OPEN),
        ((CERT, KEY, TOKENS), "0.0.0.0:0", None),
        ((CERT, KEY, CLIENT_CA), "0.0.0.0:0", None),
    ],
)
def test_an_operator_is_told_of_what_is_open_to_the_network(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    flags: tuple[str, ...],
    address: str,
    warning: str | None,
) -> None:
    cert, key = Authority("root").issue(tmp_path, "server")
    tokens = tmp_path / "tokens"
    tokens.write_text(f"ci code {hashlib.sha256(b'secret').hexdigest()}\n")
    files = {CERT: cert, KEY: key, CLIENT_CA: cert, TOKENS: tokens}

    async def scenario() -> None:
        server = new_server()
        guarded = protection(*(word for flag in flags for word in (flag, str(files[flag]))))
        guarded.add_port(server, address)
        await server.start()
        await server.stop(asyncio.sleep(0))
        await server.close()

    run(scenario())
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == (warning is not None)
    assert warning is None or warning in said[0]
