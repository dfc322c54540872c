"""The limits that a caller can hit."""

from __future__ import annotations

from dataclasses import dataclass

# A call may select 2^20 coding units, each by a field of its own; blocks of checksums are far fewer.
MAX_FIELDS = 5 << 18
# Room for the tables' layout and the envelope of the message that brought a configuration.
_OBJECT_MARGIN_BYTES = 1 << 24


@dataclass(frozen=True)
class Limits:
    """Every limit; the Limits message of info.proto has the same fields."""

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

    @property
    def max_object_bytes(self) -> int:
        """Most bytes of a stored model: its tables, and in base64 what a message can hold of it."""
        return self.max_model_bytes + 2 * self.max_message_bytes + _OBJECT_MARGIN_BYTES
