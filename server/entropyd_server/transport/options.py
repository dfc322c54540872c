"""Channel arguments that every server has."""

from __future__ import annotations

# Ends connections whose callers vanished without a word: after 10 s of silence the server pings, and without
# an answer within 8 s it drops the connection with its calls. Callers may ping as often.
KEEPALIVE = (
    ("grpc.keepalive_time_ms", 10_000),
    # Both: the first alone ends nothing in gRPC 1.85, where the second is 60 s by default.
    ("grpc.keepalive_timeout_ms", 8_000),
    ("grpc.http2.ping_timeout_ms", 8_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Callers that ping more often lose their connection; by default, every 5 minutes is too often.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)
