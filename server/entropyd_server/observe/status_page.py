"""Renders the status page: a server at a glance, for people without dashboards.

Invariant: all text is escaped, and the page needs no script and no other file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from entropyd_server.observe.status import Status
from entropyd_server.observe.units import bytes_text, count_text, duration_text, seconds_text, time_text

_REFRESH_SECONDS = 10
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
:root { --good: #1a7f37; --bad: #cf222e; --wait: #9a6700; }
@media (prefers-color-scheme: dark) { :root { --good: #3fb950; --bad: #f85149; --wait: #d29922; } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem; max-width: 66rem; }
header { display: flex; flex-wrap: wrap; gap: .25rem 1rem; align-items: baseline; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.05rem; margin: 1.75rem 0 .5rem; }
p { margin: .4rem 0; } .soft, h2 small { opacity: .7; font-weight: normal; } a { color: inherit; }
.state { border: 1px solid; border-radius: 1rem; font-size: .85rem; padding: 0 .6rem; white-space: nowrap; }
.good { color: var(--good); } .bad { color: var(--bad); } .wait { color: var(--wait); }
.tiles { display: grid; gap: .6rem; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); }
.tile { background: var(--soft); border-radius: .5rem; padding: .5rem .75rem; }
.tile b { display: block; font-size: 1.3rem; font-variant-numeric: tabular-nums; } .tile span { opacity: .7; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .6rem; text-align: left; white-space: nowrap; }
th { font-weight: 600; opacity: .7; } .number { text-align: right; }
@media (max-width: 40rem) { body { font-size: 14px; } th, td { padding: .3rem; } }
"""
_STATES = {"SERVING": "good", "STARTING": "wait", "DRAINING": "bad"}

Row = tuple[str, ...]


def render(status: Status) -> str:
    sections = (
        _tiles(status),
        _section("Calls", f"last {status.rates.seconds:.0f} s", _calls(status)),
        _section("Coding", f"last {status.rates.seconds:.0f} s", _coding(status)),
        _section("Kinds of models", "symbols since the start", _kinds(status)),
        _section("Workers", "processes that run TensorFlow; builders make coding tables", _workers(status))
        if status.workers
        else "",
        _section("Last errors", "newest first", _failures(status)),
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="refresh" content="{_REFRESH_SECONDS}">'
        f"<title>entropyd {escape(status.version)}</title><style>{_STYLE}</style></head>"
        f"<body>{_header(status)}<main>{''.join(sections)}</main></body></html>\n"
    )


def _header(status: Status) -> str:
    states = "".join(
        f'<span class="state {_STATES.get(state, "wait")}">{escape(name.rpartition(".")[2])} '
        f"{escape(state)}</span>"
        for name, state in status.services.items()
    )
    roles = ", ".join(status.metrics.roles)
    return (
        f'<header><h1>entropyd {escape(status.version)}</h1><span class="soft">up for '
        f"{duration_text(status.uptime_seconds)}, roles {escape(roles)}</span>{states}"
        '<a href="/metrics">metrics</a></header>'
    )


def _tiles(status: Status) -> str:
    metrics = status.metrics
    lookups = sum(metrics.model_cache.values())
    hits = f"{metrics.model_cache['hit'] / lookups:.1%} cache hits" if lookups else "no look-ups yet"
    stalled_s = metrics.batching_stalled_seconds()
    stalled = f", no batch ended for {stalled_s:.0f} s" if stalled_s >= 1 else ""
    calls_per_second = sum(rates.calls_per_second for rates in status.rates.methods.values())
    tiles = (
        (count_text(calls_per_second), "calls per second"),
        (count_text(metrics.inflight_requests), "calls in flight"),
        (count_text(metrics.queue_symbols()), f"queued symbols{stalled}"),
        (count_text(sum(list(metrics.shed.values()))), "calls refused or dropped since the start"),
        (count_text(metrics.undecodable_units), "undecodable coding units since the start"),
        (count_text(metrics.models_loaded), f"models in memory, {hits}"),
    )
    shown = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(text)}</span></div>' for value, text in tiles
    )
    return f'<h2>Now</h2><div class="tiles">{shown}</div>'


def _calls(status: Status) -> str:
    rows = [
        (
            name,
            f"{rates.calls_per_second:.1f}",
            f"{rates.failed:,}",
            _quantile(rates.median_seconds, beyond=rates.median_beyond),
            _quantile(rates.p99_seconds, beyond=rates.p99_beyond),
            f"{rates.total:,}",
        )
        for name, rates in sorted(status.rates.methods.items())
        if rates.total
    ]
    heads = ("method", "calls/s", "failed", "median", "p99", "calls since the start")
    return _table(heads, rows, "no calls yet")


def _quantile(seconds: float | None, *, beyond: bool) -> str:
    return f"more than {seconds_text(seconds)}" if beyond else seconds_text(seconds)


def _coding(status: Status) -> str:
    rows = [
        (
            name,
            f"{count_text(rates.symbols_per_second)}/s",
            f"{bytes_text(rates.uncompressed_bytes_per_second)}/s" if rates.ratio else "-",
            f"{rates.ratio:.2f}" if rates.ratio else "-",
            f"{rates.bits_per_symbol:.3f}" if rates.bits_per_symbol else "-",
        )
        for name, rates in status.rates.operations.items()
    ]
    return _table(("operation", "symbols", "array bytes", "compression ratio", "bits per symbol"), rows, "")


def _kinds(status: Status) -> str:
    symbols = dict(status.metrics.kind_symbols)
    operations = list(status.rates.operations)
    rows = [
        (kind.replace("_", " "), *(count_text(symbols.get((name, kind), 0)) for name in operations))
        for kind in sorted({kind for _, kind in symbols})
    ]
    return _table(("kind", *operations), rows, "nothing coded yet")


def _workers(status: Status) -> str:
    rows = [
        (
            worker.name,
            "up" if worker.up else "down",
            ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in worker.restarts.items())
            or "none",
        )
        for worker in status.workers
    ]
    return _table(("worker", "state", "restarts"), rows, "", text_columns=3)


def _failures(status: Status) -> str:
    rows = [
        (
            time_text(failure.at),
            failure.method,
            f"{failure.code} {failure.reason}",
            seconds_text(failure.milliseconds / 1000),
            failure.model or "-",
            failure.request_id,
        )
        for failure in status.failures
    ]
    heads = ("time (UTC)", "method", "error", "duration", "model", "request id")
    return _table(heads, rows, "no errors", text_columns=6)


def _section(title: str, remark: str, content: str) -> str:
    small = f" <small>{escape(remark)}</small>" if remark else ""
    return f"<h2>{escape(title)}{small}</h2>{content}"


def _table(heads: Row, rows: Sequence[Row], nothing: str, text_columns: int = 1) -> str:
    if not rows:
        return f'<p class="soft">{escape(nothing)}</p>'
    body = "".join(f"<tr>{_cells('td', row, text_columns)}</tr>" for row in rows)
    head = f"<thead><tr>{_cells('th', heads, text_columns)}</tr></thead>"
    return f'<div class="wide"><table>{head}<tbody>{body}</tbody></table></div>'


def _cells(tag: str, values: Iterable[str], text_columns: int) -> str:
    number = ' class="number"'
    return "".join(
        f"<{tag}{number if column >= text_columns else ''}>{escape(value)}</{tag}>"
        for column, value in enumerate(values)
    )
