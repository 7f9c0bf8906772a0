"""Resolvers: names looked up by the system, and every address judged before one of them is connected to."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor

from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.egress.guard import Guard

_LOOKUPS = 16
"""At once; more wait. They have threads of their own, so that slow names hold up nothing else."""
_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class SystemResolver(AbstractResolver):
    """Looks names up as the system does: hosts file, search domains and name servers included."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="lookup")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return every address of a name; OSError if it has none."""
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads,
            lambda: socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG),
        )
        return [
            ResolveResult(hostname=host, host=str(name[0]), port=port, family=each, proto=proto, flags=_NUMERIC)
            for each, _, proto, _, name in found
        ]

    async def close(self) -> None:
        """Start no more lookups; those under way end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class JudgingResolver(AbstractResolver):
    """Passes on what another resolver finds, if every address of it may be called: one that may not refuses all.

    What it returns is connected to without a second lookup.
    """

    def __init__(self, inner: AbstractResolver, guard: Guard, *, trusted: bool) -> None:
        self._inner = inner
        self._guard = guard
        self._trusted = trusted

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return every address of a name; Unfetchable if one of them leads inside, OSError if there is none."""
        found = await self._inner.resolve(host, port, family)
        if not found:
            raise OSError(None, "no address")
        for each in found:
            self._guard.judge(each["host"], host, port, trusted=self._trusted)
        return found

    async def close(self) -> None:
        """Leave the inner resolver to its owner."""
