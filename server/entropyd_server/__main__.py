"""The `entropyd-server` command."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from entropyd_server.transport.polling import keep_strangers_out_of_the_log, read_where_asked

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
    import click  # noqa: PLC0415

    from entropyd_server.installation import (  # noqa: PLC0415
        CODING,
        MODELING,
        REGISTRY,
        modeling_obstacle,
    )
    from entropyd_server.observe import logs  # noqa: PLC0415

    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # asks to reload files, and none is loaded yet
    logs.configure(settings.log_format, settings.log_level)
    if MODELING in settings.roles and (obstacle := modeling_obstacle()):
        raise click.ClickException(
            f"the modeling role needs TensorFlow 2.14: {obstacle}, or serve with --role {CODING},{REGISTRY}"
        )
    # Nothing above may import gRPC, which reads this from the environment when it is imported.
    read_where_asked()
    keep_strangers_out_of_the_log()
    # Imported here, so that `--help` does not wait for gRPC and Numba.
    from entropyd_server.app import ServerFailedError, serve  # noqa: PLC0415
    from entropyd_server.assembly import StartError  # noqa: PLC0415

    try:
        serve(settings)
    except StartError as error:
        raise click.ClickException(str(error)) from error
    except ServerFailedError:
        # The log says why. The rest of the process might never end by itself.
        os._exit(1)


def _version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


if __name__ == "__main__":
    main()
