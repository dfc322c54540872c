"""CompressAI's GaussianConditional over loopback gRPC, against the module's own calls in process, in one run.

    make bench-compressai
    .venv-compressai/bin/python -m benchmarks.compressai [--rounds 15] [--shape 1x192x48x32]

Both code the same latents with the same 64 scales and means, torch with one thread. A round measures each
once, one after the other; the table shows medians over the rounds, and that of the ratio within a round.
"""

from __future__ import annotations

import argparse
import copy
import time
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from compressai.entropy_models import GaussianConditional
from compressai.models.base import get_scale_table
from rich.console import Console
from rich.table import Table
from tests.support.load import free_ports

import entropyd
from benchmarks.machine import machine
from entropyd.compressai import remote
from entropyd_server.local import LocalServer

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPE = "1x192x48x32"
WARM_UP_ROUNDS = 3


def main() -> None:
    """Measures and prints the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=15, help="measurements of each")
    arguments.add_argument("--shape", default=SHAPE, help="of the latents, N x C x H x W")
    chosen = arguments.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    shape = tuple(map(int, chosen.shape.split("x")))
    address = f"127.0.0.1:{free_ports(1)[0]}"
    with LocalServer(listen=address) as server, entropyd.Client(server.target) as client:
        rows = [_row(name, *calls, chosen.rounds) for name, calls in _calls(client, shape).items()]
    table = Table("call", "CompressAI, ms", "entropyd, ms", "times as fast", title=chosen.shape)
    for row in rows:
        table.add_row(*row)
    console = Console()
    console.print(table)
    console.print(machine("compressai", "grpcio", "numba", "torch"), soft_wrap=True)


def _calls(
    client: entropyd.Client, shape: tuple[int, ...]
) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """What is measured: the module's own call, and the remote one."""
    module = GaussianConditional(None)
    module.update_scale_table(get_scale_table())
    # As a hyperprior's: log-spaced, most of them small.
    scales = torch.exp(torch.empty(shape).normal_(-0.5, 1.2))
    means = torch.empty(shape).normal_(0, 2)
    latents = means + scales * torch.randn(shape)
    ours, indexes = remote(copy.deepcopy(module), client), module.build_indexes(scales)
    strings = module.compress(latents, indexes, means)
    if ours.compress(latents, indexes, means) != strings:
        raise SystemExit("the strings differ")
    restored = module.decompress(strings, indexes, means=means)
    if not torch.equal(ours.decompress(strings, indexes, means=means), restored):
        raise SystemExit("the restored latents differ")

    def pair(call: Callable[[Any], Any]) -> tuple[Callable[[], Any], Callable[[], Any]]:
        return lambda: call(module), lambda: call(ours)

    return {
        "build_indexes": pair(lambda one: one.build_indexes(scales)),
        "compress": pair(lambda one: one.compress(latents, indexes, means)),
        "decompress": pair(lambda one: one.decompress(strings, indexes, means=means)),
        "all three": pair(
            lambda one: one.decompress(
                one.compress(latents, one.build_indexes(scales), means), indexes, means=means
            )
        ),
    }


def _row(name: str, theirs: Callable[[], Any], ours: Callable[[], Any], rounds: int) -> tuple[str, ...]:
    for _ in range(WARM_UP_ROUNDS):
        theirs()
        ours()
    times = [(_milliseconds(theirs), _milliseconds(ours)) for _ in range(rounds)]
    own, remotely = (median(column) for column in zip(*times, strict=True))
    return name, f"{own:.2f}", f"{remotely:.2f}", f"{median(own / remotely for own, remotely in times):.1f}"


def _milliseconds(call: Callable[[], Any]) -> float:
    since = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - since)


if __name__ == "__main__":
    main()
