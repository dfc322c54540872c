"""Laws of what people see: log lines, rates and the status page."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entropyd.contract.errors import InternalError, ModelNotFoundError
from entropyd_server.metrics import Metrics
from entropyd_server.observe import units
from entropyd_server.observe.call_log import CallLog, Failure
from entropyd_server.observe.rates import Minute, Reading, lies_beyond, quantile
from entropyd_server.observe.status import StatusSource
from entropyd_server.observe.status_page import render
from entropyd_server.observe.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Sequence


class TestLogLines:
    SCRIPT = """
import logging
from entropyd_server.observe import logs
logs.configure({format!r}, {level!r})
log = logging.getLogger("a.b")
log.debug("fine print")
log.info("two\\nlines", extra={{"request_id": "r1", "milliseconds": 1.5}})
try:
    raise ValueError("cause")
except ValueError:
    log.exception("it broke")
"""

    def lines(self, log_format: str, level: str = "info") -> list[str]:
        code = self.SCRIPT.format(format=log_format, level=level)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == ""
        return done.stderr.splitlines()

    def test_every_json_line_is_one_object_with_its_fields(self) -> None:
        first, second = (json.loads(line) for line in self.lines("json"))
        assert (first["level"], first["logger"], first["message"]) == ("INFO", "a.b", "two\nlines")
        assert (first["request_id"], first["milliseconds"]) == ("r1", 1.5)
        assert first["time"].endswith("+00:00")
        assert "ValueError: cause" in second["traceback"]

    def test_text_lines_are_for_people(self) -> None:
        first, *others = self.lines("text")
        assert first.endswith("INFO a.b: two")
        assert "ValueError: cause" in others

    def test_the_level_says_what_is_left_out(self) -> None:
        assert "fine print" in "".join(self.lines("json", "debug"))
        assert "two" not in "".join(self.lines("text", "error"))


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 0.7)), max_size=60))
def test_a_throttle_admits_few_of_a_kind_and_counts_the_others(asked: list[tuple[str, float]]) -> None:
    throttle: Throttle[str] = Throttle(3)
    now, admitted, told = 0.0, [], 0
    for kind, pause in asked:
        now += pause
        left_out = throttle.admit(kind, now)
        if left_out is not None:
            admitted.append((kind, now))
            told += left_out
    assert told <= len(asked) - len(admitted)
    for kind in "ab":
        times = [at for admitted_kind, at in admitted if admitted_kind == kind]
        # No second has more than two budgets' worth in it, whatever second it is.
        assert all(sum(start <= at < start + 1 for at in times) <= 6 for start in times)
        first = [at for asked_kind, at in admitted if asked_kind == kind][:1]
        assert bool(first) == any(asked_kind == kind for asked_kind, _ in asked)


def test_what_a_throttle_left_out_is_told_with_the_next() -> None:
    throttle: Throttle[str] = Throttle(2)
    assert [throttle.admit("x", at) for at in (0, 0.1, 0.2, 0.9, 1.0, 1.1)] == [0, 0, None, None, 2, 0]


def test_a_flood_of_failures_is_a_few_lines_and_does_not_drive_out_what_is_remembered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    calls = CallLog()
    for number in range(1000):
        error = ModelNotFoundError("no")
        calls.failed("GetModel", [("x-request-id", str(number))], error, error, 1.0)
    assert 1 < len(caplog.records) < 100
    logged = [vars(record)["request_id"] for record in caplog.records]
    assert [failure.request_id for failure in calls.last] == logged[:-21:-1]


def busy(metrics: Metrics, calls: int, seconds: float) -> None:
    for _ in range(calls):
        metrics.methods["Compress"].duration_seconds.observe(seconds)
        metrics.methods["Compress"].calls_by_code["OK"] += 1
    metrics.operations["compress"].symbols += 1000 * calls
    metrics.operations["compress"].uncompressed_bytes += 4000 * calls
    metrics.operations["compress"].compressed_bytes += 500 * calls


class TestRates:
    def test_rates_are_of_the_last_minute(self) -> None:
        metrics = Metrics("test")
        minute = Minute(Reading.of(metrics, 0.0))
        for second in range(5, 605, 5):
            busy(metrics, 10 if second <= 500 else 50, 0.003)
            minute.add(Reading.of(metrics, float(second)))
        rates = minute.rates(Reading.of(metrics, 600.0))
        assert rates.seconds == 60
        assert rates.methods["Compress"].calls_per_second == 10
        assert rates.methods["Compress"].total == 10 * 100 + 50 * 20
        assert rates.operations["compress"].symbols_per_second == 10_000
        assert (rates.operations["compress"].ratio, rates.operations["compress"].bits_per_symbol) == (8, 4)

    def test_a_young_server_has_rates_of_its_whole_life(self) -> None:
        metrics = Metrics("test")
        minute = Minute(Reading.of(metrics, 0.0))
        busy(metrics, 6, 0.003)
        metrics.methods["GetModel"].calls_by_code["NOT_FOUND"] += 3
        rates = minute.rates(Reading.of(metrics, 3.0))
        assert rates.methods["Compress"].calls_per_second == 2
        assert rates.methods["GetModel"].failed == 3
        assert rates.operations["decompress"].ratio is None

    @given(st.lists(st.integers(0, 50), min_size=4, max_size=4), st.floats(0, 1))
    def test_a_quantile_lies_in_the_bucket_that_holds_it(self, counts: Sequence[int], share: float) -> None:
        bounds = (1.0, 2.0, 4.0)
        found = quantile(share, counts, bounds)
        if not sum(counts):
            assert found is None
            return
        assert found is not None
        below = sum(count for count, bound in zip(counts, bounds, strict=False) if bound < found)
        assert below <= share * sum(counts) + 1e-9
        assert found <= 4.0
        assert lies_beyond(share, counts) == (share * sum(counts) > sum(counts[:3]))


class _Text(HTMLParser):
    """Collects the tags and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += f" {data}"


