"""What a client shows to a server, and where it may.

Owns TLS credentials and the rule for tokens. It must not know any call. Invariant: a token goes nowhere in
plain text but to this very machine, and no error repeats it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from entropyd.contract.address import stays_on_this_machine

if TYPE_CHECKING:
    import os


def tls_credentials(
    ca: str | os.PathLike[str] | None = None,
    cert: str | os.PathLike[str] | None = None,
    key: str | os.PathLike[str] | None = None,
) -> grpc.ChannelCredentials:
    """Credentials for a server with TLS, to be given to a client.

    Args:
      ca: File with the root certificates to trust, in PEM; None for the public ones that gRPC brings.
      cert: File with the client's own certificate chain in PEM, for servers that ask for one.
      key: File with its key.

    Raises:
      OSError: If a file cannot be read.
      ValueError: If only one of `cert` and `key` is given.
    """
    if (cert is None) != (key is None):
        raise ValueError("a client's certificate and its key need one another")
    roots, chain, private = (None if path is None else Path(path).read_bytes() for path in (ca, cert, key))
    return grpc.ssl_channel_credentials(roots, private, chain)


def check_token(target: str, credentials: grpc.ChannelCredentials | None, token: str | None) -> None:
    """Refuses a token that cannot be sent, or would be sent in plain text over a network.

    Raises:
      ValueError: Saying which.
    """
    if token is None:
        return
    # gRPC's own refusal would show the token.
    if not token or not all("!" <= character <= "~" for character in token):
        raise ValueError("the token is not one of printable ASCII characters without spaces")
    if credentials is None and not stays_on_this_machine(target):
        raise ValueError(f"the token would go to {target} in plain text; use TLS")
