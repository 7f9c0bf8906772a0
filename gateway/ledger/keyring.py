"""The keyring: who a key belongs to, answered from memory and kept up to date in the background."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import secrets
import time

from gateway.domain.caller import Caller
from gateway.ledger import script
from gateway.ledger.clock import StoreClock
from gateway.ledger.errors import StoreError
from gateway.ledger.key_format import well_formed
from gateway.ledger.keys import KeyRecord, pages, records_by_digest
from gateway.ledger.names import Names
from gateway.ledger.pepper import check_pepper, digest
from gateway.ledger.store import Store
from gateway.ports import LedgerUnavailable

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
MISS_SECONDS = 0.05
"""The least time between two looks at the store for keys that are not in memory, however many are tried."""
RECENT = 4096
"""Keys in use that are known again by a hash of this process alone: that of the store takes ten times as long."""


class RedisKeyring:
    """Implements `ports.Keyring`. While the store is away, the keys known so far go on working.

    Looking up by a keyed hash takes the same time for every wrong key: nothing can be learnt from how long it took.
    """

    def __init__(self, store: Store, pepper: bytes, realm: str = "main") -> None:
        self._store = store
        self._pepper = pepper
        self._realm = realm
        self._names = Names(realm)
        self._stored: dict[str, str] = {}
        self._records: dict[str, KeyRecord] = {}
        self._by_id: dict[str, KeyRecord] = {}
        self._salt = secrets.token_bytes(hashlib.blake2b.MAX_KEY_SIZE)
        self._recent: dict[bytes, tuple[str, KeyRecord, Caller]] = {}  # only of keys that the store knows
        self._version: tuple[int, str | None] | None = None
        self._refreshing = asyncio.Lock()
        self._looked = float("-inf")
        self._look: asyncio.Task[LedgerUnavailable | None] | None = None
        self._clock = StoreClock()

    async def load(self) -> None:
        """Read all keys; PepperMismatch if they were made with another pepper. Raises LedgerUnavailable."""
        await check_pepper(self._store, self._pepper, self._realm)
        await self._clock.look(self._store)
        await self._refresh()

    async def find(self, key: str) -> Caller | None:
        """Return the caller, or None if the key is malformed, unknown, expired or revoked.

        Raises LedgerUnavailable if it is not in memory and the store does not answer.
        """
        mark = self.mark(key)
        caller = self.known(mark)
        return await self._look_up(key, mark) if caller is None else caller

    def mark(self, key: str) -> bytes:
        """Return a hash of this process alone: no key is remembered here."""
        return hashlib.blake2b(key.encode(errors="surrogatepass"), key=self._salt).digest()

    def known(self, mark: bytes) -> Caller | None:
        """Return the caller, if the key was looked up before, has not changed since and may be used."""
        recent = self._recent.get(mark)
        if recent is None:
            return None
        where, record, caller = recent
        return caller if self._records.get(where) is record and self._lives(record) else None

    async def _look_up(self, key: str, mark: bytes) -> Caller | None:
        """Return the caller by what is stored of a key; None if the store does not know it, or it may not be used.

        What is not known is not kept either: keys that somebody makes up push out nobody's.
        """
        where = digest(self._pepper, key)
        record = self._records.get(where)
        if record is None and well_formed(key):
            await self._look_again()
            record = self._records.get(where)
        recent = self._recent
        recent.pop(mark, None)
        if record is None:
            return None
        if len(recent) >= RECENT:
            del recent[next(iter(recent))]
        caller = Caller(record.id, record.project, record.job_type)
        recent[mark] = where, record, caller
        return caller if self._lives(record) else None

    def _lives(self, record: KeyRecord) -> bool:
        return record.live(0.0 if record.expires is None else self._clock.now())

    async def lives(self, key_id: str) -> bool:
        """Tell whether a key, named by its id, may be used now; raises LedgerUnavailable if it is not in memory."""
        if key_id not in self._by_id:
            await self._refresh()
        record = self._by_id.get(key_id)
        return record is not None and self._lives(record)

    async def run(self) -> None:
        """Follow changes made elsewhere, and the store's clock, about once a second, until cancelled."""
        failing = False
        while True:
            await asyncio.sleep(POLL_SECONDS * random.uniform(0.8, 1.0))  # noqa: S311 - jitter, not a secret
            try:
                await self._clock.look(self._store)
                await self._refresh()
            except (LedgerUnavailable, StoreError) as error:
                if not failing:
                    log.warning("the keyring goes on with the keys it knows: %s", error)
                failing = True
            else:
                failing = False

    async def _look_again(self) -> None:
        """Have the store asked once for all who miss a key now; raises LedgerUnavailable."""
        if self._look is None:
            self._look = asyncio.create_task(self._look_soon())
        away = await asyncio.shield(self._look)
        if away is not None:
            raise LedgerUnavailable(str(away)) from away

    async def _look_soon(self) -> LedgerUnavailable | None:
        """Return what stood in the way, if the store does not answer: whether a key is one cannot be told then."""
        await asyncio.sleep(max(self._looked + MISS_SECONDS - time.monotonic(), 0))
        self._looked, self._look = time.monotonic(), None  # whoever misses a key from now on needs another look
        try:
            await self._refresh()
        except (LedgerUnavailable, StoreError) as error:
            log.warning("a key that is not in memory cannot be looked up: %s", error)
            return error if isinstance(error, LedgerUnavailable) else None
        return None

    async def _refresh(self) -> None:
        """Read everything if the version is another one. The version is read first, so that no change is missed.

        It counts changes, so that a store which lost some comes to the same one again: each has its own versions.
        """
        async with self._refreshing:
            lost = self._store.losses.count
            version = lost, await self._store.execute("HGET", self._names.meta, "keys_version")
            if version[1] is None and self._stored:
                await self._put_back()
            elif version != self._version:
                self._stored, self._records = await self._read()
                self._by_id = {record.id: record for record in self._records.values()}
                self._version = version

    async def _read(self) -> tuple[dict[str, str], dict[str, KeyRecord]]:
        """Return every record, as it is stored and read.

        What was revoked stays so, though a store that came back older may not know of it.
        """
        before = self._records
        while True:
            stored, records = await self._scan()
            live = [where for where, record in records.items() if record.revoked is None]
            again = [where for where in live if where in before and before[where].revoked is not None]
            if not again:
                return stored, records
            log.warning("the store has lost that %d keys were revoked: telling it again", len(again))
            triples = [word for where in again for word in (where, stored[where], self._stored[where])]
            await self._store.run(script.END_KEY, [self._names.keys, self._names.meta], triples)

    async def _scan(self) -> tuple[dict[str, str], dict[str, KeyRecord]]:
        """Return what is stored, page by page; a record that has not changed is not read again.

        What is written meanwhile may be missing: it has a version of its own, and is found by the next look.
        """
        stored: dict[str, str] = {}
        records: dict[str, KeyRecord] = {}
        async for page in pages(self._store, self._names.keys):
            same = [where for where, text in page.items() if self._stored.get(where) == text]
            records |= {where: self._records[where] for where in same if where in self._records}
            records |= records_by_digest({where: page[where] for where in page.keys() - same})
            stored |= page
        return stored, records

    async def _put_back(self) -> None:
        """A store that was emptied gets the keys again that are known here; nobody is locked out by its loss."""
        log.warning("the store has lost its keys: putting %d of them back", len(self._stored))
        triples = [word for where, record in self._stored.items() for word in (where, "", record)]
        await check_pepper(self._store, self._pepper, self._realm)
        await self._store.run(script.WRITE_KEYS, [self._names.keys, self._names.meta], triples)