class TestStatusPage:
    def test_it_tells_what_the_server_does(self) -> None:
        metrics, calls = Metrics("1.2.3"), CallLog()
        source = StatusSource("1.2.3", metrics, calls)
        source.services = lambda: {"entropyd.v1.CodingService": "SERVING"}
        busy(metrics, 6, 0.003)
        metrics.models_loaded, metrics.undecodable_units = 7, 31
        metrics.kind_symbols["compress", "location_scale_indexed"] += 4321
        metrics.worker_up["gpu:0"] = lambda: False
        metrics.worker_restarts["gpu:0", "memory_limit"] += 2
        error = InternalError("of no concern")
        calls.failed("Compress", [("x-request-id", "r-17")], error, error, 12.5)
        text = _Text(render(source.status())).text
        for expected in (
            *(
                "1.2.3",
                "CodingService SERVING",
                "Compress",
                "gpu:0",
                "31",
                "down",
                "2 memory limit",
                "8.00",
                "4.000",
            ),
            *("INTERNAL", "r-17", "12.5 ms", "metrics"),
            *("location scale indexed", "4.3 k"),
        ):
            assert expected in text
        assert "of no concern" not in text

    @given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=30))
    def test_whatever_text_it_is_given_it_shows_as_text(self, text: str) -> None:
        calls, hostile = CallLog(), f"<script>{text}</script>\"'&amp;"
        calls.last.append(Failure(0.0, hostile, "INTERNAL", hostile, hostile, hostile, 1.0))
        page = _Text(render(StatusSource(hostile, Metrics("x"), calls).status()))
        assert "script" not in page.tags
        assert hostile in page.text

    def test_of_calls_that_took_longer_than_is_measured_it_says_so(self) -> None:
        metrics = Metrics("1")
        source = StatusSource("1", metrics, CallLog())
        busy(metrics, 6, 75.0)
        busy(metrics, 5, 0.003)
        text = _Text(render(source.status())).text
        assert text.count("more than 10.00 s") == 2
        busy(metrics, 5, 0.003)
        assert _Text(render(source.status())).text.count("more than 10.00 s") == 1

    def test_a_server_that_has_done_nothing_yet_has_a_page(self) -> None:
        text = _Text(render(StatusSource("1", Metrics("1"), CallLog()).status())).text
        assert "no calls yet" in text
        assert "no look-ups yet" in text


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (units.count_text(0), "0"),
        (units.count_text(12), "12"),
        (units.count_text(0.25), "0.2"),
        (units.count_text(56_789), "56.8 k"),
        (units.bytes_text(2048), "2.0 KiB"),
        (units.seconds_text(None), "-"),
        (units.seconds_text(0.00025), "250 µs"),
        (units.seconds_text(0.0034), "3.4 ms"),
        (units.seconds_text(1.2), "1.20 s"),
        (units.duration_text(59.9), "59 s"),
        (units.duration_text(725), "12 min 5 s"),
        (units.duration_text(7260), "2 h 1 min"),
        (units.duration_text(3 * 86400 + 4 * 3600), "3 d 4 h"),
        (units.time_text(0), "1970-01-01 00:00:00"),
    ],
)
def test_figures_are_shown_with_their_units(shown: str, expected: str) -> None:
    assert shown == expected
