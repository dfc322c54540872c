"""The pages on which benchmarks write what they measured."""

from __future__ import annotations

from pathlib import Path

_DOCS = Path(__file__).resolve().parents[1] / "docs"
PERFORMANCE = _DOCS / "performance.md"
DASK = _DOCS / "dask.md"
REPLICAS = _DOCS / "replicas.md"
# Where the plots of the first one are.
PLOTS = PERFORMANCE.with_suffix("")


def rewrite(page: Path, section: str, text: str) -> None:
    """Replaces what is between the marks of a section.

    Raises:
      ValueError: If the page lacks the marks.
    """
    begin, end = f"<!-- {section}:begin -->", f"<!-- {section}:end -->"
    head, found, rest = page.read_text().partition(begin)
    _, closed, tail = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{page.name} has no section between {begin} and {end}")
    page.write_text(f"{head}{begin}\n\n{text.strip()}\n\n{end}{tail}")
