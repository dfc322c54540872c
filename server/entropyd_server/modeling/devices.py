"""The devices that worker processes compute on, as the `--devices` flag names them.

GPUs are found without TensorFlow, which takes memory on all of them when it looks for one. Invariant: no two
devices of a server have the same name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

AUTO = "auto"
NO_GPU = "-1"
_NAME = re.compile(r"(cpu)(?::(\d{1,3}))?|gpu:(\d{1,3})")
# The driver makes a folder here for each GPU that this process may use, also inside a container.
_DRIVER_FOLDER = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True)
class Device:
    """What one worker process computes on.

    Attributes:
      name: `cpu`, `cpu:N` or `gpu:N`; `builder` or `builder:N` for a worker that builds tables.
      cuda_visible_devices: Value of CUDA_VISIBLE_DEVICES for the process: one GPU, or `-1` for none.
    """

    name: str
    cuda_visible_devices: str = NO_GPU


CPU = Device("cpu")
# Tables are built on the CPU whatever else there is, see docs/adr/0007.
BUILDER = Device("builder")


def builder_devices(count: int) -> tuple[Device, ...]:
    """Returns the devices of `count` workers that build tables: `builder`, `builder:1`, and so on."""
    return (BUILDER, *(Device(f"{BUILDER.name}:{number}") for number in range(1, count)))


def visible_gpus(environment: Mapping[str, str], driver_folder: Path = _DRIVER_FOLDER) -> tuple[str, ...]:
    """Returns the GPUs of this machine, as CUDA_VISIBLE_DEVICES names them; `gpu:N` is the Nth.

    Where CUDA_VISIBLE_DEVICES is set, it decides; CUDA ignores what follows a negative number.
    """
    chosen = environment.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        present = sum(1 for _ in driver_folder.iterdir()) if driver_folder.is_dir() else 0
        return tuple(str(number) for number in range(present))
    gpus: list[str] = []
    for name in chosen.split(","):
        if not name.strip() or name.strip().startswith("-"):
            break
        gpus.append(name.strip())
    return tuple(gpus)


def parse_devices(flag: str, gpus: Sequence[str]) -> tuple[Device, ...]:
    """Parses a `--devices` flag.

    Args:
      flag: `auto` (all GPUs, or the CPU where there are none), or names separated by commas: `cpu`, `gpu:N`,
        and `cpu:N` for more than one worker on the CPU.
      gpus: What `visible_gpus` found.

    Raises:
      ValueError: If a name is wrong; says which, and what was expected.
    """
    if flag == AUTO:
        return tuple(Device(f"gpu:{number}", gpu) for number, gpu in enumerate(gpus)) or (CPU,)
    names = [name.strip() for name in flag.split(",")]
    devices: list[Device] = []
    for name in names:
        match = _NAME.fullmatch(name)
        if match is None:
            raise ValueError(f"{name!r} is not a device; expected auto, cpu, cpu:N or gpu:N")
        if names.count(name) > 1:
            raise ValueError(f"{name} is named twice; a second worker on the CPU is cpu:1")
        if match[3] is None:
            devices.append(Device(name))
        elif int(match[3]) < len(gpus):
            devices.append(Device(name, gpus[int(match[3])]))
        else:
            raise ValueError(f"{name} is not there: this machine shows {len(gpus)} GPUs")
    return tuple(devices)
