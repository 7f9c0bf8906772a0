"""Resolving: the addresses that a host has, by the system, asked in threads so that slow names hold up nothing else."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Protocol

_LOOKUPS = 16
"""Names looked up at once by one resolver; more wait."""
_NAMES_KEPT = 10.0
"""Seconds for which the addresses of a name are taken to be the same."""

Address = tuple[str, int] | tuple[str, int, int, int]
Addresses = list[tuple[int, int, int, str, Address]]
"""As `socket.getaddrinfo` returns them."""


class Resolver(Protocol):
    """Finds the addresses that connections to a host are made to."""

    async def resolve(self, host: str, port: int) -> Addresses:
        """Return every address; OSError or UnicodeError if there is none."""

    def close(self) -> None:
        """Look nothing more up."""


class SystemResolver:
    """Looks names up as the system does: hosts file, search domains and name servers included.

    `threads` is the name of its own threads, `flags` are those of `socket.getaddrinfo`.
    """

    def __init__(self, threads: str, flags: int = 0) -> None:
        self._threads = ThreadPoolExecutor(_LOOKUPS, thread_name_prefix=threads)
        self._flags = flags

    async def resolve(self, host: str, port: int) -> Addresses:
        """Return every address."""
        ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM, flags=self._flags)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        return [(family, kind, protocol, name, _where(address)) for family, kind, protocol, name, address in found]

    def close(self) -> None:
        """Start no more lookups; those under way end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class RememberingResolver:
    """Passes on what another resolver finds, and for a moment tells the same again. For names that are few."""

    def __init__(self, inner: Resolver) -> None:
        self._inner = inner
        self._names: dict[tuple[str, int], tuple[float, asyncio.Task[Addresses]]] = {}

    async def resolve(self, host: str, port: int) -> Addresses:
        """Return a name's addresses; whoever asks while it is being looked up waits for the same answer."""
        loop = asyncio.get_running_loop()
        until, lookup = self._names.get((host, port), (0.0, None))
        if lookup is None or (lookup.done() and (loop.time() > until or lookup.cancelled() or lookup.exception())):
            lookup = loop.create_task(self._inner.resolve(host, port))
            self._names[host, port] = loop.time() + _NAMES_KEPT, lookup
        return await asyncio.shield(lookup)

    def close(self) -> None:
        """Give up what is being looked up, and leave the inner resolver to its owner."""
        for _, lookup in self._names.values():
            lookup.cancel()
        self._names.clear()


@lru_cache(1)
def configured_hosts() -> Resolver:
    """Return the one resolver of configured hosts: their lookups wait for nobody else's."""
    return SystemResolver("provider-lookup")


def _where(address: tuple[int, bytes] | tuple[str, int] | tuple[str, int, int, int]) -> Address:
    """Narrow an address: that of a Python built without IPv6 would have bytes in it."""
    if isinstance(address[0], int):
        raise OSError(f"not an address to connect to: {address}")
    return address
