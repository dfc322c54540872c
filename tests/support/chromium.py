"""A real browser without a window, with a profile of its own and no requests of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.machine import program

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


def dom(url: str) -> str:
    """The document that Chromium makes of a page, as HTML."""
    return _chromium("--dump-dom", url).decode()


def screenshot(url: str, width: int, height: int) -> bytes:
    """A page as PNG."""
    with TemporaryDirectory() as folder:
        picture = Path(folder) / "page.png"
        _chromium(f"--screenshot={picture}", f"--window-size={width},{height}", url)
        return picture.read_bytes()


def _chromium(*arguments: str) -> bytes:
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [program("chromium", "chromium"), *_FLAGS, f"--user-data-dir={profile}", *arguments]
        return subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
