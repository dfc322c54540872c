"""Compares our range coder with TFC's, constriction's and CompressAI's in one run.

    python -m benchmarks.coder            all cases; rewrites docs/performance.md and its plots
    python -m benchmarks.coder --quick    the requirement's cases only, one short round; writes nothing

Owns what is compared and how it is told. It must not know how a coder is called (`coder_peers`). Invariant:
a ratio is the median over rounds of two times that were taken within seconds of one another, so that a
machine that gets slower or faster during the run moves both.
"""

# ruff: noqa: PLC0415 -- matplotlib is imported where plots are drawn: a quick run needs none.
from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.coder_cases import Case, IndexedCase
from benchmarks.coder_peers import entropyd, median_seconds
from benchmarks.machine import machine
from benchmarks.page import PERFORMANCE, PLOTS, rewrite

ROOT = Path(__file__).parent.parent
OPERATIONS = ("encode", "decode")

# Work, case, operation, times TFC in a tf.function with one thread: must, stretch.
REQUIREMENTS: list[tuple[str, Case | IndexedCase, str, float, float]] = [
    ("one unit, 48x32x192", Case(1, 48, 32), "encode", 4, 6),
    ("one unit, 48x32x192", Case(1, 48, 32), "decode", 3.5, 5),
    ("16 units, 48x32x192", Case(16, 48, 32), "encode", 4, 10),
    ("16 units, 48x32x192", Case(16, 48, 32), "decode", 5, 10),
    ("one unit, 4x4x192, whole call", Case(1, 4, 4), "encode", 20, 40),
    ("one unit, 4x4x192, whole call", Case(1, 4, 4), "decode", 20, 40),
    ("one unit with indexes, 48x32x192", IndexedCase(1, 48, 32), "encode", 4, 6),
    ("one unit with indexes, 48x32x192", IndexedCase(1, 48, 32), "decode", 3.5, 5),
    ("16 units with indexes, 48x32x192", IndexedCase(16, 48, 32), "encode", 4, 8),
    ("16 units with indexes, 48x32x192", IndexedCase(16, 48, 32), "decode", 4.5, 8),
    ("one unit with indexes, 4x4x192, whole call", IndexedCase(1, 4, 4), "encode", 15, 30),
    ("one unit with indexes, 4x4x192, whole call", IndexedCase(1, 4, 4), "decode", 10, 20),
]
OTHER_CASES = {
    "peaked, 0.1 bit/symbol": Case(16, 16, 16, low_scale=0.04, high_scale=0.08),
    "wide, 12 bits/symbol, 24 channels": Case(16, 32, 64, 24, low_scale=900, high_scale=1000, precision=16),
    "precision 16": Case(16, 16, 16, precision=16),
    "3 channels": Case(16, 128, 128, 3),
    "3000 channels": Case(16, 4, 4, 3000),
}
SWEEPS = {
    "unit size (symbols)": [
        (float(case.unit_symbols), case)
        for case in [Case(1, side, side) for side in (1, 2, 4, 8, 16, 32, 64)]
    ],
    "batch size (units of 16x16x192)": [(float(n), Case(n, 16, 16)) for n in (1, 2, 4, 8, 16, 32)],
    "scale of a flat prior (bits per symbol rise with its logarithm)": [
        (scale, Case(16, 16, 16, low_scale=scale, high_scale=scale))
        for scale in (0.15, 0.4, 1, 3, 10, 30, 100)
    ],
    "rows (channels x 15 noise levels)": [
        (15.0 * channels, Case(16, 48 * 1024 // channels // 16, 16, channels))
        for channels in (3, 12, 48, 192, 768, 3072)
    ],
}


class Peer:
    """A coder in a process of its own."""

    def __init__(self, name: str, python: str) -> None:
        self.name = name
        self.missing = ""
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.coder_peers", name],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'client'}:{ROOT / 'server'}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def measure(self, case: Case | IndexedCase, operation: str, seconds: float) -> dict[str, Any]:
        """Median seconds of a call and what else the peer reports; `missing` if it is not installed."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the peer was started without pipes")
        request = {"case": dataclasses.asdict(case), "operation": operation, "seconds": seconds}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            return {"missing": "it ended"}
        answer: dict[str, Any] = json.loads(line)
        self.missing = answer.get("missing", "")
        return answer

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()


def compare(
    case: Case | IndexedCase, operation: str, peers: list[Peer], rounds: int, seconds: float
) -> dict[str, Any]:
    """Median million symbols per second and bits per symbol of each peer, and our speed over theirs.

    Raises:
      RuntimeError: Coders of the same bit stream do not write the same strings.
    """
    times: dict[str, list[float]] = {peer.name: [] for peer in peers}
    answers: dict[str, dict[str, Any]] = {}
    for _ in range(rounds):
        for peer in peers:
            answer = answers[peer.name] = peer.measure(case, operation, seconds)
            times[peer.name].append(answer.get("seconds", float("nan")))
    if len({answer.get("digest") for answer in answers.values()} - {None, ""}) > 1:
        raise RuntimeError(f"{', '.join(answers)} write different strings for {case}")
    ours = np.array(times["entropyd"])
    return {
        name: {
            "rate": case.symbols / float(np.median(taken)) / 1e6,
            "microseconds": float(np.median(taken)) * 1e6,
            "ratio": float(np.median(np.array(taken) / ours)),
            "bits": 8 * answers[name].get("bytes", 0) / case.symbols,
        }
        for name, taken in times.items()
        if not np.isnan(taken).any()
    }


def thread_scaling(operation: str, rounds: int, seconds: float) -> float:
    """Throughput of two threads, 16 units each, over that of one with 16 units."""
    call = entropyd(Case(16, 16, 16)).call(operation)
    ratios = []
    with ThreadPoolExecutor(2) as threads:
        for _ in range(max(3, rounds)):
            alone, _ = median_seconds(call, seconds)
            together = [threads.submit(median_seconds, call, seconds) for _ in range(2)]
            ratios.append(2 * alone / max(future.result()[0] for future in together))
    return float(np.median(ratios))


def requirement_table(peers: list[Peer], rounds: int, seconds: float) -> list[str]:
    """The requirement's table, measured."""
    lines = [
        "| work | ours M/s | TFC M/s | ratio | must | stretch | holds | TFC 2 threads | TFC bare ops |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for work, case, operation, must, stretch in REQUIREMENTS:
        result = compare(case, operation, peers, rounds, seconds)
        ours, tfc = result["entropyd"], result["tfc-1"]
        time = f" ({ours['microseconds']:.0f} us against {tfc['microseconds']:.0f} us)"
        holds = "stretch" if tfc["ratio"] >= stretch else "must" if tfc["ratio"] >= must else "**no**"
        lines.append(
            f"| {operation} {work} | {ours['rate']:.0f} | {tfc['rate']:.1f} | {tfc['ratio']:.2f}x"
            f"{time if case.symbols < 10**4 else ''} | {must}x | {stretch}x | {holds} "
            f"| {result['tfc-2']['ratio']:.2f}x | {result['tfc-ops']['ratio']:.2f}x |"
        )
        print(lines[-1], flush=True)
    return lines


def case_table(peers: list[Peer], rounds: int, seconds: float) -> list[str]:
    """All coders on cases of every kind, with their rates."""
    names = [peer.name for peer in peers]
    lines = [
        "| case | operation | " + " | ".join(f"{name}: M/s (bits/symbol)" for name in names) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    cases = {"main, one unit 48x32x192": Case(1, 48, 32), "main, 16 units 16x16x192": Case(16, 16, 16)}
    for title, case in (cases | OTHER_CASES).items():
        for operation in OPERATIONS:
            result = compare(case, operation, peers, rounds, seconds)
            cells = [
                f"{result[name]['rate']:.1f} ({result[name]['bits']:.3f})"
                if name in result
                else "not installed"
                for name in names
            ]
            lines.append(f"| {title} | {operation} | " + " | ".join(cells) + " |")
            print(lines[-1], flush=True)
    return lines


def plot_sweeps(peers: list[Peer], rounds: int, seconds: float) -> list[str]:
    """Draws throughput against each swept quantity; gives the page's lines that show the plots."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "entropyd"
    from matplotlib import pyplot as plt

    lines = []
    for title, points in SWEEPS.items():
        figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharex=True)
        curves: dict[str, dict[str, list[tuple[float, float]]]] = {operation: {} for operation in OPERATIONS}
        for x, case in points:
            for operation, rates in curves.items():
                for name, result in compare(case, operation, peers, rounds, seconds).items():
                    rates.setdefault(name, []).append((x, result["rate"]))
        for axis, (operation, rates) in zip(axes, curves.items(), strict=True):
            for name, curve in rates.items():
                axis.loglog(*zip(*curve, strict=True), marker="o", label=name)
            axis.set(title=operation, xlabel=title.split(" (")[0], ylabel="million symbols/s")
            axis.grid(visible=True, which="both", alpha=0.3)
        axes[0].legend(fontsize=7)
        name = title.split(" (")[0].replace(" ", "-") + ".svg"
        PLOTS.mkdir(exist_ok=True)
        figure.tight_layout()
        figure.savefig(PLOTS / name, metadata={"Date": None})
        plt.close(figure)
        lines += [f"![Throughput against {title}](performance/{name})", ""]
        print(f"wrote {name}", flush=True)
    return lines


def main() -> None:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="requirement's cases only, write nothing")
    parser.add_argument("--rounds", type=int, default=5, help="paired measurements per case")
    parser.add_argument("--seconds", type=float, default=0.2, help="seconds per measurement")
    parser.add_argument(
        "--compressai-python", default=sys.executable, help="interpreter that can import compressai"
    )
    arguments = parser.parse_args()
    rounds, seconds = (1, 0.05) if arguments.quick else (arguments.rounds, arguments.seconds)
    names = ("entropyd", "tfc-1", "tfc-2", "tfc-ops", "constriction", "compressai")
    peers = {
        name: Peer(name, arguments.compressai_python if name == "compressai" else sys.executable)
        for name in names
    }
    try:
        tfc_peers = [peers[name] for name in names[:4]]
        lines = [
            f"Machine: {machine('numba', 'tensorflow', 'tensorflow-compression')}.",
            "",
            *requirement_table(tfc_peers, rounds, seconds),
        ]
        scaling = ", ".join(
            f"{operation} {thread_scaling(operation, rounds, seconds):.2f}x" for operation in OPERATIONS
        )
        lines += ["", f"Two threads over one, 16 units each (must be 1.8x): {scaling}.", ""]
        print(lines[-2])
        if arguments.quick:
            return
        few = max(1, rounds // 2)
        others = [peers[name] for name in ("entropyd", "tfc-1", "constriction", "compressai")]
        lines += [*case_table(others, few, seconds), "", *plot_sweeps(others, few, seconds / 2)]
        rewrite(PERFORMANCE, "coder", "\n".join(lines))
    finally:
        for peer in peers.values():
            peer.close()


if __name__ == "__main__":
    main()
