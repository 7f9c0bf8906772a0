"""Messages to clients in Redis: due at a time each, taken for a minute, kept where nobody took them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.ledger import calls, script
from gateway.ledger.calls import Calls
from gateway.ledger.names import Names
from gateway.ledger.replicas import Replicas
from gateway.ledger.script import Script
from gateway.ledger.store import Store
from gateway.ledger.task_fields import pairs
from gateway.observe.event import Observer
from gateway.ports.tasks import Callback

DAY = 86_400
MOST = 200
"""Messages in one answer."""
MOST_ERROR = 1_000
"""Characters kept of what the last try met."""


class RedisCallbacks:
    """Implements `ports.tasks.Callbacks`; they are queued by `RedisTasks.end` and `cancel`.

    Who takes a message and is not heard of for `away` seconds leaves it to another, so one try must take less. Dead
    ones are forgotten after `kept` seconds.
    """

    def __init__(
        self,
        store: Store,
        realm: str = "main",
        *,
        away: float = 60.0,
        kept: float = 30 * DAY,
        observer: Observer | None = None,
    ) -> None:
        self._names = Names(realm)
        # A message that the store lost is not sent; the task can still be asked for.
        self._calls = Calls(store, self._names, observer)
        self._replicas = Replicas(store, self._names)
        self._away = str(round(away * 1000))
        self._kept = str(round(kept * 1000))

    async def due(self, most: int) -> Sequence[Callback]:
        """Take up to so many that are due, longest ago first; see `ports.tasks.Callbacks`."""
        keys = [self._names.callbacks_due, self._names.callbacks_dead]
        args = [calls.token(), str(min(most, MOST)), self._away, self._kept, self._names.prefix]
        rows = await self._run(script.CALLBACKS_DUE, keys, args)
        names = self._names
        lost = [name for name, flat in rows if not flat]
        gone = [(script.STRIKE_OFF, names.callback_prefix + name, names.callbacks_due, name) for name in lost]
        await self._calls.strike_off("callback", gone)
        taken = [_callback(*row) for row in rows if row[1]]
        if taken:
            await self._replicas.reached()  # their receivers are told of it next
        return taken

    async def delivered(self, callback: Callback) -> None:
        """End it, whoever has it by now: it was taken on."""
        await self._run(script.CALLBACK_DELIVERED, self._keys(callback.id, callback.project), [callback.id])

    async def failed(self, callback: Callback, error: str, wait: float | None) -> None:
        """Try it again in a while, or lay it with the dead; nothing if another has taken it or it was delivered."""
        args = [callback.id, callback.token, error[:MOST_ERROR], "" if wait is None else _milliseconds(wait)]
        await self._run(script.CALLBACK_FAILED, self._keys(callback.id, callback.project), args)

    async def put_off(self, callback: Callback, wait: float) -> None:
        """Give it back untried for a while; nothing if another has taken it or it was delivered."""
        keys = [self._names.callback(callback.id), self._names.callbacks_due]
        args = [callback.id, callback.token, _milliseconds(wait)]
        await self._run(script.CALLBACK_PUT_OFF, keys, args)

    async def dead(self, project: str | None = None, limit: int = 100) -> Sequence[Callback]:
        """Return those that nobody took, newest first, 200 at most."""
        names = self._names
        keys = [names.callbacks_dead if project is None else names.callbacks_dead_of(project)]
        rows = await self._calls.read(script.CALLBACKS_DEAD, keys, [str(min(limit, MOST)), names.callback_prefix])
        return [_callback(*row) for row in rows]

    async def revive(self, callback_id: str) -> bool:
        """Send a dead one again from its first try on; False if there is none by that id."""
        try:
            key = self._names.callback(callback_id)
        except ValueError:
            return False
        project = await self._calls.execute("HGET", key, "project")
        if project is None:
            return False
        args = [calls.token(), callback_id]
        return bool(await self._run(script.CALLBACK_REVIVE, self._keys(callback_id, str(project)), args) == "DONE")

    async def callback_counts(self) -> Mapping[str, int]:
        """Return how many are `waiting` to be delivered and how many are `dead`."""
        waiting = await self._calls.execute("ZCARD", self._names.callbacks_due)
        dead = await self._calls.execute("ZCARD", self._names.callbacks_dead)
        return {"waiting": int(waiting), "dead": int(dead)}

    def _keys(self, callback_id: str, project: str) -> list[str]:
        names = self._names
        return [
            names.callback(callback_id),
            names.callbacks_due,
            names.callbacks_dead,
            names.callbacks_dead_of(project),
        ]

    async def _run(self, what: Script, keys: Sequence[str], args: Sequence[str]) -> Any:
        return await self._calls.run("callback", what, keys, args)


def _milliseconds(seconds: float) -> str:
    return str(max(0, round(seconds * 1000)))


def _callback(callback_id: str, flat: Sequence[str]) -> Callback:
    known = pairs(flat)
    return Callback(
        id=callback_id,
        project=known["project"],
        task_id=known["task"],
        url=known["url"],
        body=known["body"].encode(),
        tries=int(known["tries"]),
        created=int(known["created"]) / 1000,
        token=known["token"],
        error=known["error"],
    )
