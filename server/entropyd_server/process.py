"""One server process of the `entropyd-server` command, from its settings to its exit status."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import click

from entropyd_server.installation import CODING, MODELING, REGISTRY, modeling_obstacle
from entropyd_server.observe import logs
from entropyd_server.settings import Settings
from entropyd_server.transport.polling import keep_strangers_out_of_the_log, read_where_asked


def serve_process(settings: Settings, ready: Callable[[], object] = lambda: None) -> None:
    """Serves until a signal; calls `ready` when all roles are SERVING.

    Raises:
      ClickException: If the server cannot start; says why.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # asks to reload files, and none is loaded yet
    logs.configure(settings.log_format, settings.log_level)
    if MODELING in settings.roles and (obstacle := modeling_obstacle()):
        raise click.ClickException(
            f"the modeling role needs TensorFlow 2.14: {obstacle}, or serve with --role {CODING},{REGISTRY}"
        )
    # Nothing above may import gRPC, which reads this from the environment when it is imported.
    read_where_asked()
    keep_strangers_out_of_the_log()
    from entropyd_server.app import ServerFailedError, serve  # noqa: PLC0415
    from entropyd_server.assembly import StartError  # noqa: PLC0415

    try:
        serve(settings, ready)
    except StartError as error:
        raise click.ClickException(str(error)) from error
    except ServerFailedError:
        # The log says why. The rest of the process might never end by itself.
        os._exit(1)
