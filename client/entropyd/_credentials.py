"""TLS credentials and tokens.

Invariants: a token is sent in plain text to this machine only, and no error repeats it; what was given as the
path of a file is pickled as that path, never as the content of the file.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import grpc

from entropyd.contract.address import stays_on_this_machine
from entropyd.contract.pem import check_pair, check_roots

Token: TypeAlias = "str | Callable[[], str] | None"  # noqa: S105 - a type


class TlsCredentials(grpc.ChannelCredentials):
    """Channel credentials by the paths of their files, which are read when a channel is opened.

    Arguments as `tls_credentials`.
    """

    def __init__(self, ca: Path | None, cert: Path | None, key: Path | None) -> None:
        self._paths = (ca, cert, key)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._paths

    @cached_property
    def _credentials(self) -> Any:  # the attribute that gRPC reads
        ca, cert, key = self._paths
        before = self.state()
        roots, chain, private = (None if path is None else path.read_bytes() for path in self._paths)
        if roots is not None:
            try:
                check_roots(roots)
            except ValueError as error:
                raise ValueError(f"{ca}: {error}") from error
        if cert is not None and key is not None:
            try:
                check_pair(cert, key)
            except ValueError as error:
                raise ValueError(f"{cert} and {key}: {error}") from error
        if self.state() != before:
            raise ValueError(f"{', '.join(map(str, self._paths))} changed while they were read")
        made: Any = grpc.ssl_channel_credentials(roots, private, chain)
        return made._credentials  # noqa: SLF001

    def state(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Inode, size and time of each file, which change when it does; None for a missing one."""
        return tuple(None if path is None else _file_state(path) for path in self._paths)

    def read_again(self) -> TlsCredentials:
        """Credentials with the present content of the files; errors as `check`."""
        credentials = type(self)(*self._paths)
        credentials.check()
        return credentials

    def check(self) -> None:
        """Refuses files that are not what they should be; errors as `tls_credentials`."""
        _ = self._credentials


def tls_credentials(
    ca: str | os.PathLike[str] | None = None,
    cert: str | os.PathLike[str] | None = None,
    key: str | os.PathLike[str] | None = None,
) -> TlsCredentials:
    """Credentials for a server with TLS, for a client or for gRPC's own channels.

    They are pickled as the paths of their files, which must exist where they are unpickled.

    Args:
      ca: File with the root certificates to trust, in PEM; None for the public ones that gRPC brings.
      cert: File with the client's own certificate chain in PEM, for servers that ask for one.
      key: File with its key.

    Raises:
      OSError: If a file cannot be read.
      ValueError: If only one of `cert` and `key` is given, one holds something else, or the key belongs to
        another certificate.
    """
    if (cert is None) != (key is None):
        raise ValueError("a client's certificate and its key need one another")
    paths = (None if path is None else Path(path).absolute() for path in (ca, cert, key))
    credentials = TlsCredentials(*paths)
    credentials.check()
    return credentials


def _file_state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None  # as during its replacement
    return found.st_ino, found.st_size, found.st_mtime_ns


@dataclass(frozen=True)
class TokenFile:
    """The token that is the only content of a file, which is read for every call."""

    path: Path

    def __call__(self) -> str:
        return self.path.read_text("utf-8").strip()


def token_of(token: Token, token_file: str | os.PathLike[str] | None) -> Token:
    """The token of a client's arguments."""
    if token_file is None:
        return token
    if token is not None:
        raise ValueError("token and token_file are given; expected one of them")
    return TokenFile(Path(token_file).absolute())


def current(token: Token) -> str | None:
    """The token to send with a call; None for none. Raises ValueError if it cannot be sent."""
    text = token() if callable(token) else token
    # gRPC's own error would show the token.
    if text is not None and not (text and all("!" <= character <= "~" for character in text)):
        raise ValueError("the token is empty, or not printable ASCII without spaces")
    return text


def check_token(target: str, credentials: grpc.ChannelCredentials | None, token: Token) -> None:
    """Refuses a token that cannot be read or sent, or would be sent in plain text over a network.

    A function is not called before the first call of the client.
    """
    if token is None:
        return
    if isinstance(token, (str, TokenFile)):
        current(token)
    if credentials is None and not stays_on_this_machine(target):
        raise ValueError(f"the token would go to {target} in plain text; use TLS")
