"""Laws of the metrics: what is counted is what a scrape shows, under the published names."""

from __future__ import annotations

from functools import reduce
from operator import add

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from entropyd_server.metrics import Distribution, Metrics

PUBLISHED = set(
    """
entropyd_requests_total entropyd_request_duration_seconds entropyd_queue_wait_seconds entropyd_batch_symbols
entropyd_batch_units entropyd_kernel_seconds entropyd_queue_symbols entropyd_inflight_requests
entropyd_shed_total entropyd_symbols_total entropyd_uncompressed_bytes_total entropyd_compressed_bytes_total
entropyd_escaped_symbols_total entropyd_excess_bits entropyd_stream_messages_total
entropyd_kind_symbols_total entropyd_mismatched_units_total
entropyd_undecodable_units_total entropyd_models_loaded entropyd_model_load_seconds entropyd_model_cache_total
entropyd_store_operations_total entropyd_table_build_seconds entropyd_worker_up
entropyd_worker_restarts_total entropyd_build_info entropyd_role
""".split()  # noqa: SIM905 - a table of names reads better than a list of strings
)


def scraped(metrics: Metrics) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(metrics)
    return registry


def test_every_published_name_is_scraped() -> None:
    metrics = Metrics("1.2.3", {"coding"})
    metrics.methods["Compress"].calls_by_code["OK"] += 1
    metrics.stream_messages["CompressStream", "OK"] += 1
    metrics.kind_symbols["compress", "power_law"] += 1
    metrics.shed["queue_full"] += 1
    metrics.store_operations = {("read", "ok"): 1}
    metrics.worker_restarts["cpu", "died"] += 1
    metrics.worker_up["cpu"] = lambda: True
    page = generate_latest(scraped(metrics)).decode()
    shown = {line.split("{")[0].split(" ")[0] for line in page.splitlines() if not line.startswith("#")}
    histograms = {name.removesuffix("_bucket") for name in shown if name.endswith("_bucket")}
    assert shown | histograms >= PUBLISHED


def test_counts_are_shown_as_they_are() -> None:
    metrics = Metrics("1.2.3")
    metrics.operations["compress"].symbols += 7
    metrics.methods["Compress"].calls_by_code["OK"] += 3
    metrics.queue_symbols = lambda: 11
    registry = scraped(metrics)
    assert registry.get_sample_value("entropyd_symbols_total", {"operation": "compress"}) == 7
    assert registry.get_sample_value("entropyd_requests_total", {"method": "Compress", "code": "OK"}) == 3
    assert registry.get_sample_value("entropyd_queue_symbols") == 11
    assert registry.get_sample_value("entropyd_build_info", {"version": "1.2.3"}) == 1


@given(st.lists(st.floats(0, 100), max_size=50))
def test_a_bucket_counts_what_is_at_most_its_bound(values: list[float]) -> None:
    distribution = Distribution((0.5, 1.0, 10.0))
    for value in values:
        distribution.observe(value)
    below = [sum(distribution.counts[: i + 1]) for i in range(4)]
    expected = [sum(value <= bound for value in values) for bound in (0.5, 1.0, 10.0, float("inf"))]
    assert below == expected
    # One by one: from Python 3.12 on, sum() of floats rounds less often.
    assert distribution.total == reduce(add, values, 0.0)
