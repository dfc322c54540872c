"""The `entropyd-server` command."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from entropyd_server.settings import Settings


def main() -> None:
    """Runs the command; exits with a message if this interpreter or installation cannot."""
    if sys.version_info < (3, 11):
        sys.exit(
            f"entropyd-server needs Python 3.11 or newer, and this is Python {_version()}; "
            "the client and the entropyd command run here"
        )
    try:
        from entropyd_server.settings import command  # noqa: PLC0415 - its packages are an extra
    except ImportError as error:
        sys.exit(f"entropyd-server needs more packages ({error}): pip install 'entropyd[coding]'")
    command(_serve)()


def _serve(settings: Settings) -> None:
    # Imported here, so that `--help` is fast.
    from entropyd_server.group import serve_group  # noqa: PLC0415
    from entropyd_server.machine import end_with_input  # noqa: PLC0415
    from entropyd_server.process import serve_process  # noqa: PLC0415

    if settings.end_with_input:
        end_with_input()
    if settings.processes == 1:
        serve_process(settings)
    else:
        serve_group(settings)


def _version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


if __name__ == "__main__":
    main()
