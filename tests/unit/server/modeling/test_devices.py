"""What `--devices` may say, and which GPUs a machine shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from entropyd_server.modeling.devices import Device, parse_devices, visible_gpus

if TYPE_CHECKING:
    from pathlib import Path


def test_auto_means_all_gpus_or_the_cpu() -> None:
    assert parse_devices("auto", []) == (Device("cpu", "-1"),)
    assert parse_devices("auto", ["0", "1"]) == (Device("gpu:0", "0"), Device("gpu:1", "1"))


def test_each_worker_sees_its_own_gpu_only() -> None:
    devices = parse_devices("gpu:1, cpu,cpu:1", ["GPU-a", "GPU-b"])
    assert devices == (Device("gpu:1", "GPU-b"), Device("cpu", "-1"), Device("cpu:1", "-1"))


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("tpu", "'tpu' is not a device"),
        ("", "'' is not a device"),
        ("cpu,cpu", "named twice"),
        ("gpu:2", "shows 2 GPUs"),
        ("gpu", "'gpu' is not a device"),
    ],
)
def test_a_wrong_name_is_refused_with_what_was_expected(flag: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_devices(flag, ["0", "1"])


def test_gpus_are_found_without_asking_the_driver(tmp_path: Path) -> None:
    assert visible_gpus({}, tmp_path / "missing") == ()
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:02:00.0").mkdir()
    assert visible_gpus({}, tmp_path) == ("0", "1")


@pytest.mark.parametrize(
    ("chosen", "gpus"),
    [("", ()), ("-1", ()), ("3,1", ("3", "1")), ("GPU-a, MIG-b", ("GPU-a", "MIG-b")), ("0,-1,2", ("0",))],
)
def test_cuda_visible_devices_rules_where_it_is_set(
    tmp_path: Path, chosen: str, gpus: tuple[str, ...]
) -> None:
    (tmp_path / "0000:01:00.0").mkdir()
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": chosen}, tmp_path) == gpus
