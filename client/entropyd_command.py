"""Entry point of the `entropyd` command.

It stands outside of the package because gRPC reads its settings when it is imported, which the package does.
"""

from __future__ import annotations

import os


def main() -> None:
    """Runs the command."""
    # gRPC logs each failed handshake to standard error, beside the sentence in which the command says it.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from entropyd.cli.__main__ import main as run  # noqa: PLC0415 - see above

    run()
