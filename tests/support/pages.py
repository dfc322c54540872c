"""Pages of docs as programs: their examples print what stands below them."""

from __future__ import annotations

import io
import re
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from entropyd_server.local import LocalServer

DOCS = Path(__file__).resolve().parents[2] / "docs"


def blocks(page: str, fence: str) -> list[str]:
    """The texts of a page's code blocks that begin with a fence, such as "console tour"."""
    return re.findall(rf"^```{fence}\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)


def pattern(printed: str) -> str:
    """A pattern for what a page says is printed, in which `...` stands for anything."""
    return re.escape(printed).replace(r"\.\.\.", "(?s:.*?)")


def check_printed(page: str, server: LocalServer) -> None:
    """Runs the program of a page with a server that runs already, and compares what it prints."""
    (expected,) = blocks(page, "text")
    program = "\n".join(blocks(page, "python"))
    for written, meant in (
        ("entropyd.LocalServer()", "nullcontext(running)"),
        ("127.0.0.1:7070", server.target),
    ):
        program = program.replace(written, meant)
    names: dict[str, Any] = {"nullcontext": nullcontext, "running": server}
    assert "running" in program or server.target in program
    with redirect_stdout(io.StringIO()) as printed:
        exec(program, names)  # noqa: S102 - our own page
    assert re.fullmatch(pattern(expected), printed.getvalue()), printed.getvalue()
