"""The check of a whole store, as an operator runs it on a backup."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING

from entropyd import UniversalBatchedConfig, priors
from entropyd_server.coding.tables import CodingTables
from entropyd_server.store.model_store import ModelStore
from tests.support.machine import program
from tests.support.pages import blocks
from tests.support.sealed_objects import sealed, two_row_config

if TYPE_CHECKING:
    from pathlib import Path

TABLES = CodingTables.parse([-4, 0, 3, 16], [-1])


def config(scale: float) -> UniversalBatchedConfig:
    prior = priors.NoisyNormal(0.0, scale)
    return UniversalBatchedConfig(prior=prior, coding_rank=1, num_noise_levels=1, range_coder_precision=4)


def test_a_store_that_is_not_there_is_no_store_without_damage(tmp_path: Path) -> None:
    for name in (str(tmp_path / "typo"), (tmp_path / "typo").as_uri(), "/dev/null", "nope://typo"):
        command = [sys.executable, "-m", "entropyd_server.store.check", name]
        checked = subprocess.run(command, capture_output=True, text=True, check=False)
        assert checked.returncode == 1
        assert checked.stderr.startswith(f"Error: {name}: ")
        assert not checked.stdout
    assert not list(tmp_path.iterdir())


def check(folder: Path) -> tuple[int, list[str]]:
    command = [sys.executable, "-m", "entropyd_server.store.check", folder.as_uri()]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    return checked.returncode, checked.stdout.splitlines()


def test_damage_anywhere_in_a_store_is_found_and_named(tmp_path: Path) -> None:
    store = ModelStore(tmp_path.as_uri())
    configs = [config(scale) for scale in (1.0, 2.0, 3.0)]
    for one in configs:
        asyncio.run(store.create(one, TABLES, {}))
    assert check(tmp_path) == (0, ["3 whole, 0 damaged"])

    damaged = tmp_path / "models" / f"{configs[1].model_id}.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-3] ^= 1
    damaged.write_bytes(content)
    assert check(tmp_path) == (1, [f"{configs[1].model_id}: damaged", "2 whole, 1 damaged"])

    ill_typed = tmp_path / "models" / f"{two_row_config().model_id}.safetensors"
    ill_typed.write_bytes(sealed({"built_with": '{"tensorflow": 2}'}))
    with (tmp_path / "models" / f"{'f' * 64}.safetensors").open("wb") as large:
        large.truncate(2**42)
    ids = sorted([configs[1].model_id, two_row_config().model_id, "f" * 64])
    assert check(tmp_path) == (1, [*(f"{model_id}: damaged" for model_id in ids), "2 whole, 3 damaged"])


def test_the_backup_of_the_page_is_whole_and_grows(tmp_path: Path) -> None:
    program("rsync", "rsync")
    store, backup = tmp_path / "store", tmp_path / "backup"
    models = ModelStore(store.as_uri())
    (commands,) = (block for block in blocks("operations.md", "sh") if block.startswith("rsync"))
    for written, meant in (
        ("/var/lib/entropyd", store),
        ("/backup/entropyd", backup),
        ("python3", sys.executable),
    ):
        commands = commands.replace(written, str(meant))
    backup.mkdir()
    for number, scale in enumerate((1.0, 2.0)):
        asyncio.run(models.create(config(scale), TABLES, {}))
        asyncio.run(models.names.move(f"name-{number}", config(scale).model_id))
        copied = subprocess.run(["/bin/bash", "-c", commands], capture_output=True, text=True, check=True)
        assert copied.stdout == f"{number + 1} whole, 0 damaged\n"
    assert sorted(path.name for path in (backup / "names").iterdir()) == ["name-0", "name-1"]
