"""Stopping: first out of the balancer's sight, then out of service. And telling a service manager of the start."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress

READY = "READY=1"
AT_ONCE = signal.SIGUSR2
"""By which a supervisor tells its workers that it was asked twice."""


class Stopping:
    """How a process comes to its end: `leaving` first, `delay` seconds later `shutdown`.

    From `leaving` on it says that it is not ready, and asks clients to connect anew, while it serves whatever still
    comes: balancers take a moment to look elsewhere. Whoever asks twice waits no longer.
    """

    def __init__(self, delay: float) -> None:
        self.leaving = asyncio.Event()
        self.shutdown = asyncio.Event()
        self._delay = delay

    def ask(self) -> None:
        """Begin to leave; the second time at once."""
        if self._delay <= 0 or self.leaving.is_set():
            self.shutdown.set()
        self.leaving.set()

    def now(self) -> None:
        """Shut down at once."""
        self.leaving.set()
        self.shutdown.set()

    async def run(self, leave: Callable[[], None]) -> None:
        """Return once it is time to shut down; `leave` is called when leaving begins."""
        await self.leaving.wait()
        leave()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._delay):
                await self.shutdown.wait()
        self.shutdown.set()

    def ask_once(self) -> None:
        """Begin to leave, unless it has."""
        if not self.leaving.is_set():
            self.ask()

    def follow_signals(self, lifeline: int | None = None) -> None:
        """Stop on SIGTERM and SIGINT; a worker has a `lifeline`, at whose end-of-file its supervisor is gone.

        It stops at once then, and on AT_ONCE: a signal to the whole group reaches it twice, once by its supervisor.
        """
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self.ask if lifeline is None else self.ask_once)

        def alone(descriptor: int) -> None:
            loop.remove_reader(descriptor)  # end-of-file is readable for ever
            self.now()

        if lifeline is not None:
            loop.add_signal_handler(AT_ONCE, self.now)
            loop.add_reader(lifeline, alone, lifeline)


def heed_no_more() -> None:
    """Ignore from now on what stops a process: this one is about to end, and must stop its embedded store first.

    A loop that is closed gives signals their default back, which is to end a process at once.
    """
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.remove_signal_handler(name)
        signal.signal(name, signal.SIG_IGN)


def notify(state: str) -> None:
    """Tell the service manager, if one asks by NOTIFY_SOCKET (sd_notify(3)); one that cannot be reached is not told."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock, suppress(OSError):
        sock.connect(address)
        sock.send(state.encode())
