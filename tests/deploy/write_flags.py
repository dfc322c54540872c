"""Writes the table of flags in docs/operations.md: `python -m tests.deploy.write_flags`.

Invariant: it has every flag, with the text of `entropyd-server --help`.
"""

from __future__ import annotations

import re

from tests.deploy.dockerfile import REPOSITORY
from tests.deploy.flags import flags

PAGE = REPOSITORY / "docs" / "operations.md"
BEGIN, END = "<!-- flags:begin -->\n", "<!-- flags:end -->"


def table() -> str:
    """A line for each flag, in the order of the help."""
    lines = ["| flag | environment | default | what |", "|---|---|---|---|"]
    for variable, option in flags().items():
        what = re.sub(r"\s+", " ", option.help or "").strip().replace("|", "\\|")
        shown = option.show_default
        default = shown if isinstance(shown, str) else _default(option.to_info_dict()["default"])
        lines.append(f"| `{option.opts[0]}` | `{variable}` | {default} | {what} |")
    return "\n".join(lines) + "\n"


def _default(value: object) -> str:
    return "none" if value in {None, ""} else f"`{value}`"


def written(page: str) -> str:
    """The page with the table as it should be."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}{table()}{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
