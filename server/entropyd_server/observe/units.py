"""Numbers with units as text, with at most four significant digits."""

from __future__ import annotations

import datetime

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def count_text(value: float) -> str:
    """Renders a count: `12`, `3.4`, `56.7 k`, `8.9 M`."""
    return _scaled(value, 1000, ("", " k", " M", " G", " T"))


def bytes_text(value: float) -> str:
    """Renders a number of bytes: `12 B`, `3.4 KiB`."""
    return _scaled(value, 1024, (" B", " KiB", " MiB", " GiB", " TiB"))


def seconds_text(seconds: float | None) -> str:
    """Renders the duration of a call: `250 µs`, `3.4 ms`, `1.20 s`; a dash for None."""
    if seconds is None:
        return "-"
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def duration_text(seconds: float) -> str:
    """Renders an uptime in its two largest units: `3 d 4 h`, `12 min 5 s`."""
    whole = int(seconds)
    if whole >= _DAY:
        return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"
    if whole >= _HOUR:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _MINUTE} min {whole % _MINUTE} s" if whole >= _MINUTE else f"{whole} s"


def time_text(epoch_seconds: float) -> str:
    """Renders a time, UTC: `2026-01-31 12:34:56`."""
    moment = datetime.datetime.fromtimestamp(epoch_seconds, datetime.timezone.utc)
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def _scaled(value: float, step: int, units: tuple[str, ...]) -> str:
    unit = 0
    while abs(value) >= step and unit < len(units) - 1:
        value /= step
        unit += 1
    digits = 0 if unit == 0 and float(value).is_integer() else 1
    return f"{value:.{digits}f}{units[unit]}"
