"""Entry point of the `entropyd` command.

It is outside the package, because importing the package imports gRPC, which reads its settings then.
"""

from __future__ import annotations

import os


def main() -> None:
    """Runs the command."""
    # gRPC logs each failed handshake to standard error; the command prints its own message.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from entropyd.cli.__main__ import main as run  # noqa: PLC0415 - see above

    run()
