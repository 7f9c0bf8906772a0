"""Calls: every script the ledger runs, timed, and watched for a store that came back older than it was.

Each operation that writes carries this instance's name and a number that counts up; the store keeps the highest number
of each instance, and answers with the one before. If that is lower than what this instance had seen done before it
asked, writes were lost: a replica that lagged behind took over, or an old copy was restored. No clock is involved, and
it does not matter what other instances have written since. Operations that overlap while the server changes can hide
a loss from each other's numbers, so a lost connection is itself a reason to look.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol

from gateway.domain.fresh import fresh_names
from gateway.ledger.names import Names
from gateway.ledger.script import Script
from gateway.ledger.store import Store
from gateway.ledger.together import Call, Together
from gateway.observe.event import LedgerCalled, LedgerFailed, Observer, taker_of
from gateway.ports import Meanwhile

_TOGETHER = frozenset({"hold", "settle", "void"})
"""Operations that every request needs; what is done in the background has no hurry, and may be large."""


token = fresh_names(12)
"""Returns a name that nothing else has, for one operation or one instance."""


class OnDoubt(Protocol):
    """Hears that the store is older than it was, or may be."""

    def __call__(self, *, certainly: bool) -> None:
        """Do something about it; return at once."""


class Calls:
    """Runs scripts for one instance.

    `on_doubt` is called when the store turns out to have lost what it had done (`certainly`), or when it answers after
    a connection was lost, and so may have.
    """

    def __init__(self, store: Store, names: Names, observer: Observer | None, on_doubt: OnDoubt) -> None:
        self._store = store
        self._together = Together(store)
        self._names = names
        self._observer = observer
        self._answered = taker_of(observer, LedgerCalled) if observer is not None else None
        self._on_doubt = on_doubt
        self._losses = store.losses
        self._lost = store.losses.count
        self._instance = token()
        self._number = 0
        self._done = 0

    async def write(
        self,
        operation: str,
        what: Script,
        keys: Sequence[str],
        args: Sequence[str],
        *,
        to_end: bool = False,
        alone: bool = False,
        meanwhile: Meanwhile = None,
    ) -> Any:
        """Run a script that notes this instance's operations; raises LedgerUnavailable.

        Though whoever waits leaves it is done, surely if it must go `to_end`; `alone` and `meanwhile` are those of a
        `Call`.
        """
        number, done = self._number + 1, self._done
        self._number = number
        call = Call(
            what, (self._names.instances, *keys), (self._instance, str(number), *args), alone=alone, meanwhile=meanwhile
        )
        began = time.monotonic()
        try:
            if operation in _TOGETHER:
                self._together.put(call)
                reply = await call.reply
                if isinstance(reply, Exception):
                    reply = await self._together.by_itself(call)
            else:
                reply = await self._store.run(what, call.keys, call.args, repeatable=True)
        except asyncio.CancelledError:
            if to_end and operation in _TOGETHER:
                self._together.to_end(call)
            raise
        except Exception:
            self._called(operation, began, failed=True)
            raise
        self._called(operation, began, failed=False)
        self._done = max(self._done, number)
        lost = self._losses.count
        if int(reply[0]) < done:
            self._on_doubt(certainly=True)
        elif lost != self._lost:
            self._on_doubt(certainly=False)
        self._lost = lost
        return reply[1]

    async def wait(self) -> None:
        """Return once what goes together has been told the store, or could not be."""
        await self._together.wait()

    async def read(self, what: Script, keys: Sequence[str], args: Sequence[str]) -> Any:
        """Run a script that writes nothing; raises LedgerUnavailable."""
        return await self._timed("read", self._store.run(what, keys, args, repeatable=True))

    async def run(self, operation: str, what: Script, keys: Sequence[str], args: Sequence[str]) -> Any:
        """Run a script that writes what nobody could tell the store again; raises LedgerUnavailable."""
        return await self._timed(operation, self._store.run(what, keys, args, repeatable=True))

    async def execute(self, *command: str | int) -> Any:
        """Send one command that writes nothing; raises LedgerUnavailable."""
        return await self._timed("read", self._store.execute(*command, repeatable=True))

    def start_over(self) -> None:
        """Forget how far the operations got: the store is known to be another one, or older."""
        self._done = 0

    async def _timed(self, operation: str, call: Coroutine[Any, Any, Any]) -> Any:
        began, failed = time.monotonic(), True
        try:
            reply = await call
            failed = False
            return reply
        finally:
            self._called(operation, began, failed=failed)

    def _called(self, operation: str, began: float, *, failed: bool) -> None:
        if failed:
            if self._observer is not None:
                self._observer.emit(LedgerFailed(operation, time.monotonic() - began))
        elif self._answered is not None:
            self._answered(LedgerCalled(operation, time.monotonic() - began))
