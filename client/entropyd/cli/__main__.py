"""Entry point of the `entropyd` command."""

from __future__ import annotations

import io
import sys


def main() -> None:
    """Runs the command; exits with a message if the extra `cli` is not installed."""
    try:
        from entropyd.cli.main import entropyd  # noqa: PLC0415 - click and rich are an extra
    except ImportError as error:
        sys.exit(f"the entropyd command needs more packages ({error}): pip install 'entropyd[cli]'")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # For names of files that are not UTF-8; standard error does so by itself.
        sys.stdout.reconfigure(errors="backslashreplace")
    entropyd()


if __name__ == "__main__":
    main()
