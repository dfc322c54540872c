"""An S3 server over HTTP in a process of its own: moto's, on a free port.

AWS decides `If-None-Match` and stores in one step, moto in two, so writes are serialised here.
docs/replicas.md names what else differs.

`python -m tests.support.s3_server` prints its port and serves until it is told to stop.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from typing_extensions import Self

    Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class S3Server:
    """A running S3 server with empty buckets.

    Args:
      buckets: Names of the buckets.

    Attributes:
      url: What AWS_ENDPOINT_URL must be.
      address: Host and port of it.
    """

    _module = "tests.support.s3_server"

    def __init__(self, *buckets: str) -> None:
        self._buckets = buckets

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", self._module]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        self.address = ("127.0.0.1", int(self.process.stdout.readline()))
        self.url = f"http://127.0.0.1:{self.address[1]}"
        for bucket in self._buckets:
            self.put(bucket)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def put(self, path: str, body: bytes = b"") -> None:
        """Makes a bucket, or an object, or sets what a query names (`bucket?policy`)."""
        # Without a type, urllib says that it is a form, and moto reads it as one.
        headers = {"Content-Type": "application/octet-stream"}
        request = Request(f"{self.url}/{path}", data=body, headers=headers, method="PUT")  # noqa: S310 - ours
        with urlopen(request) as reply:  # noqa: S310 - ours
            reply.read()

    def stop(self) -> None:
        """Ends the server; what it held is gone."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def environment(endpoint: str) -> dict[str, str]:
    """The environment with which `s3://` URLs lead to `endpoint`; anybody's keys will do."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }


def application() -> Application:
    """What answers requests: moto, which writes one after the other."""
    # Here, not above: tests import this module, and moto takes a while.
    from moto.moto_server.werkzeug_app import (  # noqa: PLC0415
        DomainDispatcherApplication,
        create_backend_app,
    )

    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    dispatched: Application = DomainDispatcherApplication(create_backend_app)
    writing = threading.Lock()

    def in_turns(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "PUT":
            return dispatched(environ, start)
        with writing:
            return dispatched(environ, start)

    return in_turns


def serve(application: Application) -> None:
    """Prints a free port and serves on it."""
    from werkzeug.serving import make_server  # noqa: PLC0415

    server = make_server("127.0.0.1", 0, application, threaded=True)
    sys.stdout.write(f"{server.port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    serve(application())
