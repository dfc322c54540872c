"""The dashboard, the rules and the alerts: asked of a real Prometheus beside a real server under load."""

from __future__ import annotations

import asyncio
import json
import math
import re
import threading
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

import entropyd
from entropyd import priors
from entropyd._compression import Compression
from entropyd.v1 import coding_pb2, coding_pb2_grpc
from entropyd_server.coding.tables import CodingTables
from entropyd_server.store.model_store import ModelStore
from tests.support.operations import until
from tests.support.prometheus import DEPLOY, Prometheus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

    from entropyd_server.local import LocalServer

DASHBOARD = json.loads((DEPLOY / "grafana" / "entropyd.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [
    pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
    for panel in PANELS
    for target in panel["targets"]
]
# What Grafana would put into the queries; `All` is `.*`, and the interval covers a few scrapes.
VARIABLES = {"namespace": ".*", "job": "entropyd", "instance": ".*", "__rate_interval": "5s"}


class Load:
    """A caller that makes every figure of a server move, until it is told to stop."""

    def __init__(self, server: LocalServer, store_url: str, model: entropyd.Model) -> None:
        self._target, self._store, self._model = server.target, ModelStore(store_url), model
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            with entropyd.Client(self._target) as client:
                visit = 0
                while not self._stop.is_set():
                    visit += 1
                    self._code()
                    self._stream()
                    self._models(client, visit)
        except BaseException as failure:  # noqa: BLE001 - for the test to raise
            self._failure = failure

    def _code(self) -> None:
        model, rng = self._model, np.random.default_rng(0)
        small, large = (rng.normal(0, 3, (2, length, 3)).astype(np.float32) for length in (40, 20_000))
        for x in (small, large, small + 1000):  # inline, queued, escapes
            model.decompress(model.compress(x))
        with pytest.raises(entropyd.InvalidTensorError):
            model.compress(small * np.nan)
        strings = model.compress(small).strings.copy()
        strings[0] += b"more"
        model.decompress(strings, (40,), on_error="skip")
        model(small)

    def _stream(self) -> None:
        serialised, _ = next(Compression(self._model.info, np.zeros((4, 3), np.float32)).requests())
        good = coding_pb2.CompressRequest.FromString(serialised)
        bad = coding_pb2.CompressRequest(model_id=self._model.id)
        with grpc.insecure_channel(self._target) as channel:
            stub = coding_pb2_grpc.CodingServiceStub(channel)
            messages = [coding_pb2.CompressStreamRequest(request=request) for request in (good, bad)]
            assert len(list(stub.CompressStream(iter(messages)))) == 2

    def _models(self, client: entropyd.Client, visit: int) -> None:
        """One model that the server builds, one that it finds in the store."""
        prior = priors.NoisyNormal(loc=0.0, scale=1 + visit / 1000)
        client.create_model(entropyd.UniversalBatchedConfig(prior=prior, coding_rank=1, num_noise_levels=1))
        tables = CodingTables.parse([-4, 0, 5 + visit % 9, 16], [visit])
        stored = entropyd.UniversalBatchedConfig(
            prior=prior,
            coding_rank=1,
            num_noise_levels=1,
            range_coder_precision=4,
            tables=(tables.cdf, tables.cdf_offset),
        )
        asyncio.run(self._store.create(stored, tables, {}))
        client.model(stored.model_id)


@pytest.fixture(scope="module")
def prometheus(
    server: LocalServer, store_url: str, status_url: str, model: entropyd.Model
) -> Iterator[Prometheus]:
    """A Prometheus that scrapes the shared server, which is busy."""
    with Prometheus(status_url) as running, Load(server, store_url, model):
        yield running


def substituted(query: str) -> str:
    return re.sub(r"\$(\w+)", lambda variable: VARIABLES[variable[1]], query)


def has_data(series: list[dict[str, Any]]) -> bool:
    return any(math.isfinite(float(one["value"][1])) for one in series)


@pytest.mark.parametrize("query", QUERIES)
def test_every_query_of_the_dashboard_has_data(prometheus: Prometheus, query: str) -> None:
    expression = substituted(query)
    until(lambda: has_data(prometheus.query(expression)), f"data of {expression}")


def test_every_recording_rule_has_data(prometheus: Prometheus) -> None:
    groups = prometheus.get("rules", type="record")["groups"]
    names = {rule["name"] for group in groups for rule in group["rules"]}
    assert len(names) >= 8
    for name in sorted(names):
        until(lambda name=name: has_data(prometheus.query(name)), f"data of {name}")  # type: ignore[misc]


def test_every_alert_is_evaluated(prometheus: Prometheus) -> None:
    def rules() -> list[dict[str, Any]]:
        groups = prometheus.get("rules", type="alert")["groups"]
        return [rule for group in groups for rule in group["rules"]]

    assert len(rules()) >= 11
    until(lambda: all(rule["health"] == "ok" for rule in rules()), "alerts are evaluated")
    for rule in rules():
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
        assert rule["labels"]["severity"] in {"critical", "warning"}


def test_the_variables_of_the_dashboard_have_values(prometheus: Prometheus) -> None:
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] != "query":
            continue
        asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
        assert asked is not None
        series = substituted(asked[1])
        until(
            lambda: bool(prometheus.get(f"label/{asked[2]}/values", **{"match[]": series})),  # noqa: B023
            f"values of {variable['name']}",
        )


def test_panels_are_described_and_do_not_overlap() -> None:
    places: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        where = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(where["x"], where["x"] + where["w"])
            for y in range(where["y"], where["y"] + where["h"])
        }
        assert not cells & places, panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        places |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert len({panel["title"] for panel in PANELS}) >= 25
    for panel in PANELS:
        assert panel["description"].endswith("."), panel["title"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
        assert {
            variable for target in panel["targets"] for variable in re.findall(r"\$(\w+)", target["expr"])
        } <= (VARIABLES.keys())
