"""Replicas on a faulty S3 store with many models: `python -m tests.faults.run`, or `make faults`.

Prints what was asked of the store and what callers saw. Exit status 0 says that nothing was lost or wrong,
that no request was made too often, and that a start took less than START_S.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import grpc
from rich.console import Console
from rich.table import Table

from entropyd._channel import options, to_error
from entropyd.contract.kinds import config_to_message
from entropyd.v1 import model_pb2, model_pb2_grpc
from entropyd_server.local import LocalServer
from tests.support.faulty_s3 import Faults, FaultyS3, Requests
from tests.support.operations import until
from tests.support.replicas import start_replicas
from tests.support.s3_server import environment
from tests.support.stored_models import supplied

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import entropyd
    from tests.support.replicas import Replica

REPLICAS = 3
START_S = 3.0
STARTS = 5
STORE = "s3://models/team"
ROLES = ("--role", "coding,registry")
# Less than a model: one is cached at a time, so that nearly every read asks the store.
COLD = ("--max-cache-bytes", "1024")
CALLERS = 24
# A store in trouble: one of five requests fails in one way or another.
BAD_DAY = Faults(delay_s=0.02, slow_down=0.1, lost=0.05, cut=0.05, stale=True)
# A call that has failed this often will never succeed. Each failure is four requests that failed.
_MOST_FAILURES = 30
_EVERY_NAMED = 20
_EVERY_RACED = 10
# After the first request, as store/location.py has it.
RETRIES = 3
ANSWERS = {"none": Faults(), "slow: 1 s": Faults(delay_s=1)}
REFUSALS = {"503 SlowDown": Faults(slow_down=1), "500": Faults(lost=1), "cut": Faults(cut=1)}


@dataclass
class Calls:
    """What callers saw.

    Attributes:
      ended: Number of calls by method and outcome: `ok`, or the reason of an error.
      wrong: What must not be.
    """

    ended: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    async def until_answered(
        self, method: Any, request: Any, done: Callable[[entropyd.EntropydError], bool] = lambda _: False
    ) -> Any:
        """Makes a call, again while the store is unavailable; None if it ends in any other error.

        `done` says whether an error shows that an earlier attempt, which failed, had taken effect.
        """
        name = method._method.decode().rpartition("/")[2]
        for attempt in range(_MOST_FAILURES):
            try:
                response = await method(request, timeout=60)
            except grpc.RpcError as failure:
                error = to_error(failure)
                self.ended[name, error.reason] += 1
                if error.reason == "STORE_UNAVAILABLE" and error.retry_after_s is not None:
                    await asyncio.sleep(error.retry_after_s / 10)
                    continue
                if not (attempt and done(error)):
                    self.wrong.append(f"{name}: {error!r}")
                return None
            self.ended[name, "ok"] += 1
            return response
        self.wrong.append(f"{name}: failed {_MOST_FAILURES} times")
        return None


@dataclass(frozen=True)
class Phase:
    """Requests of S3 and calls of servers in one phase of the run."""

    name: str
    seconds: float
    requests: Requests
    calls: Calls


Stub = model_pb2_grpc.ModelServiceStub


async def connected(
    stack: AsyncExitStack, replicas: Sequence[Replica], *, retrying: bool = False
) -> list[Stub]:
    """Stubs that show every failure, or that retry as the Python client does."""
    channels = [
        grpc.aio.insecure_channel(
            replica.address, options(replica.address) if retrying else [("grpc.enable_retries", 0)]
        )
        for replica in replicas
    ]
    return [model_pb2_grpc.ModelServiceStub(await stack.enter_async_context(each)) for each in channels]


async def many_models(s3: FaultyS3, replicas: Sequence[Replica], count: int) -> list[Phase]:
    """Makes and names models, and reads all of them at every replica, with faults.

    Each is made at one replica and read at another at once; one of ten is made at all replicas at once.
    """
    digests: dict[str, bytes] = {}
    names: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        stubs = await connected(stack, replicas)

        async def make(number: int, calls: Calls) -> None:
            config = supplied(number)
            request = model_pb2.CreateModelRequest(config=config_to_message(config))
            makers = stubs if number % _EVERY_RACED == 0 else [stubs[number % len(stubs)]]
            made = await asyncio.gather(*(calls.until_answered(each.CreateModel, request) for each in makers))
            told = {each.model.tables_digest for each in made if each is not None}
            if len(told) != 1 or sum(each.created for each in made if each is not None) > 1:
                calls.wrong.append(f"model {number}: {len(told)} answers, more than one of which made it")
                return
            digests[config.model_id] = told.pop()
            other = stubs[(number + 1) % len(stubs)]
            await read(other, config.model_id, calls)
            if number % _EVERY_NAMED == 0:
                name = f"model-{number}"
                names[name] = config.model_id
                move = model_pb2.SetModelNameRequest(
                    name=name, model_id=config.model_id, expected_model_id=""
                )
                await calls.until_answered(
                    other.SetModelName, move, lambda error: error.metadata.get("model_id") == config.model_id
                )

        async def read(stub: Stub, model_id: str, calls: Calls) -> None:
            found = await calls.until_answered(stub.GetTables, model_pb2.GetTablesRequest(model_id=model_id))
            if found is not None and found.tables.digest != digests[model_id]:
                calls.wrong.append(f"model {model_id}: other tables")

        async def read_everywhere(model_id: str, calls: Calls) -> None:
            await asyncio.gather(*(read(stub, model_id, calls) for stub in stubs))

        async def resolve(name: str, calls: Calls) -> None:
            for stub in stubs:
                request = model_pb2.ResolveModelNameRequest(name=name)
                found = await calls.until_answered(stub.ResolveModelName, request)
                if found is not None and found.model_id != names[name]:
                    calls.wrong.append(f"name {name}: points at {found.model_id}")

        async def list_all(calls: Calls) -> None:
            listed, token = list[str](), ""
            while not listed or token:
                request = model_pb2.ListModelsRequest(page_token=token)
                page = await calls.until_answered(stubs[0].ListModels, request)
                listed, token = listed + [model.model_id for model in page.models], page.next_page_token
            if listed != sorted(digests):
                calls.wrong.append(f"{len(listed)} models are listed; expected {len(digests)}")

        phases = [
            await _phase(s3, "make, with faults", BAD_DAY, range(count), make),
            await _phase(s3, "read, with faults", BAD_DAY, list(digests), read_everywhere),
            await _phase(s3, "resolve names", Faults(), list(names), resolve),
            await _phase(s3, "list", Faults(), [None], lambda _, calls: list_all(calls)),
        ]
    if len(digests) != count:
        phases[0].calls.wrong.append(f"{len(digests)} models were made; expected {count}")
    return phases


async def _phase(
    s3: FaultyS3, name: str, faults: Faults, items: Sequence[Any], work: Callable[[Any, Calls], Any]
) -> Phase:
    s3.set(faults)
    calls, waiting, began = Calls(), iter(items), time.perf_counter()

    async def caller() -> None:
        for item in waiting:
            await work(item, calls)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return Phase(name, time.perf_counter() - began, s3.requests, calls)


@dataclass(frozen=True)
class Herd:
    """What one model that no replica has in memory costs, if callers ask all replicas for it at once.

    Attributes:
      fault: What the store did.
      callers: Number of callers.
      reads: GET requests of the model's object.
      replicas: Number of replicas.
      ends: Outcomes of the calls, and how many had each.
    """

    fault: str
    callers: int
    replicas: int
    reads: int
    ends: Counter[str]


async def herd(
    s3: FaultyS3,
    replicas: Sequence[Replica],
    callers: int,
    cases: Mapping[str, Faults],
    *,
    retrying: bool = False,
) -> list[Herd]:
    """Has `callers` ask each replica for a model, and the store answer after all have.

    They ask once, or as often as the Python client does.
    """
    herds = []
    async with AsyncExitStack() as stack:
        stubs = await connected(stack, replicas, retrying=retrying)
        for number, (fault, faults) in enumerate(cases.items()):
            s3.set(Faults())
            config = supplied(10**6 + number)
            create = model_pb2.CreateModelRequest(config=config_to_message(config))
            request = model_pb2.GetTablesRequest(model_id=(await stubs[0].CreateModel(create)).model.model_id)
            # Another model takes the place of this one in the cache.
            other = model_pb2.CreateModelRequest(config=config_to_message(supplied(10**6 - 1)))
            await asyncio.gather(*(stub.CreateModel(other) for stub in stubs))
            missed = [replica.sample("entropyd_model_cache_total", result="miss") for replica in replicas]
            s3.set(Faults(hold=True))
            asking = [
                asyncio.create_task(_outcome(stub.GetTables, request))
                for stub in stubs
                for _ in range(callers)
            ]
            for replica, before in zip(replicas, missed, strict=True):
                await asyncio.to_thread(_until_missed, replica, before + callers)
            s3.set(faults)
            ends = Counter(await asyncio.gather(*asking))
            reads = sum(
                count
                for (kind, key), count in s3.requests.by_key.items()
                if kind == "GET" and config.model_id in key
            )
            herds.append(Herd(fault, callers * len(stubs), len(stubs), reads, ends))
    return herds


def _until_missed(replica: Replica, misses: float) -> None:
    until(lambda: replica.sample("entropyd_model_cache_total", result="miss") >= misses, "all callers wait")


async def _outcome(method: Any, request: Any) -> str:
    try:
        await method(request, timeout=60)
    except grpc.RpcError as failure:
        error = to_error(failure)
        return error.reason if error.retry_after_s is not None else f"{error.reason}, no time to retry"
    return "ok"


@dataclass(frozen=True)
class Start:
    """How long a server took to serve, and what it asked of the store for it (None for a folder)."""

    store: str
    models: int
    seconds: float
    requests: dict[str, int] | None


def start(store: str, models: int, s3: FaultyS3 | None = None, *, turns: int = 1) -> Start:
    """Starts a server with the roles coding and registry on a store of so many models, and ends it.

    Of several `turns`, which other work on the machine slows down, the fastest counts.
    """
    seconds = math.inf
    for _ in range(turns):
        if s3 is not None:
            s3.set(Faults())
        began = time.perf_counter()
        with LocalServer(*ROLES, store=store):
            seconds = min(seconds, time.perf_counter() - began)
    return Start(store.partition(":")[0], models, seconds, None if s3 is None else dict(s3.requests.by_kind))


def _starts(s3: FaultyS3, models: int) -> Iterator[Start]:
    yield start("s3://models/empty", 0, s3, turns=STARTS)
    s3.fill("models", "many/", models)
    yield start("s3://models/many", models, s3, turns=STARTS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "models")
        path.mkdir()
        for number in range(models):
            (path / f"{number:064x}.safetensors").touch()
        yield start(Path(folder).as_uri(), models, turns=STARTS)


def main() -> None:
    """Prints tables and a verdict."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=10_000, help="models that are made and read")
    parser.add_argument("--stored", type=int, default=100_000, help="models in the store at the start")
    parser.add_argument("--callers", type=int, default=100, help="callers of one model, at each replica")
    arguments = parser.parse_args()
    console = Console(width=120)
    with FaultyS3("models") as s3, mock.patch.dict(os.environ, environment(s3.url)):
        with start_replicas(REPLICAS, STORE, *ROLES, *COLD) as replicas:
            phases = asyncio.run(many_models(s3, replicas, arguments.models))
            console.print(_phases(phases))
            herds = asyncio.run(herd(s3, replicas, arguments.callers, {**ANSWERS, **REFUSALS}))
            console.print(_herds(herds))
            retried = asyncio.run(herd(s3, replicas, arguments.callers, REFUSALS, retrying=True))
            console.print(_herds(retried, "the same, callers retry"))
        starts = list(_starts(s3, arguments.stored))
        console.print(_started(starts))
    wrong = [
        *failures(phases, herds),
        *(f"a start took {one.seconds:.1f} s" for one in starts if one.seconds > START_S),
    ]
    for one in wrong[:20]:
        console.print(one)
    console.print("FAILED" if wrong else "nothing was lost, and no request was made too often")
    sys.exit(bool(wrong))


