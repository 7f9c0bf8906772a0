"""Together: scripts that are asked for while others are under way go to the store next, in one write.

A store that writes to disk before it replies does so once for all of them. Each script is as atomic as if it had gone
alone, in the order in which they were asked for, and what becomes of one is no matter to the others: one whose reply
is an error, or whose connection broke, is run again by itself, with every rule that `Store.run` has for that.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

from gateway.domain.record import record
from gateway.ledger.script import Script
from gateway.ledger.store import Store
from gateway.ports import LedgerUnavailable

MOST_AT_ONCE = 32
MOST_BYTES = 64 * 1024
"""Of arguments. No reply leaves the store before all of them were run, which must not be taken for its silence."""


@record(frozen=True, slots=True)
class _Call:
    script: Script
    keys: Sequence[str]
    args: Sequence[str]
    reply: asyncio.Future[Any]

    def words(self) -> tuple[str | int, ...]:
        return ("EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.args)

    @property
    def size(self) -> int:
        return sum(map(len, self.args))


class Together:
    """Runs scripts of one realm that may be repeated. Whoever stops waiting leaves those that went with it alone."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: deque[_Call] = deque()
        self._sending: asyncio.Task[None] | None = None

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[str]) -> Any:
        """Run a script with those that wait already, or come before it is sent; raises LedgerUnavailable."""
        call = _Call(script, keys, args, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        if self._sending is None:
            self._sending = asyncio.create_task(self._send())
        reply = await call.reply
        if isinstance(reply, Exception):  # nothing was done, or nobody knows: by itself it is tried as often as it may
            return await self._store.run(script, keys, args, repeatable=True)
        return reply

    async def _send(self) -> None:
        """Send what waits until nothing does."""
        batch: list[_Call] = []
        try:
            while self._waiting:
                batch = self._next()
                try:
                    replies = await self._store.execute_all([call.words() for call in batch])
                except LedgerUnavailable as error:
                    _fail(batch, error)
                    continue
                except ValueError as error:  # something is no text; each runs by itself, and meets its own
                    replies = [error] * len(batch)
                for call, reply in zip(batch, replies, strict=True):
                    if not call.reply.done():
                        call.reply.set_result(reply)
        finally:
            self._sending = None
            for call in (*batch, *self._waiting):  # none, unless this was cancelled
                call.reply.cancel()
            self._waiting.clear()

    def _next(self) -> list[_Call]:
        """Return those that go together, at least one."""
        batch, size = [self._waiting.popleft()], 0
        while self._waiting and len(batch) < MOST_AT_ONCE:
            size += batch[-1].size
            if size + self._waiting[0].size > MOST_BYTES:
                break
            batch.append(self._waiting.popleft())
        return batch


def _fail(batch: Sequence[_Call], error: LedgerUnavailable) -> None:
    for call in batch:
        if not call.reply.done():
            told = LedgerUnavailable(str(error))  # one of its own for each, since tracebacks are added to it
            told.__cause__ = error
            call.reply.set_exception(told)
