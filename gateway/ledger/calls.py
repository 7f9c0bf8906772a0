"""Calls: every script the ledger runs, timed, and counted where it writes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any

from gateway.domain.random_names import random_names
from gateway.ledger.errors import LedgerRefused
from gateway.ledger.names import Names
from gateway.ledger.operation_counter import OnDoubt, OperationCounter
from gateway.ledger.script import Script
from gateway.ledger.script_batching import ScriptBatcher, ScriptCall, What
from gateway.ledger.store import Store
from gateway.observe.event import LedgerCalled, LedgerFailed, Observer, taker_of
from gateway.ports import LedgerUnavailable, Meanwhile

log = logging.getLogger(__name__)

_TOGETHER = frozenset({"hold", "settle", "void"})
"""Operations that every request needs; what is done in the background has no hurry, and may be large."""

_BOOKS = "the books do not add up, and this is refused until they do; look with `image-gateway ledger verify`"
_RIGHTS = "the store's user lacks a right, and this is refused until it has it again"
_GRAVE = {"less is ": _BOOKS, "NOPERM": _RIGHTS, "can't run this command": _RIGHTS, "has no permissions": _RIGHTS}
"""What is to be said as an error, by words of the refusal."""


def _nothing_to_tell(*, certainly: bool) -> None:
    """Leave it at that."""


token = random_names(12)
"""Returns a name that nothing else has, for one operation or one instance."""


class Calls:
    """Runs scripts for one instance; `on_doubt` is that of its `OperationCounter`."""

    def __init__(
        self, store: Store, names: Names, observer: Observer | None, on_doubt: OnDoubt = _nothing_to_tell
    ) -> None:
        self._store = store
        self._counter = OperationCounter(names.instances, token(), store.losses, on_doubt)
        self._batcher = ScriptBatcher(store, self._counter)
        self._observer = observer
        self._answered = taker_of(observer, LedgerCalled) if observer is not None else None
        self._said: set[str] = set()

    async def write(
        self,
        operation: str,
        what: What,
        keys: Sequence[str],
        args: Sequence[str],
        *,
        to_end: bool = False,
        alone: bool = False,
        meanwhile: Meanwhile = None,
    ) -> Any:
        """Run a script that notes this instance's operations; raises LedgerUnavailable.

        Though whoever waits leaves it is done, surely if it must go `to_end`; `alone` and `meanwhile` are those of a
        `ScriptCall`.
        """
        call, together = ScriptCall(what, keys, args, alone, meanwhile), operation in _TOGETHER
        began = time.monotonic()
        try:
            if together:
                self._batcher.put(call)
                reply = await call.reply
                if isinstance(reply, Exception):
                    reply = await self._batcher.by_itself(call)
            else:
                reply = await self._batcher.by_itself(call)
        except asyncio.CancelledError:
            if to_end and together:
                self._batcher.to_end(call)
            raise
        except Exception as error:
            self._failed(operation, began, error)
            raise
        if self._answered is not None:
            self._answered(LedgerCalled(operation, time.monotonic() - began))
        return reply

    async def wait(self) -> None:
        """Return once what goes together has been told the store, or could not be."""
        await self._batcher.wait()

    async def read(self, what: Script, keys: Sequence[str], args: Sequence[str]) -> Any:
        """Run a script that writes nothing; raises LedgerUnavailable."""
        return await self._timed("read", self._store.run(what, keys, args, repeatable=True))

    async def run(self, operation: str, what: Script, keys: Sequence[str], args: Sequence[str]) -> Any:
        """Run a script that writes what nobody could tell the store again; raises LedgerUnavailable."""
        return await self._timed(operation, self._store.run(what, keys, args, repeatable=True))

    async def strike_off(self, operation: str, gone: Iterable[tuple[Script, str, str, str]]) -> None:
        """Take members off what names them where their records are surely gone: how, record, list and member of each.

        It ends with the first that the store refuses, as while a cluster moves the two: whoever waits here has other
        things to do, and what is left is to be asked again later.
        """
        for how, record, members, member in gone:
            try:
                await self.run(operation, how, [record, members], [member])
            except LedgerUnavailable:
                return

    async def execute(self, *command: str | int) -> Any:
        """Send one command that writes nothing; raises LedgerUnavailable."""
        return await self._timed("read", self._store.execute(*command, repeatable=True))

    def start_over(self) -> None:
        """Forget how far the operations got: the store is known to be another one, or older."""
        self._counter.done = 0

    async def _timed(self, operation: str, call: Coroutine[Any, Any, Any]) -> Any:
        began = time.monotonic()
        try:
            reply = await call
        except Exception as error:  # who leaves is no failure of the store
            self._failed(operation, began, error)
            raise
        if self._answered is not None:
            self._answered(LedgerCalled(operation, time.monotonic() - began))
        return reply

    def _failed(self, operation: str, began: float, error: Exception) -> None:
        refused, text = isinstance(error, LedgerRefused), str(error)
        for said in {said for words, said in _GRAVE.items() if refused and words in text} - self._said:
            self._said.add(said)  # once, for it is tried again and again
            log.error("%s: %s", said, text)
        if self._observer is not None:
            self._observer.emit(LedgerFailed(operation, time.monotonic() - began, refused))