def failures(phases: Sequence[Phase], herds: Sequence[Herd]) -> list[str]:
    """What was lost, wrong, or asked too often."""
    wrong = [f"{phase.name}: {what}" for phase in phases for what in phase.calls.wrong]
    for one in herds:
        answered = one.fault in ANSWERS
        most = one.replicas if answered else one.replicas * (1 + RETRIES)
        if one.reads > most or set(one.ends) != {"ok" if answered else "STORE_UNAVAILABLE"}:
            wrong.append(f"herd: {one}")
    return wrong


def _phases(phases: Sequence[Phase]) -> Table:
    kinds = ("GET", "PUT", "HEAD", "LIST")
    table = Table("phase", "s", *kinds, "503", "500", "cut", "calls ok", "UNAVAILABLE", "wrong")
    for phase in phases:
        requests, ended = phase.requests, phase.calls.ended
        ok = sum(count for (_, outcome), count in ended.items() if outcome == "ok")
        failed = sum(count for (_, outcome), count in ended.items() if outcome == "STORE_UNAVAILABLE")
        faults = [requests.faults[name] for name in ("slow_down", "lost", "cut")]
        counts = [requests.by_kind[kind] for kind in kinds]
        told = [f"{phase.seconds:.1f}", *counts, *faults, ok, failed, len(phase.calls.wrong)]
        table.add_row(phase.name, *map(str, told))
    return table


def _herds(herds: Sequence[Herd], heading: str = "fault") -> Table:
    table = Table(heading, "callers", "replicas", "reads of the model", "calls ended")
    for one in herds:
        ends = ", ".join(f"{count} {end}" for end, count in one.ends.items())
        table.add_row(one.fault, str(one.callers), str(one.replicas), str(one.reads), ends)
    return table


def _started(starts: Sequence[Start]) -> Table:
    table = Table("store", "models", "s to SERVING", "requests")
    for one in starts:
        requests = (
            "" if one.requests is None else ", ".join(f"{n} {kind}" for kind, n in one.requests.items())
        )
        table.add_row(one.store, str(one.models), f"{one.seconds:.1f}", requests)
    return table


if __name__ == "__main__":
    main()
