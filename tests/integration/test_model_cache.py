"""What the model cache is charged for, against the memory of a server's process."""

from __future__ import annotations

import asyncio
import contextlib
import re
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np

from entropyd import UniversalBatchedConfig, priors
from entropyd.contract.wire import tensor_to_message
from entropyd.v1 import coding_pb2, coding_pb2_grpc
from entropyd_server.coding.tables import CodingTables
from entropyd_server.local import LocalServer
from entropyd_server.store.model_store import ModelStore
from tests.support.operations import status_page_of

if TYPE_CHECKING:
    from collections.abc import Callable

ROW = [-12, *range(0, 4096, 10), 4096]
ROWS = 1000
MB = 1e6


def resident_bytes(server: LocalServer) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) * 1024


def charged_bytes(server: LocalServer) -> float:
    with urllib.request.urlopen(status_page_of(server) + "metrics") as answer:  # noqa: S310 - our own
        return float(re.findall(r"^entropyd_model_cache_bytes (\S+)$", answer.read().decode(), re.M)[0])


def with_parameters(number: int) -> tuple[UniversalBatchedConfig, CodingTables | None]:
    """8 MB of parameters and no tables."""
    loc = np.random.default_rng(number).normal(size=2**21).astype(np.float32)
    return UniversalBatchedConfig(prior=priors.NoisyNormal(loc, 1.0), coding_rank=1, compression=False), None


def with_tables(number: int) -> tuple[UniversalBatchedConfig, CodingTables]:
    """1.6 MB of tables, 10 MB as they are prepared for coding."""
    tables = CodingTables.parse(np.array(ROW * ROWS), [0] * ROWS)
    prior = priors.NoisyNormal(float(number), [1.0] * ROWS)
    return UniversalBatchedConfig(
        prior=prior, coding_rank=1, num_noise_levels=1, tables=(tables.cdf, tables.cdf_offset)
    ), tables


def with_plans(number: int) -> tuple[UniversalBatchedConfig, CodingTables]:
    """A table of one row, for units of any length."""
    prior = priors.NoisyNormal(float(number), 1.0)
    config = UniversalBatchedConfig(prior=prior, coding_rank=1, num_noise_levels=1, range_coder_precision=4)
    return config, CodingTables.parse([-4, 0, 3, 16], [-1])


# How each kind is made, how many of them, and the symbols of a unit that is compressed with it.
KINDS: list[tuple[Callable[[int], tuple[UniversalBatchedConfig, CodingTables | None]], int, int]] = [
    (with_parameters, 10, 2),
    (with_tables, 10, ROWS),
    (with_plans, 10, 2**20),
]


def compress(stub: Any, model_id: str, symbols: int) -> None:
    tensor = tensor_to_message(np.zeros((1, symbols), np.float32))
    request = coding_pb2.CompressRequest(model_id=model_id, bottleneck=tensor)
    with contextlib.suppress(grpc.RpcError):  # a model without tables is in memory now, and codes nothing
        stub.Compress(request, timeout=60)


def test_the_gauge_of_the_cache_is_the_memory_that_models_take(tmp_path: Path) -> None:
    store = ModelStore(tmp_path.as_uri())
    models: list[list[tuple[str, int]]] = []
    for make, count, symbols in KINDS:
        models.append([])
        for number in range(count):
            config, tables = make(number)
            asyncio.run(store.create(config, tables, {}))
            models[-1].append((config.model_id, symbols))
    flags = ("--role", "coding", "--metrics-listen", "127.0.0.1:0", "--store", tmp_path.as_uri())
    with (
        LocalServer(*flags) as server,
        grpc.insecure_channel(server.target, [("grpc.max_send_message_length", -1)]) as channel,
    ):
        stub = coding_pb2_grpc.CodingServiceStub(channel)
        for kind in models:  # what reading and coding take for a moment is there from now on
            for model in kind[:2]:
                compress(stub, *model)
        resident, charged = resident_bytes(server), charged_bytes(server)
        for kind in models:
            for model in kind[2:]:
                compress(stub, *model)
        grown, gauge = resident_bytes(server) - resident, charged_bytes(server) - charged
    assert gauge > 250 * MB
    assert 0.75 * grown < gauge < 1.25 * grown


def test_models_are_evicted_for_all_that_they_hold(tmp_path: Path) -> None:
    store, limit = ModelStore(tmp_path.as_uri()), 2**20
    flags = ("--role", "coding", "--metrics-listen", "127.0.0.1:0", "--max-cache-bytes", str(limit))
    with (
        LocalServer(*flags, store=tmp_path.as_uri()) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        stub = coding_pb2_grpc.CodingServiceStub(channel)
        for number in range(20):
            config, tables = with_plans(number)
            asyncio.run(store.create(config, tables, {}))
            compress(stub, config.model_id, 2**15)  # a plan of 0.25 MiB
            assert charged_bytes(server) <= limit
