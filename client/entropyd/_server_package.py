"""The server's package, where this installation can run a server.

Invariant: it is imported by name and when it is asked for, so that the client alone never needs it.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

_OLDEST_PYTHON = (3, 11)


def server_module(name: str) -> Any:
    """Imports the module `name` of the server's package.

    Raises:
      ImportError: If this installation cannot run a server; says what to install.
    """
    if sys.version_info < _OLDEST_PYTHON:
        raise ImportError(
            "a server needs Python 3.11 or newer, also with entropyd[coding], and this is Python "
            f"{sys.version_info.major}.{sys.version_info.minor}; clients of other servers run here"
        )
    try:
        return import_module(f"entropyd_server.{name}")
    except ImportError as error:
        raise ImportError(
            f"a server needs more packages ({error}): pip install 'entropyd[coding]'"
        ) from error
