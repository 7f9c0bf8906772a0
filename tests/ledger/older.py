"""A store that comes back older than it was."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from redis import Redis

from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store


@dataclass(frozen=True)
class Copy:
    """All keys of a realm at one moment, as the server itself would dump and restore them."""

    url: str
    pattern: str
    dumped: dict[bytes, bytes]

    def put_back(self) -> None:
        """Lose whatever was written since."""
        with Redis.from_url(self.url) as server:
            for name in server.keys(self.pattern):
                server.delete(name)
            for name, dumped in self.dumped.items():
                server.restore(name, 0, dumped)


def copy(url: str, realm: str) -> Copy:
    """Take a copy of a realm."""
    pattern = f"igw:{{{realm}}}:*"
    with Redis.from_url(url) as server:
        names = server.keys(pattern)
        return Copy(url, pattern, {name: server.dump(name) for name in names})


async def resynced(ledger: RedisLedger) -> None:
    """Wait until nothing is left to be told."""
    if ledger._resync._work is not None:
        await asyncio.shield(ledger._resync._work)


async def empty(store: Store, realm: str) -> None:
    """Lose everything."""
    await store.execute("DEL", *await store.execute("KEYS", f"igw:{{{realm}}}:*"))
