"""An S3 server that is slow, fails, cuts responses and lists what is stale, and that counts its requests.

It is moto's server behind a layer that injects faults. `python -m tests.support.faulty_s3` prints its port
and serves until it is told to stop; requests below /-/ set its faults and read its counts.
"""

from __future__ import annotations

import json
import random
import re
import threading
import time
from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import asdict, dataclass
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs
from urllib.request import Request, urlopen

from tests.support.s3_server import S3Server, application, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tests.support.s3_server import Application

_CONTROL = "/-/"
_LISTED = re.compile(rb"<Contents>.*?<Key>(.*?)</Key>.*?</Contents>", re.DOTALL)
_FAULT = '<?xml version="1.0"?><Error><Code>{}</Code><Message>made by a test</Message></Error>'


@dataclass(frozen=True)
class Faults:
    """What goes wrong.

    Attributes:
      delay_s: How long each request waits before it is answered, in seconds.
      slow_down: Share of requests that are refused with 503 SlowDown.
      lost: Share of requests that are obeyed and then answered with 500 InternalError.
      cut: Share of responses whose connection ends in the middle of their body.
      hold: Whether requests are held until `set` is called again; they meet the faults of then.
      stale: Whether listings lack the objects that were written since this was set.
      backwards: Whether listings are in falling order. Directory buckets of S3 list in no order at all.
      kinds: The requests that slow_down, lost and cut are for.
      times: Most faults of these three; None for any number.
    """

    delay_s: float = 0.0
    slow_down: float = 0.0
    lost: float = 0.0
    cut: float = 0.0
    hold: bool = False
    stale: bool = False
    backwards: bool = False
    kinds: tuple[str, ...] = ("LIST", "GET", "HEAD", "PUT", "DELETE")
    times: int | None = None


@dataclass(frozen=True)
class Requests:
    """Requests that were made, and faults that were injected.

    Attributes:
      by_key: Number of requests by kind and key; the key of a LIST is its prefix.
      faults: Number of faults, by their names in `Faults`.
    """

    by_key: Counter[tuple[str, str]]
    faults: Counter[str]

    @property
    def by_kind(self) -> Counter[str]:
        total: Counter[str] = Counter()
        for (kind, _), count in self.by_key.items():
            total[kind] += count
        return total


class FaultyS3(S3Server):
    """A running S3 server; it has no faults until `set` names some."""

    _module = "tests.support.faulty_s3"

    def set(self, faults: Faults) -> None:
        """Has these faults, and no others, from now on; counts begin anew."""
        self._control("faults", asdict(faults))

    @property
    def requests(self) -> Requests:
        """The requests since `set`."""
        told = self._control("requests")
        by_key = Counter({(kind, key): count for kind, key, count in told["by_key"]})
        return Requests(by_key, Counter(told["faults"]))

    def fill(self, bucket: str, prefix: str, count: int) -> None:
        """Stores that many objects under the ids 0, 1, ... of models, without a request for each.

        They are there to be listed: all are copies of one model's object.
        """
        self._control("fill", {"bucket": bucket, "prefix": prefix, "count": count})

    def _control(self, what: str, body: object = None) -> Any:
        headers = {"Content-Type": "application/json"}
        request = Request(  # noqa: S310 - ours
            f"{self.url}{_CONTROL}{what}", json.dumps(body).encode(), headers, method="POST"
        )
        with urlopen(request) as reply:  # noqa: S310 - ours
            return json.load(reply)


