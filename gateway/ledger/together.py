"""Together: scripts that are asked for while others are under way go to the store next, in one write.

A store that writes to disk before it replies does so once for all of them. Scripts that do many at once, holds and
settlements, go in one call, which reads and writes the balances once; it does all of them in their order, or none. What
becomes of one is no matter to the others: one whose reply is an error, or whose connection broke, is run again by
itself, with every rule that `Store.run` has for that. Two that touch one request, or one binding, never go in one call.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

from gateway.ledger.running import Running
from gateway.ledger.script import Script
from gateway.ledger.store import Store
from gateway.ports import LedgerUnavailable

MOST_AT_ONCE = 32
MOST_BYTES = 96 * 1024
"""No reply leaves the store before all of them were run, which must not be taken for its silence."""


class Call:
    """A script that was asked for, and its reply, or the error that it is; `over` if none will come."""

    __slots__ = ("alone", "args", "keys", "over", "reply", "script", "unheard")

    def __init__(
        self, script: Script, keys: Sequence[str], args: Sequence[str], reply: asyncio.Future[Any], *, alone: bool
    ) -> None:
        self.script = script
        self.keys = keys
        self.args = args
        self.reply = reply
        self.alone = alone
        self.over = False
        self.unheard: Any = None

    def late(self) -> asyncio.Future[Any]:
        """Return the reply for somebody else, where the one who waited for it has left."""
        if self.reply.cancelled():
            self.reply = self.reply.get_loop().create_future()
            if self.unheard is not None:
                self.reply.set_result(self.unheard)
        return self.reply


class Together:
    """Runs scripts of one realm that may be repeated. Whoever stops waiting leaves those that went with it alone."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: deque[Call] = deque()
        self._sending: asyncio.Task[None] | None = None
        self._running = Running()

    async def run(
        self, script: Script, keys: Sequence[str], args: Sequence[str], *, to_end: bool = False, alone: bool = False
    ) -> Any:
        """Run a script with those that wait already, or come before it is sent; raises LedgerUnavailable.

        It is sent though whoever waits leaves; and if that comes to nothing it is run again, where it must go `to_end`.
        Of a script that does many at once this is one, which may have to go in a call `alone`.
        """
        loop = asyncio.get_running_loop()
        call = Call(script, keys, args, loop.create_future(), alone=alone or script.shares is None)
        self._waiting.append(call)
        if self._sending is None:
            self._sending = loop.create_task(self._send())
        try:
            reply = await call.reply
            if isinstance(reply, Exception):  # nothing was done, or nobody knows: by itself it is tried again
                reply = await self._store.run(script, keys, args, repeatable=True)
                if script.shares is not None:
                    reply = reply[0], reply[1][0]
        except asyncio.CancelledError:
            if to_end and not call.over:
                _ = self._running.start(self._go_on(call.late(), script, keys, args))
            raise
        return reply

    async def _go_on(self, late: asyncio.Future[Any], script: Script, keys: Sequence[str], args: Sequence[str]) -> None:
        """See a call to its end that nobody waits for."""
        if isinstance(await late, Exception):
            await self._store.run(script, keys, args, repeatable=True)

    async def wait(self) -> None:
        """Return once all that was asked for has been told the store, or could not be."""
        while self._sending is not None:
            await asyncio.wait([self._sending])
        await self._running.wait()

    async def _send(self) -> None:
        """Send what waits until nothing does."""
        batch: list[Call] = []
        try:
            while self._waiting:
                batch = self._next()
                groups = _grouped(batch)
                try:
                    replies = await self._store.execute_all([_words(group) for group in groups])
                except LedgerUnavailable as error:
                    _fail(batch, error)
                    continue
                except ValueError as error:  # something is no text; each runs by itself, and meets its own
                    replies = [error] * len(groups)
                for group, reply in zip(groups, replies, strict=True):
                    _tell(group, reply)
        finally:
            self._sending = None
            for call in (*batch, *self._waiting):  # none, unless this was cancelled
                call.over = True
                call.reply.cancel()
            self._waiting.clear()

    def _next(self) -> list[Call]:
        """Return those that go together, at least one."""
        waiting = self._waiting
        batch, size = [waiting.popleft()], 0
        while waiting and len(batch) < MOST_AT_ONCE:
            size += len("".join(batch[-1].args))
            if size > MOST_BYTES:
                break
            batch.append(waiting.popleft())
        return batch


def _grouped(batch: Sequence[Call]) -> list[list[Call]]:
    """Return the calls by the script call in which they go; what touches the same request keeps its order."""
    groups: list[list[Call]] = []
    joined: dict[str, tuple[list[Call], tuple[Sequence[str], Sequence[str]]]] = {}
    touched: set[str] = set()
    for call in batch:
        shares = call.script.shares
        own = call.keys if shares is None else call.keys[shares[0] :]
        if not touched.isdisjoint(own):
            joined.clear()
        touched.update(own)
        if call.alone or shares is None:
            groups.append([call])
            continue
        common = call.keys[: shares[0]], call.args[2 : shares[1]]  # the second argument is the operation's number
        group, told = joined.get(call.script.sha, ([], common))
        if not group or told != common:
            group = []
            groups.append(group)
            joined[call.script.sha] = group, common
        group.append(call)
    return groups


def _words(group: Sequence[Call]) -> Sequence[str | int]:
    """Return the command for calls that go in one; its number is that of the last of them."""
    script, last = group[0].script, group[-1]
    if len(group) == 1 or script.shares is None:
        return ("EVALSHA", script.sha, len(last.keys), *last.keys, *last.args)
    shared, told = script.shares
    keys, args = [*last.keys[:shared]], [*last.args[:told]]
    for call in group:
        keys += call.keys[shared:]
        args += call.args[told:]
    return ("EVALSHA", script.sha, len(keys), *keys, *args)


def _tell(group: Sequence[Call], reply: Any) -> None:
    """Give each call its part of the reply, or all of them the error that it is."""
    for at, call in enumerate(group):
        own = reply
        if call.script.shares is not None and not isinstance(reply, Exception):
            own = reply[0], reply[1][at]
        if call.reply.done():
            call.unheard = own
        else:
            call.reply.set_result(own)


def _fail(batch: Sequence[Call], error: LedgerUnavailable) -> None:
    for call in batch:
        if call.reply.done():
            call.unheard = error
        else:
            told = LedgerUnavailable(str(error))  # one of its own for each, since tracebacks are added to it
            told.__cause__ = error
            call.reply.set_exception(told)
