"""Laws of what a server cannot do without: a failure is always told, and an end comes in any case."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading

import pytest

from entropyd_server.vital import Vital

STUCK = """
import signal, threading
from entropyd_server.vital import end_within, prepare_end
prepare_end()
signal.signal(signal.SIGTERM, lambda *_: (end_within(0.2), end_within(60)))
lock = threading.Lock()
lock.acquire()
signal.raise_signal(signal.SIGTERM)
lock.acquire()
"""


def test_a_process_that_is_stuck_is_ended_and_says_where() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == -signal.SIGALRM
    assert 'File "<string>", line 9' in done.stderr


@pytest.mark.parametrize("seconds", [1e12, float("inf")])
def test_an_end_may_be_as_far_off_as_no_timer_goes(seconds: float) -> None:
    script = f"import signal; from entropyd_server.vital import end_within; end_within({seconds!r})"
    subprocess.run([sys.executable, "-c", script.replace("inf", "float('inf')")], check=True)


def test_whatever_a_thread_raises_ends_the_server(caplog: pytest.LogCaptureFixture) -> None:
    ended = threading.Event()
    vital = Vital(ended.set)

    def run() -> None:
        raise MemoryError

    thread = vital.thread("reader", run)
    thread.start()
    thread.join()
    assert ended.is_set()
    assert vital.failed
    assert [record.getMessage() for record in caplog.records] == ["thread reader failed, so the server ends"]


@pytest.mark.parametrize("how", ["raised", "cancelled", "returned"])
def test_a_task_ends_the_server_if_it_raises_and_only_then(how: str) -> None:
    ended: list[str] = []

    async def work() -> None:
        if how == "raised":
            raise RuntimeError("a fault of the test's")
        if how == "cancelled":
            await asyncio.Event().wait()

    async def main() -> None:
        task = Vital(lambda: ended.append("ended")).task("work", work())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())
    assert bool(ended) == (how == "raised")
