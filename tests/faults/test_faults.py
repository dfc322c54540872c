"""The short form of `make faults`, and whether its verdict can fail."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from tests.faults.run import (
    ANSWERS,
    COLD,
    REFUSALS,
    REPLICAS,
    ROLES,
    STORE,
    Calls,
    Herd,
    Phase,
    failures,
    herd,
    many_models,
    start,
)
from tests.support.faulty_s3 import FaultyS3, Requests
from tests.support.replicas import start_replicas
from tests.support.s3_server import environment

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def s3() -> Iterator[FaultyS3]:
    with FaultyS3("models") as running, mock.patch.dict(os.environ, environment(running.url)):
        yield running


def test_replicas_on_a_store_in_trouble_lose_nothing_and_ask_no_more_than_they_must(s3: FaultyS3) -> None:
    with start_replicas(REPLICAS, STORE, *ROLES, *COLD) as replicas:
        phases = asyncio.run(many_models(s3, replicas, 60))
        herds = asyncio.run(herd(s3, replicas, 20, {**ANSWERS, **REFUSALS}))
    assert failures(phases, herds) == []
    met = sum((phase.requests.faults for phase in phases), Counter[str]())
    assert all(met[fault] for fault in ("slow_down", "lost", "cut"))


def test_a_start_asks_the_store_once_however_many_models_it_has(s3: FaultyS3) -> None:
    s3.fill("models", "many/", 1100)  # more than S3 lists in one request
    assert start("s3://models/many", 1100, s3).requests == {"LIST": 1}


def test_what_is_lost_or_asked_too_often_is_said() -> None:
    lost = Phase("read", 1.0, Requests(Counter(), Counter()), Calls(wrong=["model 1: other tables"]))
    asked = Herd("none", callers=6, replicas=3, reads=4, ends=Counter(ok=6))
    refused = Herd("500", callers=6, replicas=3, reads=12, ends=Counter(NOT_FOUND=6))
    fine = Herd("500", callers=6, replicas=3, reads=12, ends=Counter(STORE_UNAVAILABLE=6))
    assert len(failures([lost], [asked, refused, fine])) == 3
