"""Several server processes behind one port, each on cores of its own.

The interpreter of one process carries some thousand small calls a second, so a machine of many cores needs
several. The kernel gives each new connection to one of them (SO_REUSEPORT), for the connection's life.

Invariant: while this process runs, a process of the group that has served and ends is replaced; when this one
ends, however that is, all of them end.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

import click

from entropyd_server.machine import cores, end_with_parent
from entropyd_server.observe import logs
from entropyd_server.ports import cannot_listen, reserve
from entropyd_server.process import serve_process
from entropyd_server.settings import Settings

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

log = logging.getLogger(__name__)

_SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class _Member:
    number: int
    process: BaseProcess
    served: Any  # multiprocessing's Event, a factory whose type has no public name


def serve_group(settings: Settings) -> None:
    """Runs `settings.processes` servers until SIGTERM or SIGINT, which drains all; SIGHUP reloads files.

    Args:
      settings: Those of the whole group. Process i adds i to the ports of its metrics and its health checks.

    Raises:
      ClickException: If the address cannot be shared, or a process ends before it has served.
    """
    logs.configure(settings.log_format, settings.log_level)
    try:
        reserved = reserve(settings.listen)
    except OSError as error:
        raise click.ClickException(cannot_listen(settings.listen, error)) from error
    with reserved:
        host = settings.listen.rpartition(":")[0]
        listen = f"{host}:{reserved.getsockname()[1]}"
        if not _Group(replace(settings, listen=listen)).run():
            raise click.ClickException("one of the processes could not start; the log says why")


class _Group:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._members: dict[int, _Member] = {}
        self._stopping = self._failed = False

    def run(self) -> bool:
        """Returns when all processes have ended: whether none of them failed to start."""
        signals, written = socket.socketpair()
        written.setblocking(False)  # noqa: FBT003 - as the standard library has it
        # A handler in Python would run only after the wait; the interpreter writes numbers here at once.
        signal.set_wakeup_fd(written.fileno())
        for handled in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(handled, lambda *_: None)
        for number in range(self._settings.processes):
            self._start(number)
        while self._members:
            for found in wait([signals, *(member.process.sentinel for member in self._members.values())]):
                if found is signals:
                    for received in signals.recv(64):
                        self._forward(received)
                elif isinstance(found, int):
                    self._ended(self._members.pop(found))
        return not self._failed

    def _start(self, number: int) -> None:
        settings = self._settings
        own = replace(
            settings,
            metrics_listen=_shifted(settings.metrics_listen, number),
            health_listen=_shifted(settings.health_listen, number),
        )
        served = _SPAWN.Event()
        arguments = (own, _cores_of(number, settings.processes), served)
        process = _SPAWN.Process(target=_run, args=arguments, name=f"server {number}")
        process.start()
        log.info("server %d started as process %d", number, process.pid)
        self._members[process.sentinel] = _Member(number, process, served)

    def _forward(self, received: int) -> None:
        self._stopping |= received != signal.SIGHUP
        for member in self._members.values():
            # Before it serves, a process reads its files anyway, and may not handle SIGHUP yet.
            if member.process.pid and (received != signal.SIGHUP or member.served.is_set()):
                with suppress(ProcessLookupError):
                    os.kill(member.process.pid, received)

    def _ended(self, member: _Member) -> None:
        member.process.join()
        if self._stopping:
            return
        log.error("server %d ended with exit status %s", member.number, member.process.exitcode)
        if member.served.is_set():
            self._start(member.number)
        else:
            self._failed = True
            self._forward(signal.SIGTERM)


def _shifted(address: str, number: int) -> str:
    host, _, port = address.rpartition(":")
    return f"{host}:{int(port) + number}" if port.isdecimal() and int(port) else address


def _cores_of(number: int, processes: int) -> list[int]:
    """The cores of a process: neighbours, an equal part of all; all where there are fewer cores."""
    available = cores()
    first, last = (edge * len(available) // processes for edge in (number, number + 1))
    return available[first:last] or available


def _run(settings: Settings, own_cores: list[int], served: Any) -> None:
    """Runs in each process of the group."""
    # A terminal signals the whole process group, and the parent would signal again: a second signal hurries.
    os.setsid()
    end_with_parent(signal.SIGTERM)
    parent = multiprocessing.parent_process()
    if parent is None or not parent.is_alive():
        return
    os.sched_setaffinity(0, own_cores)
    try:
        serve_process(settings, served.set)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
