"""The metrics port of a real server: text for Prometheus, and a page for people in a real browser."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

import entropyd
from entropyd_server.local import LocalServer
from tests.support import chromium


def get(url: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of an answer."""
    request = urllib.request.Request(url, method=method, headers=headers)  # noqa: S310 - our own server
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, dict(refusal.headers), refusal.read()


def test_a_browser_shows_what_the_server_does(status_url: str, model: entropyd.Model) -> None:
    model.decompress(model.compress(np.zeros((2, 4, 3), np.float32)))
    with pytest.raises(entropyd.InvalidTensorError) as caught:
        model.compress(np.full((4, 3), np.nan, np.float32))
    shown = chromium.dom(status_url)
    for expected in (
        *("CodingService SERVING", "ModelService SERVING", "Decompress", "compress", "builder", "up"),
        *("INVALID_TENSOR", caught.value.metadata["request_id"], model.id[:12], 'href="/metrics"'),
    ):
        assert expected in shown
    assert model.id not in shown
    assert "<script" not in shown


def test_metrics_are_what_prometheus_reads(status_url: str, model: entropyd.Model) -> None:
    strings = model.compress(np.zeros((2, 4, 3), np.float32)).strings.copy()
    strings[1] += b"more"
    _, damaged = model.decompress(strings, (4,), on_error="skip")
    assert damaged.tolist() == [False, True]
    text = get(f"{status_url}metrics")[2].decode()
    values = {
        (sample.name, frozenset(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert values["entropyd_requests_total", frozenset({"Compress", "OK"})] >= 1
    assert values["entropyd_excess_bits_bucket", frozenset({"+Inf"})] >= 1
    assert values["entropyd_undecodable_units_total", frozenset()] >= 1
    assert values["entropyd_mismatched_units_total", frozenset()] >= 0
    assert values["entropyd_kind_symbols_total", frozenset({"compress", "universal_batched"})] >= 24
    assert values["entropyd_worker_up", frozenset({"builder"})] == 1
    assert not any(model.id in label for _, labels in values for label in labels)
    _, headers, _ = get(f"{status_url}metrics", **{"Accept-Encoding": "gzip"})
    assert headers["Content-Encoding"] == "gzip"


def test_nothing_else_is_there_and_nothing_can_be_changed(status_url: str) -> None:
    _, headers, _ = get(status_url)
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    for path, method, code in (("etc/passwd", "GET", 404), ("", "POST", 405), ("metrics", "DELETE", 405)):
        assert get(status_url + path, method)[0] == code


def test_a_silent_peer_keeps_nobody_from_the_page(status_url: str) -> None:
    address = (urlsplit(status_url).hostname or "", urlsplit(status_url).port or 0)
    with socket.create_connection(address), socket.create_connection(address):
        assert get(status_url)[0] == 200


def test_a_port_that_is_taken_ends_the_start_and_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(RuntimeError, match=f"cannot serve metrics on {address}"):
            LocalServer("--role", "coding", "--metrics-listen", address).__enter__()
