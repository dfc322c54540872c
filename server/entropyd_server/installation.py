"""The roles of a server, and which of them this installation can run.

TensorFlow is looked for without importing it, which takes seconds.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec

CODING = "coding"
REGISTRY = "registry"
MODELING = "modeling"
ROLES = (CODING, REGISTRY, MODELING)

# What `--role` takes for the roles that this installation can run, and for all of them.
INSTALLED = "auto"
ALL = "all"

_MODELING_PACKAGES = ("tensorflow", "tensorflow_compression", "tensorflow_probability")
# TensorFlow 2.14 has wheels for no newer one.
_NEWEST_PYTHON = (3, 11)


def parse_roles(flag: str) -> frozenset[str]:
    """Parses a `--role` flag: `auto`, `all`, or roles separated by commas; `modeling` adds `registry`.

    Raises:
      ValueError: If a name is no role; says which, and what was expected.
    """
    if flag == INSTALLED:
        return frozenset(ROLES if modeling_obstacle() is None else (CODING, REGISTRY))
    names = frozenset(ROLES if flag == ALL else (name.strip() for name in flag.split(",")))
    for name in sorted(names - set(ROLES)):
        raise ValueError(
            f"{name!r} is not a role; expected {INSTALLED}, {ALL}, or some of {', '.join(ROLES)}"
        )
    return names | {REGISTRY} if MODELING in names else names


def modeling_obstacle() -> str | None:
    """Returns why this installation cannot run the modeling role, and what to install; None if it can."""
    install = "pip install 'entropyd[server]'"
    if sys.version_info[:2] > _NEWEST_PYTHON:
        return (
            "TensorFlow 2.14 has no wheels for Python 3.12 or newer, and this server runs on Python "
            f"{sys.version_info.major}.{sys.version_info.minor}: use Python 3.11, and {install}"
        )
    missing = [name for name in _MODELING_PACKAGES if find_spec(name) is None]
    return f"{missing[0]} is not installed here: {install}" if missing else None
