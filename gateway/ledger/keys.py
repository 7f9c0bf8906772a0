"""API keys in the store: create, list, revoke, rotate. Only a keyed hash of a key is kept."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from gateway.ledger import script, wire
from gateway.ledger.clock import store_time
from gateway.ledger.key_format import new_key, random_base62
from gateway.ledger.names import Names
from gateway.ledger.pepper import digest
from gateway.ledger.script import Script
from gateway.ledger.store import Store

log = logging.getLogger(__name__)

ID_LENGTH = 12
PAGE = 500
"""Keys read at once."""
LONGEST_GRACE = 30 * 86_400.0
"""Seconds for which a key that was replaced may stay good."""
FOR_GOOD = math.inf
"""The time at which to look at a key that has ended: no clock makes it live again."""


class UnknownKey(Exception):
    """No key has that id."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is known of a key. Times are Unix seconds; `id` may be shown and logged, the key itself is nowhere.

    It ends at the earlier of `revoked` and `expires`.
    """

    id: str
    project: str
    name: str
    job_type: str | None
    created: float
    revoked: float | None = None
    expires: float | None = None

    def live(self, now: float) -> bool:
        """Tell whether the key may be used at that time."""
        return self.revoked is None and (self.expires is None or now < self.expires)

    def state(self, now: float) -> str:
        """Return what it is at that time: `live`, `revoked` or `expired`."""
        return "live" if self.live(now) else "expired" if self._revocation() is None else "revoked"

    def _revocation(self) -> float | None:
        """When a revocation ended it; None if none did, be it that it had expired by then."""
        return self.revoked if self.expires is None or (self.revoked or 0.0) < self.expires else None

    def shown(self, now: float) -> dict[str, str | None]:
        """Return what is shown of it at that time by the store's clock, wherever keys are listed.

        Times are RFC 3339 in UTC, None where there is none.
        """
        revoked = self._revocation()
        return {
            "id": self.id,
            "project": self.project,
            "name": self.name,
            "job_type": self.job_type,
            "state": self.state(now),
            "created": _iso(self.created),
            "revoked": None if revoked is None else _iso(revoked),
            "expires": None if self.expires is None else _iso(self.expires),
        }


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made; the only moment at which its secret is known. Its `repr` does not show it.

    `grace` is for how many seconds the key stays good in whose place it was made.
    """

    secret: str
    record: KeyRecord
    grace: float = 0.0

    def shown(self) -> dict[str, str | None]:
        """Return what is shown of it when it is made, which is the only time that its secret is: `key`."""
        return {**self.record.shown(self.record.created), "key": self.secret}

    def __repr__(self) -> str:
        return f"NewKey({self.record.id})"


