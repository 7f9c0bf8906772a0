"""A receiver of callbacks, and the sender that serves it, on a real store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gateway.callbacks.sending import CallbackSender
from gateway.egress.fetcher import SafeFetcher
from gateway.observe.event import CallbackSent, Event
from gateway.ports.tasks import Callbacks
from tests.egress.table import TableResolver
from tests.egress.test_urls import guarding

HOSTS = ("one.example.com", "two.example.com")
KEYS = (b"k" * 24, b"l" * 32)
NOW = 1_795_132_800.0


@dataclass
class Seen:
    """An observer that keeps what was told of callbacks."""

    results: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    told: asyncio.Event = field(default_factory=asyncio.Event)

    def emit(self, event: Event) -> None:
        """Keep it."""
        if isinstance(event, CallbackSent):
            self.results.append(event.result)
            self.errors.append(event.error)
            self.told.set()

    async def so_many(self, number: int) -> None:
        """Wait until so many tries have ended."""
        while len(self.results) < number:
            self.told.clear()
            await self.told.wait()


def sender_for(
    callbacks: Callbacks,
    *,
    keys: Sequence[bytes] = KEYS,
    clock: Callable[[], float] = lambda: NOW,
    chance: float = 0.5,
) -> tuple[CallbackSender, SafeFetcher, Seen]:
    """A sender whose receivers listen on this machine, and that signs with these keys whatever the project."""
    names = {host: ["127.0.0.1"] for host in HOSTS}
    fetcher, seen = SafeFetcher(guarding(*HOSTS), resolver=TableResolver(names)), Seen()
    return CallbackSender(callbacks, fetcher, lambda _: keys, seen, clock=clock, chance=lambda: chance), fetcher, seen
