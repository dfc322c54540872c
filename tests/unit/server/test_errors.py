"""Laws of the server's own errors."""

from __future__ import annotations

import pytest

from entropyd_server.errors import limit_exceeded


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1, "1"), (2**26, "67108864"), (2**44, "17592186044416"), (300.0, "300"), (0.5, "0.5")],
)
def test_a_limit_is_shown_to_its_last_digit(value: float, shown: str) -> None:
    error = limit_exceeded("the message exceeds", "max_message_bytes", value, "; send less")
    assert error.message == f"the message exceeds the server's max_message_bytes of {shown}; send less"
    assert error.metadata == {"limit": "max_message_bytes", "value": shown}
