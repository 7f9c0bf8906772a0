"""The ledger in Redis: each operation is one script, one round trip, all or nothing."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from gateway.domain.budget import Budget, Candidate, Denied, Held, Quota
from gateway.domain.settlement import Settlement, SettleResult
from gateway.ledger import script, wire
from gateway.ledger.errors import LedgerRefused, StoreError
from gateway.ledger.leases import Leases
from gateway.ledger.names import Names
from gateway.ledger.script import Script
from gateway.ledger.store import Store
from gateway.ledger.wire import Balance
from gateway.observe.event import HoldEnded, LedgerCalled, Observer
from gateway.ports import LedgerUnavailable

log = logging.getLogger(__name__)

SCHEMA = "1"
DAY = 86_400


def operation_token() -> str:
    """Return a name for one operation, so that the store can tell a repeat of it from another one like it."""
    return secrets.token_urlsafe(12)


class RedisLedger:
    """Implements `ports.Ledger`. `lease` and `retention` (how long a finished request is remembered) are seconds.

    Operations on money run to their end even if whoever asked is cancelled meanwhile. A hold whose answer never
    arrived is given back by `run`, which also renews the leases of this instance's holds and ends lapsed ones;
    `on_expired` hears of each that is now presumed spent.
    """

    def __init__(
        self,
        store: Store,
        realm: str = "main",
        *,
        lease: float = 30.0,
        observer: Observer | None = None,
        retention: float = 30 * DAY,
        on_expired: Callable[[HoldEnded], None] | None = None,
    ) -> None:
        self._store = store
        self._names = names = Names(realm)
        self._observer = observer
        self._lease = str(round(lease * 1000))
        self._retention = str(round(retention))
        self._epoch: str | None = None
        self._running: set[asyncio.Task[Any]] = set()
        self._leases = Leases(self._call, names, lease=lease, retention=self._retention, on_expired=on_expired)

    async def open(self) -> None:
        """Learn the ledger's identity, giving it one if it is new; StoreError if it was written by another version."""
        keys = [self._names.meta]
        epoch, schema = await self._call("read", script.OPEN, keys, [operation_token(), SCHEMA])
        if schema != SCHEMA:
            raise StoreError(f"the ledger in the store has schema {schema}; this version reads schema {SCHEMA}")
        self._epoch = epoch

    async def choose_and_hold(
        self,
        request_id: str,
        candidates: Sequence[Candidate],
        *,
        about: Mapping[str, object],
        release: int | None = None,
        queued: bool = False,
        token: str | None = None,
    ) -> Held | Denied:
        """Hold on the first candidate that every line allows; see `ports.Ledger`. ValueError for malformed amounts.

        A `queued` hold is not sent yet and lapses to nothing. The same `token` again returns the hold made before.
        Where the answer is lost the hold is given back as soon as the store answers again.
        """
        token = token or operation_token()
        keys = self._keys(request_id)
        args = [token, request_id, "queued" if queued else "sent", self._lease, "" if release is None else str(release)]
        args += ["fallback", wire.to_json(dict(about)), wire.candidates_arg(candidates), self._retention]
        hold = self._spawn(self._hold(keys, args))
        try:
            reply = await asyncio.shield(hold)
        except (asyncio.CancelledError, LedgerUnavailable):
            self._leases.drop(token, request_id)
            raise
        if reply[0] == "DROPPED":
            raise LedgerUnavailable("the hold was given up before it was made")
        answer = wire.hold_reply(reply, candidates)
        if release is not None:
            self._leases.remove(request_id, release)
        if isinstance(answer, Held):
            self._leases.add(request_id, answer.attempt)
        return answer

    async def _hold(self, keys: Sequence[str], args: Sequence[str]) -> Any:
        if self._epoch is None:
            try:
                await self.open()
            except StoreError as error:
                raise LedgerRefused(str(error)) from error
        assert self._epoch is not None
        return await self._call("hold", script.HOLD, [self._names.meta, *keys], [self._epoch, *args])

    async def mark_sent(self, request_id: str, attempt: int) -> SettleResult:
        """Turn a queued hold into a sent one, just before the request leaves; GONE if it lapsed or ended."""
        keys, args = [self._names.request(request_id), self._names.due], [request_id, str(attempt), self._lease]
        return SettleResult((await self._finish("hold", script.MARK_SENT, keys, args)).lower())

    async def settle(self, settlement: Settlement, *, token: str | None = None) -> SettleResult:
        """End a hold at its cost; see `ports.Ledger`. The same `token` again returns the same result."""
        request_id, attempt = settlement.request_id, settlement.attempt
        args = [token or operation_token(), request_id, str(attempt), str(settlement.source)]
        args += [*wire.settlement_args(settlement), self._retention]
        result = await self._finish("settle", script.SETTLE, self._keys(request_id), args)
        self._leases.remove(request_id, attempt)
        if result == "GONE":
            fields = {"request_id": request_id, "attempt": attempt}
            log.error("a settlement found no hold: the cost is not in the ledger", extra={"fields": fields})
        return SettleResult(result.lower())

    async def void(self, request_id: str, attempt: int, reason: str, *, token: str | None = None) -> SettleResult:
        """End a hold for nothing; see `ports.Ledger`. The same `token` again returns the same result."""
        args = [token or operation_token(), request_id, str(attempt), reason, self._retention]
        result = await self._finish("void", script.VOID, self._keys(request_id), args)
        self._leases.remove(request_id, attempt)
        return SettleResult(result.lower())

    async def request(self, request_id: str) -> dict[str, object] | None:
        """Return what is known of a request; see `wire.request_record`. None too for an id that cannot be one."""
        try:
            key = self._names.request(request_id)
        except ValueError:
            return None
        return wire.request_record(request_id, await self._timed("read", self._store.execute("HGETALL", key)))

    async def balances(self, rules: Sequence[Budget | Quota]) -> list[Balance]:
        """Return where each rule stands now, in one round trip."""
        if not rules:
            return []
        lines = wire.to_json([wire.line_args(rule, 0) for rule in rules])
        return wire.balances_reply(await self._call("read", script.BALANCES, [self._names.balances], [lines]))

    async def ping(self) -> None:
        """Return if the store answers."""
        await self._timed("read", self._store.execute("PING"))

    async def run(self) -> None:
        """Keep this instance's holds alive and end lapsed ones of any instance, until cancelled."""
        await self._leases.run()

    async def aclose(self) -> None:
        """Wait for operations under way; the store is the caller's."""
        await asyncio.gather(*self._running, return_exceptions=True)

    def _keys(self, request_id: str) -> list[str]:
        names = self._names
        return [names.balances, names.request(request_id), names.due, names.entries]

    async def _finish(self, operation: str, what: Script, keys: Sequence[str], args: Sequence[str]) -> str:
        return str(await asyncio.shield(self._spawn(self._call(operation, what, keys, args))))

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked has it, unless it was cancelled

    async def _call(self, operation: str, what: Script, keys: Sequence[str], args: Sequence[str]) -> Any:
        return await self._timed(operation, self._store.run(what, keys, args, repeatable=True))

    async def _timed(self, operation: str, call: Coroutine[Any, Any, Any]) -> Any:
        began, failed = time.monotonic(), True
        try:
            reply = await call
            failed = False
            return reply
        finally:
            if self._observer is not None:
                self._observer.emit(LedgerCalled(operation, time.monotonic() - began, failed))
