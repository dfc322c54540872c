"""Entry point of the `entropyd` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command; exits with a message if the extra `cli` is not installed."""
    try:
        from entropyd.cli.main import entropyd  # noqa: PLC0415 - click and rich are an extra
    except ImportError as error:
        sys.exit(f"the entropyd command needs more packages ({error}): pip install 'entropyd[cli]'")
    entropyd()


if __name__ == "__main__":
    main()
