"""Whose responses are, in Redis; and those whose work goes on, each with the time at which others may follow it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from gateway.ledger import script
from gateway.ledger.calls import Calls
from gateway.ledger.names import RESPONSE_ID, Names
from gateway.ledger.script import Script
from gateway.ledger.store import Store
from gateway.ledger.task_fields import pairs
from gateway.observe.event import Observer
from gateway.ports.responses import Remembered

KEPT = 30 * 86_400
"""Seconds for which the vendor keeps responses."""


class RedisResponses:
    """Implements `ports.responses.Responses`. A follower that is not heard of for `silence` seconds loses its work."""

    def __init__(
        self, store: Store, realm: str = "main", *, silence: float = 30.0, observer: Observer | None = None
    ) -> None:
        self._names = Names(realm)
        # A response that the store forgot is unknown from then on; its money is the ledger's matter.
        self._calls = Calls(store, self._names, observer)
        self._silence = str(round(silence * 1000))

    async def remember(self, response: Remembered) -> bool:
        """Keep it for 30 days; see `ports.responses.Responses`."""
        if not RESPONSE_ID.fullmatch(response.id):
            return False
        terms = "" if response.terms is None else json.dumps(dict(response.terms), separators=(",", ":"))
        args = [response.id, str(KEPT), self._silence, terms, "project", response.project]
        args += ["provider", response.provider, "job_type", response.job_type, "request", response.request_id]
        return bool(await self._run(script.RESPONSE_REMEMBER, self._keys(response.id), args) == "DONE")

    async def find(self, response_id: str) -> Remembered | None:
        """Return what is known of it."""
        if not RESPONSE_ID.fullmatch(response_id):
            return None
        flat = await self._calls.execute("HGETALL", self._names.response(response_id))
        known = flat if isinstance(flat, dict) else pairs(flat)
        return _remembered(response_id, known) if known and "hidden" not in known else None

    async def forget(self, response_id: str) -> None:
        """Know it no longer; one that is followed is followed on."""
        await self._run(script.RESPONSE_DONE, self._keys(response_id), [response_id, "forget"])

    async def lapsed(self, most: int) -> Sequence[Remembered]:
        """Take up to so many whose follower was not heard of; see `ports.responses.Responses`."""
        args = [str(most), self._silence, self._names.response_prefix]
        rows = await self._run(script.RESPONSES_LAPSED, [self._names.responses_followed], args)
        names = self._names
        lost = [name for name, flat in rows if not flat]
        gone = [(script.STRIKE_OFF, names.response_prefix + name, names.responses_followed, name) for name in lost]
        await self._calls.strike_off("response", gone)
        return [_remembered(response_id, pairs(flat)) for response_id, flat in rows if flat]

    async def keep(self, response_ids: Sequence[str]) -> None:
        """Say that these are followed here."""
        if response_ids:
            await self._run(script.RESPONSES_KEEP, [self._names.responses_followed], [self._silence, *response_ids])

    async def done(self, response_id: str) -> None:
        """Follow it no more."""
        await self._run(script.RESPONSE_DONE, self._keys(response_id), [response_id, "done"])

    def _keys(self, response_id: str) -> list[str]:
        return [self._names.response(response_id), self._names.responses_followed]

    async def _run(self, what: Script, keys: Sequence[str], args: Sequence[str]) -> Any:
        return await self._calls.run("response", what, keys, args)


def _remembered(response_id: str, known: dict[str, str]) -> Remembered:
    return Remembered(
        id=response_id,
        project=known["project"],
        provider=known["provider"],
        job_type=known["job_type"],
        request_id=known["request"],
        terms=json.loads(known["terms"]) if known.get("terms") else None,
    )
