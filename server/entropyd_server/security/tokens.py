"""Who may call: names, scopes and hashes of tokens.

Owns the file format and the look-up of a token. It must not know which call needs which scope. Invariants:
no token is kept, only its hash; nothing that this module raises or logs repeats what a line holds, which may
be a token that was put there by mistake.

One line for each token, as `entropyd token new` prints it; `#` begins a comment:

    NAME SCOPE[,SCOPE...] SHA256

A look-up takes as long whatever is asked: what is compared are hashes, which a caller cannot steer towards
one another, and they are compared in constant time.
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
# Of a file's problems, that are told one by one.
_MOST_TOLD = 20
# Bytes of a hash by which tokens are found; the rest is compared in constant time.
_KEY_BYTES = 8


class Scope(Enum):
    """What a token allows; `docs/security.md` has the calls of each."""

    CODE = "code"
    MODEL = "model"
    ADMIN = "admin"


@dataclass(frozen=True)
class Caller:
    """Whom a token stands for.

    Attributes:
      name: As in the file; it names the caller to operators, and in the store.
      scopes: What it may do.
    """

    name: str
    scopes: frozenset[Scope]


class TokenBook:
    """The tokens of a server.

    Args:
      entries: SHA-256 of each token, and whom it stands for.
    """

    def __init__(self, entries: Iterable[tuple[bytes, Caller]]) -> None:
        self._entries = {digest[:_KEY_BYTES]: (digest, caller) for digest, caller in entries}

    @classmethod
    def parse(cls, content: bytes) -> TokenBook:
        """Reads a file.

        Raises:
          ValueError: If it holds no token, or a line is not as it should be; names the first such lines.
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
            # Most likely a file that is being written, and never one that lets anybody in.
            problems.append("holds no token")
        if problems:
            more = [f"and {len(problems) - _MOST_TOLD} more"] if len(problems) > _MOST_TOLD else []
            raise ValueError("; ".join(problems[:_MOST_TOLD] + more))
        return cls(entries)

    def caller(self, token: str) -> Caller | None:
        """Whom a token stands for; None if nobody."""
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
