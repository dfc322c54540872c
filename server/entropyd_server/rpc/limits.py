"""Limits that a caller can hit, one value for all services.

Owns their names and fixed values; `InfoService` publishes them, the parsers hold to them.
"""

from __future__ import annotations

from dataclasses import dataclass

# A call may select 2^20 coding units, each by a field of its own; blocks of checksums are far fewer.
MAX_FIELDS = 5 << 18


@dataclass(frozen=True)
class Limits:
    """Every limit; field by field the Limits message of info.proto."""

    max_message_bytes: int
    max_model_bytes: int
    max_build_seconds: float
    max_concurrent_calls: int = 1024
    max_models_per_caller: int = 0
    max_units: int = 1 << 20
    max_rank: int = 32
    max_page_size: int = 100
    max_stream_inflight: int = 64
    max_fields: int = MAX_FIELDS