class _FaultyApplication:
    """Passes requests on to `behind`, unless they meet a fault."""

    def __init__(self, behind: Application) -> None:
        self._behind = behind
        self._lock = threading.Condition()
        self._random = random.Random(0)  # noqa: S311 - shares of faults
        self._writes = 0
        self._sorted: dict[str, tuple[int, list[str]]] = {}
        self._set(Faults())

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path.startswith(_CONTROL):
            return self._controlled(path.removeprefix(_CONTROL), environ, start)
        kind, key = _kind(environ)
        faults, fault = self._meet(kind, key)
        time.sleep(faults.delay_s)
        if fault == "slow_down":
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))  # else the connection is lost
            return _refuse(environ, start, "503 Slow Down", "SlowDown")
        status, headers, body = _response(self._behind, environ)
        if kind in {"PUT", "POST", "DELETE"}:
            with self._lock:
                self._writes += 1
                if faults.stale and kind == "PUT" and status.startswith("200"):
                    self._unlisted.add(key)
        if fault == "lost":
            return _refuse(environ, start, "500 Internal Server Error", "InternalError")
        if kind == "LIST":
            body = _LISTED.sub(lambda one: b"" if one[1].decode() in self._unlisted else one[0], body)
        start(status, [pair for pair in headers if pair[0].lower() != "content-length"] + _length(body))
        return _halved(body) if fault == "cut" and kind != "HEAD" else [body]

    def sorted_keys(self, bucket: Any) -> list[str]:
        """The keys of a bucket, sorted once after each change."""
        with self._lock:
            if self._sorted.get(bucket.name, (-1,))[0] != self._writes:
                self._sorted[bucket.name] = self._writes, sorted(bucket.keys)
            return self._sorted[bucket.name][1]

    def _set(self, faults: Faults) -> None:
        with self._lock:
            self.faults = faults
            self._left = faults.times
            self._by_key: Counter[tuple[str, str]] = Counter()
            self._injected: Counter[str] = Counter()
            self._unlisted: set[str] = set()
            self._lock.notify_all()

    def _meet(self, kind: str, key: str) -> tuple[Faults, str]:
        """Counts a request and draws the fault that it meets, "" for none."""
        with self._lock:
            self._lock.wait_for(lambda: not self.faults.hold)
            faults = self.faults
            self._by_key[kind, key] += 1
            if kind not in faults.kinds or self._left == 0:
                return faults, ""
            drawn = self._random.random()
            for fault in ("slow_down", "lost", "cut"):
                drawn -= getattr(faults, fault)
                if drawn < 0:
                    self._injected[fault] += 1
                    self._left = None if self._left is None else self._left - 1
                    return faults, fault
        return faults, ""

    def _controlled(self, what: str, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        told = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        answer: Any = None
        if what == "faults":
            self._set(Faults(**told))
        elif what == "requests":
            with self._lock:
                by_key = [[*pair, count] for pair, count in self._by_key.items()]
                answer = {"by_key": by_key, "faults": dict(self._injected)}
        else:
            _fill(**told)
            self._writes += 1
        body = json.dumps(answer).encode()
        start("200 OK", _length(body))
        return [body]


def _kind(environ: dict[str, Any]) -> tuple[str, str]:
    """The kind of a request, and its key without the bucket."""
    method, query = environ["REQUEST_METHOD"], parse_qs(environ["QUERY_STRING"])
    if method == "GET" and "list-type" in query:
        return "LIST", query.get("prefix", [""])[0]
    return method, environ["PATH_INFO"].removeprefix("/").partition("/")[2]


def _response(behind: Application, environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes]:
    started: list[Any] = []
    body = b"".join(behind(environ, lambda *given: started.extend(given)))
    return started[0], started[1], body


def _refuse(environ: dict[str, Any], start: Callable[..., Any], status: str, code: str) -> Iterable[bytes]:
    body = _FAULT.format(code).encode()
    start(status, [("Content-Type", "application/xml"), *_length(body)])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def _halved(body: bytes) -> Iterator[bytes]:
    yield body[: len(body) // 2]
    raise ConnectionAbortedError  # the server then closes the connection


def _length(body: bytes) -> list[tuple[str, str]]:
    return [("Content-Length", str(len(body)))]


def _fill(bucket: str, prefix: str, count: int) -> None:
    from moto.s3.models import s3_backends  # noqa: PLC0415 - slow

    from tests.support.stored_models import supplied_object  # noqa: PLC0415 - slow

    [account] = s3_backends
    _, blob = supplied_object(0)
    for number in range(count):
        s3_backends[account]["aws"].put_object(bucket, f"{prefix}models/{number:064x}.safetensors", blob)


def _list_by_bisection(application: _FaultyApplication) -> None:
    """Makes moto list a large bucket in milliseconds, as S3 does; it sorts all keys for each request."""
    from moto.s3.models import S3Backend  # noqa: PLC0415 - slow

    def list_objects_v2(self: Any, bucket: Any, prefix: str | None, **options: Any) -> Any:
        keys, token, most = (
            application.sorted_keys(bucket),
            options["continuation_token"],
            options["max_keys"],
        )
        prefix, after = prefix or "", options["start_after"] or ""
        if application.faults.backwards:
            names = [key for key in reversed(keys) if key.startswith(prefix) and key > after]
            names = names[names.index(self._pagination_tokens[token]) + 1 if token else 0 :]
        else:
            after = self._pagination_tokens[token] if token else after
            first = max(bisect_right(keys, after), bisect_left(keys, prefix))
            names = list(takewhile(lambda key: key.startswith(prefix), islice(keys, first, first + most + 1)))
        return self._truncate_result([bucket.keys[name] for name in names], most)

    S3Backend.list_objects_v2 = list_objects_v2


if __name__ == "__main__":
    faulty = _FaultyApplication(application())
    _list_by_bisection(faulty)
    serve(faulty)