class Keys:
    """Manages the keys of a realm. Every method raises LedgerUnavailable."""

    def __init__(self, store: Store, pepper: bytes, realm: str = "main") -> None:
        self._store = store
        self._pepper = pepper
        self._names = Names(realm)

    async def create(
        self, project: str, *, name: str = "", job_type: str | None = None, expires: float | None = None
    ) -> NewKey:
        """Make a key for a project."""
        made = _make(project, name, job_type, expires, await self.now())
        if not await self._write({digest(self._pepper, made.secret): ("", made.record)}):
            raise AssertionError("two keys of 178 random bits are the same")
        return made

    async def put(self, draft: NewKey) -> KeyRecord:
        """Make a drafted key good; returns what stands for its secret, an older record if it was put before."""
        where = digest(self._pepper, draft.secret)
        if await self._write({where: ("", draft.record)}):
            return draft.record
        return _record(await self._store.execute("HGET", self._names.keys, where))

    async def list(self) -> list[KeyRecord]:
        """Return every key ever made, oldest first."""
        return await every_key(self._store, self._names)

    async def now(self) -> float:
        """Return Unix seconds by the store's clock, by which keys end."""
        return await store_time(self._store)

    async def revoke(self, key_id: str) -> KeyRecord:
        """End a key at once; UnknownKey if there is none. A key that was revoked or has expired stays as it is.

        This is done though the store is out of memory.
        """
        now = await self.now()
        while True:
            where, raw = await self._find(key_id)
            ended = _ended(_record(raw), now)
            if await self._write({where: (raw, ended)}, script.END_KEY):
                return ended

    async def rotate(self, key_id: str, *, grace: float = 0.0) -> NewKey:
        """Make a new key for the same project, name and job type; the old one ends now, or after `grace` seconds.

        One that has ended stays as it is, and none lives longer for it.
        """
        while True:
            where, raw = await self._find(key_id)
            old = _record(raw)
            now = await self.now()
            made = _make(old.project, old.name, old.job_type, None, now)
            if grace <= 0 or not old.live(now):
                ends = _ended(old, now)
            else:
                left = math.inf if old.expires is None else old.expires - now
                made = replace(made, grace=min(grace, left))
                ends = old if left <= grace else replace(old, expires=now + grace)
            if await self._write({where: (raw, ends), digest(self._pepper, made.secret): ("", made.record)}):
                return made

    async def _find(self, key_id: str) -> tuple[str, str]:
        found = await _read(self._store, self._names)
        for where, record in records_by_digest(found).items():
            if record.id == key_id:
                return where, found[where]
        # What was given is not repeated: it may be a key in place of its id.
        raise UnknownKey("there is no key of that id: ids begin with key_, and are listed")

    async def _write(self, changes: Mapping[str, tuple[str, KeyRecord]], how: Script = script.WRITE_KEYS) -> bool:
        """Write all, unless one is no longer as it was read."""
        args = [part for where, (was, now) in changes.items() for part in (where, was, wire.to_json(asdict(now)))]
        return bool(await self._store.run(how, [self._names.keys, self._names.meta], args))


def drafted(
    project: str, *, now: float, name: str = "", job_type: str | None = None, secret: str | None = None
) -> NewKey:
    """Return a key that is not good yet, with a new secret or a well-formed one: `Keys.put` makes it good.

    `now` is Unix seconds by the store's clock, for when it was made.
    """
    draft = _make(project, name, job_type, None, now)
    return draft if secret is None else replace(draft, secret=secret)


async def every_key(store: Store, names: Names) -> list[KeyRecord]:
    """Return every key ever made, oldest first, for which no pepper is needed. LedgerUnavailable."""
    records = records_by_digest(await _read(store, names))
    return sorted(records.values(), key=lambda record: (record.created, record.id))


async def _read(store: Store, names: Names) -> Mapping[str, str]:
    found: dict[str, str] = {}
    async for page in pages(store, names.keys):
        found |= page
    return found


async def pages(store: Store, name: str) -> AsyncIterator[dict[str, str]]:
    """Yield the stored hash of keys, some at a time; what is written meanwhile may be missing. LedgerUnavailable.

    In one piece a hundred thousand keys would keep the store silent for so long that it counted as away.
    """
    cursor: str | None = "0"
    while cursor is not None:
        following, page = await store.execute("HSCAN", name, cursor, "COUNT", PAGE)
        cursor = str(following) if int(following) else None
        yield page


def records_by_digest(raw: Mapping[str, str]) -> dict[str, KeyRecord]:
    """Return the stored hash of keys, decoded; one that cannot be read is left out, and its key is nobody's."""
    found: dict[str, KeyRecord] = {}
    for where, record in raw.items():
        try:
            found[where] = _record(record)
        except (ValueError, TypeError) as error:
            log.error("the record of a key cannot be read: %s: %s", where, error)  # noqa: TRY400 - the message says it all
    return found


def _make(project: str, name: str, job_type: str | None, expires: float | None, now: float) -> NewKey:
    return NewKey(new_key(), KeyRecord(f"key_{random_base62(ID_LENGTH)}", project, name, job_type, now, None, expires))


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def _ended(record: KeyRecord, now: float) -> KeyRecord:
    return replace(record, revoked=now) if record.live(now) else record


def _record(raw: str) -> KeyRecord:
    return KeyRecord(**json.loads(raw))
