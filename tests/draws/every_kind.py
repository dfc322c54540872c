"""Random models of every kind, coded and called by a server, by the drop-ins and by TFC.

Tables and strings must be TFC's, each side must restore the same arrays to the bit, bit costs and gradients
must be TFC's to a relative 1e-5. `python -m tests.draws.every_kind N` compares N models and says which differ
and how; exit status 0 says that none does.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import entropyd
from entropyd_server.local import LocalServer
from tests.draws.cases import Case, case
from tests.draws.run import NoTailsError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Of the processor's time: a busy machine changes no result.
_TFC_CPU_SECONDS = 180


@contextmanager
def faster_search() -> Iterator[None]:
    """Gives TFC our search for tails, which finds the same, and another where TFC's would not end."""
    from tensorflow_compression.python.distributions import helpers  # noqa: PLC0415 - imports TensorFlow

    from entropyd_server.modeling.worker.tail_search import EndlessSearchError, bisect, descend  # noqa: PLC0415

    def search(*arguments: Any) -> Any:
        try:
            return descend(*arguments)
        except EndlessSearchError:
            return bisect(*arguments)

    def expired(*_: object) -> None:
        raise NoTailsError(f"TFC takes more than {_TFC_CPU_SECONDS} s of the processor")

    replaced, helpers.estimate_tails = helpers.estimate_tails, search
    signal.signal(signal.SIGPROF, expired)
    signal.setitimer(signal.ITIMER_PROF, _TFC_CPU_SECONDS)
    try:
        yield
    finally:
        helpers.estimate_tails = replaced
        signal.setitimer(signal.ITIMER_PROF, 0)


def compared(symbols: entropyd.Client, floats: entropyd.Client, given: Case) -> str:
    """`equal`, what differs, or why a case was not compared; the clients send symbols and floats."""
    from tests.draws.comparison import Comparison  # noqa: PLC0415 - imports TensorFlow

    try:
        model = symbols.create_model(given.config)
    except entropyd.InvalidConfigError:
        return "refused"
    try:
        with faster_search():
            comparison = Comparison(symbols, model, floats.model(model.id), given)
            differing = [name for name, same in comparison.results() if not same]
    except NoTailsError as error:
        return str(error)
    return f"other {', '.join(differing)}" if differing else "equal"


def main() -> None:
    """Compares models with those of TFC, on a server of its own."""
    parser = argparse.ArgumentParser(prog="python -m tests.draws.every_kind", description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=400, help="how many models")
    parser.add_argument("--first", type=int, default=0, help="number of the first")
    options = parser.parse_args()
    found: Counter[str] = Counter()
    with (
        LocalServer(store="memory://") as server,
        entropyd.Client(server.target, wire="symbols") as symbols,
        entropyd.Client(server.target, wire="float") as floats,
    ):
        for number in range(options.first, options.first + options.count):
            given = case(number)
            try:
                how = compared(symbols, floats, given)
            except Exception as error:  # noqa: BLE001 - one of the differences that are looked for
                how = f"{type(error).__name__}: {error!s:.200}"
            found[how] += 1
            if how != "equal":
                print(f"{number}, {given.in_words}: {how}", flush=True)  # noqa: T201 - a program's output
    for how, times in found.most_common():
        print(f"{times:5} {how}")  # noqa: T201
    sys.exit(0 if all(how in {"equal", "refused"} or how.startswith("TFC") for how in found) else 1)


if __name__ == "__main__":
    main()
