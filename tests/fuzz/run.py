"""The long form of fuzzing: `python -m tests.fuzz.run TARGET --seconds N`, guided by coverage.

Inputs that reach new code go to `.fuzz/TARGET`, and one that breaks the invariant is written there as
`crash-...`: whoever repairs what it shows adds it to the corpus, which this program never writes.

Needs atheris. Kernels run as Python under it, so that their branches guide it and their indexes are checked.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

CORPUS = Path(__file__).parent / "corpus"
FOUND = Path(".fuzz")


def main() -> None:
    """Replays a corpus, or fuzzes from it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("target", choices=sorted(path.name for path in CORPUS.iterdir()))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--replay", action="store_true", help="run the corpus once, without atheris")
    arguments = parser.parse_args()
    folder = CORPUS / arguments.target
    os.environ["NUMBA_DISABLE_JIT"] = "1"
    if arguments.replay:
        target = _target(arguments.target)
        for path in sorted(folder.iterdir()):
            target(path.read_bytes())
        return

    atheris = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["entropyd", "entropyd_server", "tests.fuzz"]):
        target = _target(arguments.target)
    found = FOUND / arguments.target
    found.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_total_time={arguments.seconds}",
        "-timeout=20",
        "-max_len=2048",
        f"-artifact_prefix={found}/",
    ]
    atheris.Setup([sys.argv[0], *options, str(found), str(folder)], target)
    atheris.Fuzz()


def _target(name: str) -> Callable[[bytes], None]:
    targets = importlib.import_module("tests.fuzz.targets").TARGETS
    universal_indexed: Any = importlib.import_module("entropyd_server.coding.kinds.universal_indexed")
    # As Python, the kernel takes 20 s for the million noise levels that a codec may cache.
    universal_indexed._MAX_CACHED_LEVELS = 1 << 10
    target: Callable[[bytes], None] = targets[name]
    return target


if __name__ == "__main__":
    main()
