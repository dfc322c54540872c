"""Sets up TLS and tokens from the settings; warns of what is unprotected or expires."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping

import grpc

from entropyd.contract.address import stays_on_this_machine
from entropyd_server.metrics import Metrics
from entropyd_server.security.access import Access
from entropyd_server.security.reloading import Reloaded
from entropyd_server.security.tls import (
    CERT,
    CLIENT_CA,
    KEY,
    Validity,
    chain_validity,
    parse_tls,
    roots_validity,
    server_credentials,
)
from entropyd_server.security.tokens import TokenBook
from entropyd_server.settings import Settings
from entropyd_server.transport.server import Server

log = logging.getLogger(__name__)

_TOKENS = "--tokens-file"
_PERIOD_S = 1.0


class Protection:
    """TLS and tokens of a server.

    Raises:
      FilesError: If a file cannot be used; names it with its flag.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._clients_too = settings.tls_client_ca is not None
        self._tls: Reloaded[grpc.ServerCertificateConfiguration] | None = None
        self._tokens: Reloaded[TokenBook] | None = None
        self._metrics = metrics
        self._validity: dict[str, Validity] = {}
        self._warned: dict[str, str | None] = {}
        pem = {CERT: settings.tls_cert, KEY: settings.tls_key, CLIENT_CA: settings.tls_client_ca}
        files = {flag: path for flag, path in pem.items() if path is not None}
        if files:
            self._tls = Reloaded("certificates", files, self._parse_tls, metrics.reloads)
        if (path := settings.tokens_file) is not None:
            self._tokens = tokens = Reloaded(
                "tokens", {_TOKENS: path}, lambda found: TokenBook.parse(found[_TOKENS]), metrics.reloads
            )
            self.access = Access(lambda: tokens.value)
        else:
            self.access = Access(None)

    def add_port(self, server: Server, address: str) -> int:
        """Binds an address and returns the port; warns if others can use it without TLS or tokens.

        Raises:
          RuntimeError: If the address cannot be bound.
        """
        if self._tls is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(
                address, server_credentials(self._tls, clients_too=self._clients_too)
            )
        if stays_on_this_machine(address):
            return port
        if self._tokens is not None and self._tls is None:
            log.warning("tokens cross the network in plain text: %s has no TLS (--tls-cert)", address)
        if self._tokens is None and not self._clients_too:
            log.warning(
                "anyone who reaches %s may use and delete every model: there is neither --tokens-file nor "
                "--tls-client-ca",
                address,
            )
        return port

    async def watch(self, now: asyncio.Event) -> None:
        """Reloads files that have changed: checks every second, and at once when `now` is set."""
        while True:
            with contextlib.suppress(asyncio.TimeoutError):  # not the built-in one before Python 3.11
                await asyncio.wait_for(now.wait(), _PERIOD_S)
            if now.is_set():
                now.clear()
                log.info("checking certificates and tokens for changes after SIGHUP")
            for files in (self._tls, self._tokens):
                if files is not None:
                    await files.refresh()
            self._warn_of_dates()

    def _parse_tls(self, pem: Mapping[str, bytes]) -> grpc.ServerCertificateConfiguration:
        parsed = parse_tls(pem)
        found = {CERT: chain_validity(pem[CERT]), CLIENT_CA: roots_validity(pem.get(CLIENT_CA, b""))}
        self._validity = {flag: validity for flag, validity in found.items() if validity is not None}
        expiry = {flag.removeprefix("--"): validity.not_after for flag, validity in self._validity.items()}
        self._metrics.certificate_expiry = expiry
        self._warned = {}
        self._warn_of_dates()
        return parsed

    def _warn_of_dates(self) -> None:
        for flag, validity in self._validity.items():
            warning = validity.trouble(time.time())
            if warning is not None and warning != self._warned.get(flag):
                log.warning("the certificate of %s %s", flag, warning)
            self._warned[flag] = warning
