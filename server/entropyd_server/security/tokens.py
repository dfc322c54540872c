"""The tokens that a server accepts: names, scopes and hashes.

Invariants: the server has only the hashes of tokens; no error quotes the file, where a line may hold a token
by mistake.

One line for each token, as `entropyd token new` prints it; `#` begins a comment:

    NAME SCOPE[,SCOPE...] SHA256

The time of a look-up reveals nothing: it compares hashes, which callers cannot choose, in constant time.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HASH = re.compile(r"[0-9a-f]{64}")
# Most problems that an error names.
_MOST_NAMED = 20
# Bytes of a hash by which tokens are found; the rest is compared in constant time.
_KEY_BYTES = 8


class Scope(Enum):
    """What a token allows; `docs/security.md` has the calls of each."""

    CODE = "code"
    MODEL = "model"
    ADMIN = "admin"


@dataclass(frozen=True)
class Caller:
    """The caller that a token identifies, by its name in the file; the store counts models by that name."""

    name: str
    scopes: frozenset[Scope]


class TokenBook:
    """The tokens of a server: the SHA-256 of each, and its caller."""

    def __init__(self, entries: Iterable[tuple[bytes, Caller]]) -> None:
        self._entries = {digest[:_KEY_BYTES]: (digest, caller) for digest, caller in entries}

    @classmethod
    def parse(cls, content: bytes) -> TokenBook:
        """Reads a file.

        Raises:
          ValueError: If it holds no token, or a line is malformed; names the first such lines.
        """
        entries: list[tuple[bytes, Caller]] = []
        problems: list[str] = []
        for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
            fields = line.partition("#")[0].split()
            if not fields:
                continue
            try:
                entries.append(_entry(fields))
            except ValueError as error:
                problems.append(f"line {number}: {error}")
        lines = Counter(caller.name for _, caller in entries)
        problems += [f"{name} is there twice" for name, number in sorted(lines.items()) if number > 1]
        digests = [digest for digest, _ in entries]
        if len(set(digests)) < len(digests):
            problems.append("two names have the same token")
        if not entries and not problems:
            # Most likely, the file is still being written.
            problems.append("holds no token")
        if problems:
            more = [f"and {len(problems) - _MOST_NAMED} more"] if len(problems) > _MOST_NAMED else []
            raise ValueError("; ".join(problems[:_MOST_NAMED] + more))
        return cls(entries)

    def caller(self, token: str) -> Caller | None:
        """Returns the caller that a token identifies, if any."""
        digest = hashlib.sha256(token.encode()).digest()
        found = self._entries.get(digest[:_KEY_BYTES])
        if found is None or not hmac.compare_digest(found[0], digest):
            return None
        return found[1]


def _entry(fields: list[str]) -> tuple[bytes, Caller]:
    if len(fields) != 3:
        raise ValueError(f"has {len(fields)} fields; expected NAME SCOPES SHA256")
    name, scopes, digest = fields
    if not _NAME.fullmatch(name):
        raise ValueError("its name is not of letters, digits, '.', '_' and '-', at most 64")
    known = {scope.value: scope for scope in Scope}
    if not set(scopes.split(",")) <= set(known):
        raise ValueError(f"its scopes are not among {', '.join(known)}")
    if not _HASH.fullmatch(digest):
        raise ValueError("its third field is no SHA-256 in 64 lower-case hexadecimal digits")
    return bytes.fromhex(digest), Caller(name, frozenset(known[scope] for scope in scopes.split(",")))
