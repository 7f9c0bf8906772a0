"""Batches script calls: those requested while a call is in flight are sent together in the next write.

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

from gateway.ledger.errors import LedgerRefused
from gateway.ledger.operation_counter import OperationCounter
from gateway.ledger.script import Script
from gateway.ledger.shielded_tasks import ShieldedTasks
from gateway.ledger.store import Store
from gateway.ports import LedgerUnavailable, Meanwhile

MOST_AT_ONCE = 32
MOST_BYTES = 96 * 1024
"""No reply leaves the store before all of them were run, which must not be taken for its silence."""


class SharedArguments:
    """What the calls of a script that does many at once have in common: the keys and arguments before those of each.

    Calls that have this very object may go in one script call. Its reply is lines of text: how far this instance's
    operations got, then what each gets.
    """

    __slots__ = ("args", "keys", "script")

    def __init__(self, script: Script, keys: tuple[str, ...], args: tuple[str, ...]) -> None:
        self.script = script
        self.keys = keys
        self.args = args


What = Script | SharedArguments
"""A script that is asked for, or one with what it is always asked with."""


class ScriptCall:
    """A script that was asked for with keys and arguments of its own, and its reply, or the error that it is.

    Of a script that does many at once it is one, which may have to go in a call `alone`. `meanwhile` is
    called once it was written to the store; not if it is run by itself.
    """

    __slots__ = ("alone", "args", "keys", "meanwhile", "reply", "unheard", "what")

    def __init__(
        self,
        what: What,
        keys: Sequence[str],
        args: Sequence[str],
        alone: bool = False,
        meanwhile: Meanwhile = None,
    ) -> None:
        self.what = what
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


class ScriptBatcher:
    """Batches the repeatable scripts of one realm. A caller that stops waiting does not affect the others in its batch.

    A call that was `put` has its reply at `reply`, or raises LedgerUnavailable; a reply that is an error means that
    nothing was done, or nobody knows, and that it is to be run `by_itself`.
    """

    def __init__(self, store: Store, counter: OperationCounter) -> None:
        self._store = store
        self._counter = counter
        self._waiting: deque[ScriptCall] = deque()
        self._asked: list[list[ScriptCall]] = []
        self._numbers: list[int] = []
        self._done = 0  # how many operations were, when these were asked for
        self._asking = False
        self._at_rest: asyncio.Future[None] | None = None
        self._shielded = ShieldedTasks()

    def put(self, call: ScriptCall) -> None:
        """Send it with those that wait already, or come before it is sent, though whoever waits for it leaves."""
        self._waiting.append(call)
        if not self._asking:
            self._asking = True
            call.reply.get_loop().call_soon(self._ask)

    async def by_itself(self, call: ScriptCall) -> Any:
        """Run one, which may have gone with others before, and return its reply; raises LedgerUnavailable."""
        counter, what = self._counter, call.what
        number, done = counter.next(), counter.done
        script, keys, args = _whole(what, counter, number)
        reply = await self._store.run(script, (*keys, *call.keys), (*args, *call.args), repeatable=True)
        before, [own] = _parts(what, reply, 1)
        counter.did(number, done, before)
        return own

    def to_end(self, call: ScriptCall) -> None:
        """Let a call that nobody waits for any more be run again if it comes to nothing."""
        _ = self._shielded.start(self._go_on(call, call.late()))

    async def _go_on(self, call: ScriptCall, late: asyncio.Future[Any]) -> None:
        if isinstance(await late, Exception):
            await self.by_itself(call)

    async def wait(self) -> None:
        """Return once all that was asked for has been told the store, or could not be."""
        while self._asking:
            if self._at_rest is None:
                self._at_rest = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._at_rest])
        await self._shielded.wait()

    def _ask(self) -> None:
        """Send the next of those that wait."""
        groups = self._asked = _grouped(self._next()) if len(self._waiting) > 1 else [[self._waiting.popleft()]]
        counter, loop = self._counter, groups[0][0].reply.get_loop()
        numbers = self._numbers = [counter.next() for _ in groups]
        self._done = counter.done
        try:
            words = [_words(group, counter, number) for group, number in zip(groups, numbers, strict=True)]
            self._store.ask(words, self._told)
        except (TypeError, ValueError) as error:  # something is no text; each runs by itself, and meets its own
            loop.call_soon(self._told, [error] * len(groups))
            return
        for group in groups:
            for call in group:
                if call.meanwhile is not None:
                    loop.call_soon(call.meanwhile)

    def _told(self, replies: list[Any] | LedgerUnavailable) -> None:
        """Hand over what the store said, after it has been given more to do."""
        groups, numbers, done = self._asked, self._numbers, self._done
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
        for group, number, reply in zip(groups, numbers, replies, strict=True):
            try:
                before, parts = _parts(group[0].what, reply, len(group))
            except LedgerRefused as error:
                _tell(group, [error] * len(group))
            else:
                _tell(group, parts)
                self._counter.did(number, done, before)

    def _next(self) -> list[ScriptCall]:
        """Return those that go together, at least one."""
        waiting, size = self._waiting, 0
        batch: list[ScriptCall] = []
        for _ in range(min(len(waiting), MOST_AT_ONCE)):
            if size > MOST_BYTES:
                break
            call = waiting.popleft()
            batch.append(call)
            size += len("".join(call.args))
        return batch


def _grouped(batch: Sequence[ScriptCall]) -> list[list[ScriptCall]]:
    """Return the calls by the script call in which they go; what touches the same request keeps its order."""
    groups: list[list[ScriptCall]] = []
    joined: dict[What, list[ScriptCall]] = {}
    touched: set[str] = set()
    for call in batch:
        what, own = call.what, call.keys
        if not touched.isdisjoint(own):
            joined.clear()
        touched.update(own)
        if call.alone or isinstance(what, Script):
            groups.append([call])
        elif (group := joined.get(what)) is not None:
            group.append(call)
        else:
            groups.append(group := [call])
            joined[what] = group
    return groups


def _whole(what: What, counter: OperationCounter, number: int) -> tuple[Script, list[str], list[str]]:
    """Return the script, and the keys and arguments that come before those of each call."""
    keys, args = [counter.key], [counter.instance, str(number)]
    if isinstance(what, Script):
        return what, keys, args
    keys += what.keys
    args += what.args
    return what.script, keys, args


def _words(group: Sequence[ScriptCall], counter: OperationCounter, number: int) -> list[str]:
    """Return the command for calls that go in one."""
    script, keys, args = _whole(group[0].what, counter, number)
    for call in group:
        keys += call.keys
        args += call.args
    return ["EVALSHA", script.sha, str(len(keys)), *keys, *args]


def _parts(what: What, reply: Any, count: int) -> tuple[int, Sequence[Any]]:
    """Return how far this instance's operations got, and what each call gets; LedgerRefused if it is no reply."""
    try:
        before, *parts = reply if isinstance(what, Script) else reply.split("\n")
        if len(parts) == count:
            return int(before), parts
    except (AttributeError, TypeError, ValueError) as error:
        raise LedgerRefused(f"the store's reply is none to what was asked: {reply!r:.200}") from error
    raise LedgerRefused(f"the store's reply is none to what was asked: {reply!r:.200}")


def _tell(group: Sequence[ScriptCall], parts: Sequence[Any]) -> None:
    """Give each call its part of the reply, or the error."""
    for call, part in zip(group, parts, strict=True):
        if call.reply.done():
            call.unheard = part
        else:
            call.reply.set_result(part)


def _fail(groups: Sequence[Sequence[ScriptCall]], error: LedgerUnavailable) -> None:
    for call in chain.from_iterable(groups):
        if call.reply.done():
            call.unheard = error
        else:
            told = LedgerUnavailable(str(error))  # one of its own for each, since tracebacks are added to it
            told.__cause__ = error
            call.reply.set_exception(told)
