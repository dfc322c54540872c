"""A client from plain settings, as the command line and Zarr have them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from entropyd._client import Client
from entropyd._credentials import tls_credentials


@dataclass(frozen=True)
class Connection:
    """Where a server is, and the credentials for it.

    Attributes:
      server: Target, as for Client.
      tls: Whether to use TLS; any of the files below means so too.
      tls_ca: Root certificates to trust in PEM; None for the public ones.
      tls_cert, tls_key: The client's own certificate chain and key in PEM.
      token_file: File whose only content is a token.
      token: The token itself; ignored if there is a `token_file`.
    """

    server: str
    tls: bool = False
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    token_file: Path | None = None
    token: str | None = field(default=None, repr=False)

    def client(self, timeout_s: float = 60.0) -> Client:
        """A client of that server; its first call connects. Errors as Client and tls_credentials."""
        tls = self.tls or not (self.tls_ca is self.tls_cert is self.tls_key is None)
        credentials = tls_credentials(self.tls_ca, self.tls_cert, self.tls_key) if tls else None
        token = None if self.token_file is not None else self.token or None
        return Client(
            self.server, credentials=credentials, token=token, token_file=self.token_file, timeout_s=timeout_s
        )
