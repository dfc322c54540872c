"""Laws of roles: what a flag names, what an installation can run, and what callers are told of the rest."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest

from entropyd_server import installation
from entropyd_server.errors import role_missing
from entropyd_server.installation import ROLES, modeling_obstacle, parse_roles

if TYPE_CHECKING:
    from collections.abc import Callable


class Version(NamedTuple):
    major: int
    minor: int


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets this look like another installation."""

    def look_like(minor: int, *packages: str) -> None:
        monkeypatch.setattr(sys, "version_info", Version(3, minor))
        monkeypatch.setattr(installation, "find_spec", lambda name: name if name in packages else None)

    return look_like


TENSORFLOW = ("tensorflow", "tensorflow_compression", "tensorflow_probability")


@pytest.mark.parametrize(
    ("flag", "roles"),
    [
        ("coding", {"coding"}),
        ("registry", {"registry"}),
        ("modeling", {"modeling", "registry"}),
        ("coding, registry", {"coding", "registry"}),
        ("modeling,coding", set(ROLES)),
        ("all", set(ROLES)),
    ],
)
def test_a_flag_names_roles_and_modeling_brings_the_registry(flag: str, roles: set[str]) -> None:
    assert parse_roles(flag) == roles


@pytest.mark.parametrize("flag", ["", "everything", "coding,", "coding,all", "auto,coding", "Coding"])
def test_a_name_that_is_no_role_is_refused(flag: str) -> None:
    with pytest.raises(ValueError, match="is not a role; expected auto, all, or some of coding"):
        parse_roles(flag)


@pytest.mark.parametrize(
    ("minor", "packages", "roles"),
    [
        (11, TENSORFLOW, set(ROLES)),
        (11, (), {"coding", "registry"}),
        (11, TENSORFLOW[:1], {"coding", "registry"}),
        (12, TENSORFLOW, {"coding", "registry"}),
        (13, (), {"coding", "registry"}),
    ],
)
def test_the_default_is_every_role_that_the_installation_can_run(
    installed: Callable[..., None], minor: int, packages: tuple[str, ...], roles: set[str]
) -> None:
    installed(minor, *packages)
    assert parse_roles("auto") == roles
    assert parse_roles("all") == set(ROLES)  # the server then says what is missing


def test_whoever_needs_modeling_is_told_what_to_start_and_what_to_install(
    installed: Callable[..., None],
) -> None:
    start = "Perturb needs the modeling role, which this server does not have; start one with --role modeling"
    installed(11, *TENSORFLOW)
    assert str(role_missing("modeling", "Perturb")) == start
    installed(11)
    assert str(role_missing("modeling", "Perturb")) == (
        f"{start} (tensorflow is not installed here: pip install 'entropyd[server]')"
    )
    installed(13)
    assert str(role_missing("modeling", "Perturb")) == (
        f"{start} (TensorFlow 2.14 has no wheels for Python 3.12 or newer, and this server runs on Python "
        "3.13: use Python 3.11, and pip install 'entropyd[server]')"
    )


@pytest.mark.parametrize("role", ["coding", "registry"])
def test_the_other_roles_need_no_more_than_a_flag(role: str) -> None:
    error = role_missing(role, "Compress", "something")
    assert str(error) == (
        f"something needs the {role} role, which this server does not have; start one with --role {role}"
    )
    assert (error.role, error.metadata) == (role, {"role": role, "method": "Compress"})


def test_looking_for_tensorflow_does_not_import_it() -> None:
    loaded = set(sys.modules)
    modeling_obstacle()
    assert "tensorflow" not in set(sys.modules) - loaded
