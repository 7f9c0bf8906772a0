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
from itertools import chain
from typing import Any

from gateway.ledger.running import Running
from gateway.ledger.script import Script
from gateway.ledger.store import Store
from gateway.ports import LedgerUnavailable, Meanwhile

MOST_AT_ONCE = 32
MOST_BYTES = 96 * 1024
"""No reply leaves the store before all of them were run, which must not be taken for its silence."""


class Call:
    """A script that was asked for, and its reply, or the error that it is.

    Of a script that does many at once it is one, which may have to go in a call `alone`. `meanwhile` is
    called once it was written to the store; not if it is run by itself.
    """

    __slots__ = ("alone", "args", "keys", "meanwhile", "reply", "script", "unheard")

    def __init__(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[str],
        *,
        alone: bool = False,
        meanwhile: Meanwhile = None,
    ) -> None:
        self.script = script
        self.keys = keys
        self.args = args
        self.reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.alone = alone
        self.meanwhile = meanwhile
        self.unheard: Any = None

    def late(self) -> asyncio.Future[Any]:
        """Return the reply for somebody else, where the one who waited for it has left."""
        if self.reply.cancelled():
            self.reply = self.reply.get_loop().create_future()
            if self.unheard is not None:
                self.reply.set_result(self.unheard)
        return self.reply


class Together:
    """Runs scripts of one realm that may be repeated. Whoever stops waiting leaves those that went with it alone.

    A call that was `put` has its reply at `reply`, or raises LedgerUnavailable; a reply that is an error means that
    nothing was done, or nobody knows, and that it is to be run `by_itself`.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: deque[Call] = deque()
        self._asked: list[list[Call]] = []
        self._asking = False
        self._at_rest: asyncio.Future[None] | None = None
        self._running = Running()

    def put(self, call: Call) -> None:
        """Send it with those that wait already, or come before it is sent, though whoever waits for it leaves."""
        self._waiting.append(call)
        if not self._asking:
            self._asking = True
            call.reply.get_loop().call_soon(self._ask)

    async def by_itself(self, call: Call) -> Any:
        """Run again what went with others, and return its reply; raises LedgerUnavailable."""
        reply = await self._store.run(call.script, call.keys, call.args, repeatable=True)
        return reply if call.script.shares is None else (reply[0], reply[1][0])

    def to_end(self, call: Call) -> None:
        """Let a call that nobody waits for any more be run again if it comes to nothing."""
        _ = self._running.start(self._go_on(call, call.late()))

    async def _go_on(self, call: Call, late: asyncio.Future[Any]) -> None:
        if isinstance(await late, Exception):
            await self.by_itself(call)

    async def wait(self) -> None:
        """Return once all that was asked for has been told the store, or could not be."""
        while self._asking:
            if self._at_rest is None:
                self._at_rest = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._at_rest])
        await self._running.wait()

    def _ask(self) -> None:
        """Send the next of those that wait."""
        groups = self._asked = _grouped(self._next()) if len(self._waiting) > 1 else [[self._waiting.popleft()]]
        loop = groups[0][0].reply.get_loop()
        try:
            self._store.ask([_words(group) for group in groups], self._told)
        except (TypeError, ValueError) as error:  # something is no text; each runs by itself, and meets its own
            loop.call_soon(self._told, [error] * len(groups))
            return
        for group in groups:
            for call in group:
                if call.meanwhile is not None:
                    loop.call_soon(call.meanwhile)

    def _told(self, replies: list[Any] | LedgerUnavailable) -> None:
        """Hand over what the store said, after it has been given more to do."""
        groups = self._asked
        if self._waiting:
            self._ask()
        else:
            self._asking = False
            if self._at_rest is not None:
                self._at_rest.set_result(None)
                self._at_rest = None
        if isinstance(replies, LedgerUnavailable):
            _fail(groups, replies)
            return
        for group, reply in zip(groups, replies, strict=True):
            _tell(group, reply)

    def _next(self) -> list[Call]:
        """Return those that go together, at least one."""
        waiting, size = self._waiting, 0
        batch: list[Call] = []
        for _ in range(min(len(waiting), MOST_AT_ONCE)):
            if size > MOST_BYTES:
                break
            call = waiting.popleft()
            batch.append(call)
            size += len("".join(call.args))
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
    shared = group[0].script.shares is not None and not isinstance(reply, Exception)
    for at, call in enumerate(group):
        own = (reply[0], reply[1][at]) if shared else reply
        if call.reply.done():
            call.unheard = own
        else:
            call.reply.set_result(own)


def _fail(groups: Sequence[Sequence[Call]], error: LedgerUnavailable) -> None:
    for call in chain.from_iterable(groups):
        if call.reply.done():
            call.unheard = error
        else:
            told = LedgerUnavailable(str(error))  # one of its own for each, since tracebacks are added to it
            told.__cause__ = error
            call.reply.set_exception(told)
