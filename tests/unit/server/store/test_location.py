"""Laws of the names of stores: a path is that path, a URL is what it stands for, or it is refused."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from obstore.store import LocalStore

from entropyd_server.store.location import StoreError, open_backend
from entropyd_server.store.model_store import ModelStore
from tests.support.sealed_objects import TABLES, two_row_config

NAMES = st.text(st.characters(blacklist_characters="/\0", codec="utf-8"), min_size=1, max_size=20).filter(
    lambda name: name not in {".", ".."}
)


def opened(name: str, *, make_folder: bool = True) -> Path:
    backend = open_backend(name, 1.0, make_folder=make_folder)
    assert isinstance(backend, LocalStore)
    assert backend.prefix is not None
    return Path(backend.prefix)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NAMES)
def test_any_folder_is_named_by_its_path_and_by_its_url(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    assert opened(str(folder)) == folder
    assert opened(folder.as_uri()) == folder
    assert opened(f"file://localhost{folder.as_uri().removeprefix('file://')}") == folder
    assert list(tmp_path.iterdir()) == [folder]
    folder.rmdir()


def test_models_are_kept_in_the_very_folder(tmp_path: Path) -> None:
    for name in ("run#1", "run?1", "run%231", "a run", "später"):
        store = ModelStore(str(tmp_path / name))
        asyncio.run(store.create(two_row_config(), TABLES, {}))
        model_id = two_row_config().model_id
        assert (tmp_path / name / "models" / f"{model_id}.safetensors").is_file()
        assert asyncio.run(store.list_ids(10)) == [model_id]


def test_a_relative_path_is_one_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert opened("models/of mine") == tmp_path / "models/of mine"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "file:///run#1",
        "file:///run?1",
        "s3://bucket/run#1",
        "s3://bucket/run?1",
        "memory:///?",
        "file://host/run",
        "file://run",
        "file:run",
        "nope://run",
        "/dev/null",
        "/dev/null/run",
        "/proc/nowhere/run",
        "run\0",
    ],
)
def test_what_names_no_store_is_refused_as_it_was_typed(name: str) -> None:
    with pytest.raises(StoreError) as caught:
        open_backend(name, 1.0, make_folder=True)
    assert str(caught.value).startswith(f"{name}: ")
    assert len(str(caught.value).splitlines()) == 1


def test_a_folder_is_made_only_where_it_may_be(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is no folder"):
        open_backend(str(tmp_path / "missing"), 1.0, make_folder=False)
    assert not list(tmp_path.iterdir())
