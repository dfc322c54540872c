"""A real browser without a window, with a profile of its own and no requests of its own."""

from __future__ import annotations

import base64
import http.client
import json
import subprocess
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from tests.support.load import free_ports
from tests.support.machine import program

if TYPE_CHECKING:
    from typing_extensions import Self

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


class Browser:
    """Chromium in one session for many pages, through its WebDriver.

    Attributes:
      messages: What the pages of `open` wrote to the console and failed to load, each a text.
      requested: URLs of all that they asked for, by number.
    """

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.requested: dict[str, str] = {}

    def __enter__(self) -> Self:
        driver = program("chromedriver", "chromium-driver")
        self._folder = TemporaryDirectory(ignore_cleanup_errors=True)
        self._port = free_ports(1)[0]
        self._process = subprocess.Popen([driver, f"--port={self._port}"], stdout=subprocess.DEVNULL)
        options = {
            "binary": program("chromium", "chromium"),
            "args": [*_FLAGS, f"--user-data-dir={self._folder.name}"],
        }
        wanted = {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        try:
            self._session = ""
            made = self._call("POST", "", {"capabilities": {"alwaysMatch": wanted}})
            self._session = f"/{made['sessionId']}"
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._session:
            self._call("DELETE", "")
        self._process.terminate()
        self._process.wait()
        self._folder.cleanup()

    def open(self, url: str) -> str:
        """Loads a page and all that belongs to it, and returns its title."""
        self._call("POST", "/url", {"url": url})
        self.messages += [entry["message"] for entry in self._call("POST", "/se/log", {"type": "browser"})]
        for entry in self._call("POST", "/se/log", {"type": "performance"}):
            event = json.loads(entry["message"])["message"]
            method, parameters = event["method"], event["params"]
            # The first tab loads a page of the browser's own.
            if method == "Network.requestWillBeSent" and not parameters["documentURL"].startswith("chrome:"):
                self.requested[parameters["requestId"]] = parameters["request"]["url"]
            if method == "Network.loadingFailed" and parameters["requestId"] in self.requested:
                self.messages.append(f"{self.requested[parameters['requestId']]}: {parameters['errorText']}")
        title: str = self._call("GET", "/title")
        return title

    def picture(self, width: int, height: int) -> bytes:
        """The page that is open, as PNG."""
        self._call("POST", "/window/rect", {"width": width, "height": height})
        return base64.b64decode(self._call("GET", "/screenshot"))

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        """One command of the WebDriver; the driver is waited for while it starts."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        until = time.monotonic() + 60
        while True:
            try:
                connection.connect()
                break
            except ConnectionRefusedError:
                if self._process.poll() is not None or time.monotonic() > until:
                    raise
                time.sleep(0.02)
        with closing(connection):
            connection.request(method, f"/session{self._session}{path}", json.dumps(body) if body else None)
            answer = connection.getresponse()
            value = json.loads(answer.read())["value"]
        assert answer.status == 200, value
        return value
