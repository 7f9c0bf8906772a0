"""The ledger in Redis: each operation is one script, one round trip, all or nothing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

from gateway.domain.budget import Budget, Candidate, Denied, Held, Quota
from gateway.domain.idempotency import Binding, Bound
from gateway.domain.settlement import PRESUMED, Adjustment, Posting, Settlement, SettleResult
from gateway.domain.task import TaskStatus, task_of
from gateway.ledger import calls, script, wire
from gateway.ledger.calls import Calls
from gateway.ledger.errors import LedgerRefused, StoreError
from gateway.ledger.hold_candidates import FirstChoiceStats
from gateway.ledger.leases import REMEMBERED_SECONDS, Leases
from gateway.ledger.names import Names
from gateway.ledger.orphans import Orphans
from gateway.ledger.own_holds import Ending, HoldRecord, OwnHolds
from gateway.ledger.resync import BINDING_SECONDS, Resync
from gateway.ledger.script_batching import SharedArguments, What
from gateway.ledger.server_check import told_rights
from gateway.ledger.store import Store
from gateway.ledger.wire import Balance
from gateway.observe.event import HoldEnded, Observer
from gateway.ports import LedgerUnavailable, Meanwhile

log = logging.getLogger(__name__)

SCHEMA = "1"
_REMEMBERED = str(REMEMBERED_SECONDS)
_LOST = ("NOLEDGER", "EPOCH")  # what the scripts say of a store that was emptied or replaced

operation_token = calls.token

Words = tuple[str, ...]
_RESULTS = {result.upper(): result for result in SettleResult}
_UNDER_WAY = (TaskStatus.PENDING, TaskStatus.PROCESSING)


class RedisLedger:
    """Implements `ports.Ledger`. `lease` is seconds.

    Operations on money run to their end even if whoever asked is cancelled meanwhile. A hold whose answer never
    arrived is given back by `run`, which also renews the leases of this instance's holds and ends lapsed ones;
    `on_expired` hears of each that is now presumed spent; `on_opened`, in a thread, of the ledger's identity before any
    hold in it. A store that came back older is told again what this instance knows; until then nothing new is held.
    """

    def __init__(
        self,
        store: Store,
        realm: str = "main",
        *,
        lease: float = 30.0,
        observer: Observer | None = None,
        on_expired: Callable[[HoldEnded], None] | None = None,
        on_opened: Callable[[str], None] | None = None,
    ) -> None:
        self._names = names = Names(realm)
        self._on_opened = on_opened
        self._holding: SharedArguments | None = None  # its first argument is the epoch, once that is known
        self._ending = SharedArguments(script.SETTLE, (names.balances, names.due, names.entries), (_REMEMBERED,))
        self._holds, self._first_choices = OwnHolds(), FirstChoiceStats()
        self.record_of, self.newest = self._holds.find, self._holds.newest
        """Tell what it takes to put back a hold that has not ended here, and the highest attempt taken here lately."""
        self._calls = Calls(store, names, observer, self._may_be_older)
        self._orphans = Orphans(self._calls, names)
        self._lease, again = str(round(lease * 1000)), partial(self.open, create=False)
        self._resync = Resync(self._calls, names, self._holds, lease=self._lease, open_again=again)
        self._leases = Leases(self._calls, names, self._holds, lease=lease, on_expired=on_expired)

    async def open(self, *, create: bool = True) -> str:
        """Learn the ledger's identity and return it; with `create` a new ledger gets one.

        StoreError if there is none, or if it was written by another version.
        """
        names, args = self._names, [operation_token() if create else "", SCHEMA]
        epoch, schema = await self._calls.write("read", script.OPEN, [names.meta], args)
        if not epoch:
            told = "it was emptied or replaced. `image-gateway ledger rebuild` brings it back from an export"
            raise StoreError(f"the store has no ledger any more: {told}, or accepts that its history is lost")
        if schema != SCHEMA:
            raise StoreError(f"the store's ledger has schema {schema}, not {SCHEMA}: run the version that wrote it")
        if self._on_opened is not None and (self._holding is None or self._holding.args[0] != epoch):
            await asyncio.to_thread(self._on_opened, str(epoch))
        keys = (names.meta, names.balances, names.due, names.entries)
        self._holding = SharedArguments(script.HOLD, keys, (str(epoch), _REMEMBERED, BINDING_SECONDS))
        return str(epoch)

    def _may_be_older(self, *, certainly: bool) -> None:
        if self._holding is not None:
            (self._resync.begin if certainly else self._resync.suspect)()

    async def choose_and_hold(
        self,
        request_id: str,
        candidates: Sequence[Candidate],
        *,
        about: Mapping[str, object],
        release: int | None = None,
        binding: Binding | None = None,
        allowance: int | None = None,  # noqa: ARG002 - what may be held without the store is `offline`'s business
        ahead: float | None = None,
        only_if_held: bool = False,
        token: str | None = None,
        meanwhile: Meanwhile = None,
    ) -> Held | Denied | Bound:
        """Hold on the first candidate that every line allows; see `ports.Ledger`. ValueError for malformed amounts.

        One that is held `ahead` is not sent yet and lapses to nothing. The same `token` again returns the hold made
        before. Where the answer is lost the hold is given back as soon as the store answers again.
        """
        if request_id in self._leases.dropped:  # what nobody heard of must not stand in the way of the next try
            await self._leases.give_back(request_id)
        token, state = token or operation_token(), "sent" if ahead is None else "queued"
        lease = self._lease if ahead is None else str(round(ahead * 1000))
        told, bound = wire.about_json(about), () if binding is None else (await self._orphans.key(binding),)
        keys = (self._names.request(request_id), *bound)
        terms = wire.hold_terms(state, lease, self._holds.newest.get(request_id, 0), release, binding)
        asked, alone = (token, request_id, terms, told), release is not None
        hold = partial(self._hold, keys, asked, alone, [meanwhile])
        try:
            reply = await self._first_choices.ask(candidates, hold, only_if_held=only_if_held)
        except (asyncio.CancelledError, LedgerUnavailable):
            self._leases.drop(token, request_id)
            raise
        if self._resync.needed:  # it was judged by balances that lack what the store has lost
            self._leases.drop(token, request_id)
            raise LedgerUnavailable(self._resync.reason)
        if reply[0] == "DROPPED":
            raise LedgerUnavailable("the hold was given up before it was made")
        if reply[0] == "BOUND":
            return Bound(reply[1], same=reply[2] == "1")
        answer = wire.hold_reply(reply, candidates)
        if release is not None and (isinstance(answer, Held) or not only_if_held):
            self._released(request_id, release, ahead=only_if_held)
        if isinstance(answer, Held) and ahead is None:  # one that is held ahead is nobody's to renew
            taken, (at, promised) = wire.candidate_arg(candidates[answer.index]), map(int, reply[3:5])
            known = (request_id, answer.attempt, token, state, at, told, taken, answer.index + 1, binding, promised)
            self._holds.add(HoldRecord(*known))
        return answer

    async def _hold(  # noqa: PLR0917 - by place, for which Python takes half the time
        self, keys: Words, asked: Words, alone: bool, aside: list[Meanwhile], offered: str, only_if_held: str
    ) -> Any:
        if self._resync.needed:
            raise LedgerUnavailable(self._resync.reason)
        shared, former, (token, request_id, terms, told) = self._holding or await self._known(), "", asked
        what = SharedArguments(script.HOLD_IN_PLACE, shared.keys, shared.args) if alone else shared
        while True:
            args = (token, request_id, f"{terms},{only_if_held},{former}", told, offered)
            try:
                meanwhile = aside.pop() if aside else None  # once, however often it asks
                reply = (await self._calls.write("hold", what, keys, args, alone=alone, meanwhile=meanwhile)).split()
            except LedgerRefused as error:
                if any(word in str(error) for word in _LOST):
                    self._resync.begin()
                    raise LedgerUnavailable(str(error)) from error  # as all who come until it is told again
                raise
            if reply[0] != "BOUND" or reply[1] == former or not await self._came_to_nothing(reply[1]):
                return reply
            former = reply[1]

    async def _known(self) -> SharedArguments:
        try:
            if self._holding is None:
                await self.open()
        except StoreError as error:
            raise LedgerRefused(str(error)) from error
        assert self._holding is not None
        return self._holding

    async def _came_to_nothing(self, request_id: str) -> bool:
        try:
            if await self._calls.execute("HGET", self._names.task_prefix + task_of(request_id), "status") in _UNDER_WAY:
                return False  # its task rests between two tries, with nothing held
            return wire.only_voids(await self._calls.execute("HGETALL", self._names.request(request_id)))
        except LedgerUnavailable:
            return False  # a claim was noted, so no error: whoever has it waits, or leaves the other behind again

    def _released(self, request_id: str, attempt: int, *, ahead: bool) -> None:
        record = self._holds.remove(request_id, attempt)
        if record is not None or ahead:  # a hold that was given back must not come back with an older store
            args = (operation_token(), request_id, str(attempt), "fallback", _REMEMBERED)
            self._holds.ended(Ending(request_id, attempt, "void", script.VOID, self._keys(request_id), args, None))

    async def orphan(self, name: str, request_id: str) -> None:
        """Let a retry with a claim of this name take the request over; see `ports.Ledger`."""
        await self._orphans.note(name, request_id)

    def settle(
        self, settlement: Settlement, *, token: str | None = None, meanwhile: Meanwhile = None
    ) -> Coroutine[Any, Any, SettleResult]:
        """End a hold at its cost; see `ports.Settlements`. The same `token` again returns the same result."""
        request_id = settlement.request_id
        args = (token or operation_token(), request_id, *wire.settlement_args(settlement))
        hold = request_id, settlement.attempt, settlement.source is PRESUMED
        return self._end(hold, self._ending, (self._names.request(request_id),), args, meanwhile)

    async def void(self, request_id: str, attempt: int, reason: str, *, token: str | None = None) -> SettleResult:
        """End a hold for nothing; see `ports.Settlements`. The same `token` again returns the same result."""
        args = (token or operation_token(), request_id, str(attempt), reason, _REMEMBERED)
        return await self._end((request_id, attempt, False), script.VOID, self._keys(request_id), args)

    async def _end(
        self, hold: tuple[str, int, bool], what: What, keys: Words, args: Words, meanwhile: Meanwhile = None
    ) -> SettleResult:
        (request_id, attempt, presumed), operation = hold, "settle" if what is self._ending else "void"
        record = self._holds.find(request_id, attempt)
        result = await self._calls.write(operation, what, keys, args, to_end=True, meanwhile=meanwhile)
        if result == "GONE" and record is not None:
            await self.put_back(record)
            result = await self._finish(operation, what, keys, args)
        self._holds.remove(request_id, attempt)
        if result != "GONE" and (record is not None or result != "SAME"):  # whoever ended it before tells it again
            kept = record if what is self._ending else None
            self._holds.ended(Ending(request_id, attempt, operation, what, keys, args, kept, presumed))
        elif result == "GONE" and what is self._ending:
            fields = {"request_id": request_id, "attempt": attempt}
            log.error("a settlement found no hold: the cost is not in the ledger", extra={"fields": fields})
        return _RESULTS[result]

    async def put_back(self, record: HoldRecord) -> None:
        """Tell the store of a hold that it lost or never had, without asking any limit; LedgerUnavailable.

        An earlier one of the request whose answer was lost is given back first: only its newest can be found.
        """
        await self._leases.give_back(record.request_id)
        await self._resync.reassert(record, (await self._known()).args[0])
        if self._holds.find(record.request_id, record.attempt):  # a renewal may have found it missing, and given it up
            self._holds.add(record)

    def restore(self, record: HoldRecord) -> None:
        """Take over a hold that is known from a journal, as if it had been taken here."""
        self._holds.add(record)

    async def adjust(self, adjustment: Adjustment) -> SettleResult:
        """Book what an attempt has cost in truth, once; GONE if it is not known. LedgerRefused while it still runs."""
        request_id = adjustment.request_id
        keys = [*self._keys(request_id), self._names.adjustments]
        args = [adjustment.id, request_id, str(adjustment.attempt), *wire.cost_args(adjustment.cost).split(",")]
        result = await self._finish("settle", script.ADJUST, keys, [*args, adjustment.reason, _REMEMBERED])
        if result == "LIVE":
            raise LedgerRefused(f"request {request_id} is still running; its hold has not ended")
        return SettleResult(result.lower())

    async def post(self, posting: Posting) -> SettleResult:
        """Book an amount that belongs to no known request, once."""
        keys = [self._names.balances, self._names.entries, self._names.adjustments]
        return SettleResult((await self._finish("settle", script.POST, keys, wire.posting_args(posting))).lower())

    async def request(self, request_id: str) -> dict[str, Any] | None:
        """Return what is known of a request; see `wire.request_record`. None too for an id that cannot be one."""
        try:
            key = self._names.request(request_id)
        except ValueError:
            return None
        return wire.request_record(request_id, await self._calls.execute("HGETALL", key))

    async def balances(self, rules: Sequence[Budget | Quota]) -> list[Balance]:
        """Return where each rule stands now, in one round trip."""
        if not rules:
            return []
        lines = wire.to_json([wire.line_args(rule, 0) for rule in rules])
        return wire.balances_reply(await self._calls.read(script.BALANCES, [self._names.balances], [lines]))

    async def ping(self) -> None:
        """Return if the store takes what is written and nothing is left to be healed; raises LedgerUnavailable."""
        lacking = await self._calls.read(script.MAY_WRITE, [], [self._names.meta])
        if lacking:
            raise LedgerRefused(told_rights(lacking, self._names.meta))
        if self._resync.needed:
            raise LedgerUnavailable(self._resync.reason)

    async def run(self) -> None:
        """Keep this instance's holds alive and end lapsed ones of any instance, until cancelled."""
        await self._leases.run()

    async def aclose(self) -> None:
        """Wait for operations under way, and give back what nobody waited for; the store is the caller's."""
        await self._resync.aclose()
        await self._calls.wait()
        with contextlib.suppress(LedgerUnavailable):  # then they lapse
            await self._leases.give_back()

    def _keys(self, request_id: str) -> tuple[str, ...]:
        names = self._names
        return names.balances, names.request(request_id), names.due, names.entries

    async def _finish(self, operation: str, what: What, keys: Sequence[str], args: Sequence[str]) -> str:
        return str(await self._calls.write(operation, what, keys, args, to_end=True))
