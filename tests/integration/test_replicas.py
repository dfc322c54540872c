"""Servers that share a store, and servers that end."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse
from urllib.request import url2pathname

import numpy as np
import psutil
import pytest

import entropyd
from entropyd_server.local import LocalServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def replica(store_url: str, server: LocalServer) -> Iterator[LocalServer]:
    """A second server on the store of the shared one, with the coding role alone."""
    with LocalServer("--role", "coding", store=store_url) as running:
        yield running


def test_a_second_server_decodes_what_the_first_encoded(replica: LocalServer, model: entropyd.Model) -> None:
    x = np.random.default_rng(0).normal(0, 4, (10, 7, 3)).astype(np.float32)
    compressed = model.compress(x)
    with entropyd.Client(replica.target) as other:
        same = entropyd.Model(other._session, model.info)
        restored = same.decompress(compressed)
        assert same.compress(x).strings.tolist() == compressed.strings.tolist()
    np.testing.assert_array_equal(restored, model.decompress(compressed))


def test_the_coding_role_offers_no_models(replica: LocalServer, model: entropyd.Model) -> None:
    with entropyd.Client(replica.target) as other:
        assert other.server_info().roles == ("coding",)
        with pytest.raises(entropyd.UnimplementedError):
            other.model(model.id)


def test_the_coding_role_imports_no_tensorflow(replica: LocalServer) -> None:
    maps = Path(f"/proc/{replica.process.pid}/maps")
    if not maps.exists():
        pytest.skip("needs /proc to see what a process has loaded")
    assert "tensorflow" not in maps.read_text()


def test_a_damaged_model_is_data_loss_and_never_garbage(
    tmp_path: Path, store_url: str, model: entropyd.Model
) -> None:
    name = f"models/{model.id}.safetensors"
    blob = bytearray(Path(url2pathname(urlparse(store_url).path), name).read_bytes())
    blob[-3] ^= 0x10
    (tmp_path / "models").mkdir()
    (tmp_path / name).write_bytes(blob)
    with LocalServer("--role", "coding", store=tmp_path.as_uri()) as running:
        with entropyd.Client(running.target) as client:
            with pytest.raises(entropyd.DataLossError, match="does not match its digests"):
                entropyd.Model(client._session, model.info).compress(np.zeros((1, 3), np.float32))


def test_a_signal_ends_the_server_and_its_worker(store_url: str) -> None:
    with LocalServer(store=store_url) as running:
        children = psutil.Process(running.process.pid).children(recursive=True)
        assert children
        assert running.stop() == 0
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not alive


def test_a_worker_does_not_outlive_a_killed_server(store_url: str) -> None:
    with LocalServer(store=store_url) as running:
        children = psutil.Process(running.process.pid).children(recursive=True)
        running.process.send_signal(signal.SIGKILL)
        running.process.wait()
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not alive


@pytest.mark.parametrize("flag", ["--listen", "--health-listen"])
def test_an_address_in_use_is_said_so(store_url: str, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        # One of the name's addresses is taken, and gRPC would be content with the other.
        address = f"localhost:{taken.getsockname()[1]}"
        command = [sys.executable, "-m", "entropyd_server", "--role", "coding", "--store", store_url]
        command += ["--listen", "127.0.0.1:0", "--metrics-listen", "", flag, address]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert f"cannot listen on {address}: is another server there?" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_help_names_every_flag_with_its_default_and_variable() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "entropyd_server", "--help"], capture_output=True, text=True, check=True
    ).stdout
    for flag in ("--listen", "--store", "--role", "--max-message-bytes", "--drain-seconds"):
        assert flag in shown
    assert "ENTROPYD_LISTEN" in shown
