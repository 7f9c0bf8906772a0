"""Offline: what may be held while the store is away, where policy grants each instance an allowance.

No limit can be asked then, so a budget may be exceeded by the allowance, once per instance and outage. Nor can the use
of budgets be, so a cheaper picture is made only where those before it do not fit the allowance. Each hold is in the
journal before its call is sent, and the store is told of it as soon as it is back. What is given back counts no more
against the allowance, which is whole again once the store has answered whoever asks for a hold: it may take what was
held and yet admit nothing. A store that answers and refuses is not away, and nothing is held without it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.domain.budget import Candidate, Denied, Held, View
from gateway.domain.idempotency import Binding, Bound
from gateway.domain.money import micro_from_nano
from gateway.ledger import wire
from gateway.ledger.deferred import DeferredSettlements
from gateway.ledger.errors import LedgerRefused
from gateway.ledger.own_holds import HoldRecord
from gateway.ledger.redis_ledger import RedisLedger, operation_token
from gateway.ports import LedgerUnavailable, Meanwhile

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Taken:
    """A hold of this outage, told the store or not; `micro` is its worst case in the route view, micro-USD.

    One that is `given_back` counts no more, but the store may still have to be told of it.
    """

    project: str
    micro: int
    record: HoldRecord
    written: bool = False
    given_back: bool = False


class OfflineLedger:
    """Implements `ports.Ledger`: the ledger in the store, or while that is away the allowance of each project."""

    def __init__(self, ledger: RedisLedger, settlements: DeferredSettlements) -> None:
        self._ledger = ledger
        self._settlements = settlements
        settlements.on_void = self._give_back
        self._taken: dict[str, Taken] = {}
        self._log = OutageLog()

    def choose_and_hold(
        self,
        request_id: str,
        candidates: Sequence[Candidate],
        *,
        about: Mapping[str, object],
        release: int | None = None,
        binding: Binding | None = None,
        allowance: int | None = None,
        ahead: float | None = None,
        only_if_held: bool = False,
        meanwhile: Meanwhile = None,
    ) -> Coroutine[Any, Any, Held | Denied | Bound]:
        """Hold in the store, or on the allowance (micro-USD) while the store is away; see `ports.Ledger`.

        A request that is bound is never admitted on an allowance: nobody can tell then whether it was made before.
        Nor is one that is to wait: its queue is in the store.
        """
        asking = self._ledger.choose_and_hold(
            request_id,
            candidates,
            about=about,
            release=release,
            binding=binding,
            ahead=ahead,
            only_if_held=only_if_held,
            meanwhile=meanwhile,
        )
        if ahead is not None or (binding is not None and not binding.claim):
            allowance = None
        if not (allowance or self._taken or self._log.said):
            return asking  # nothing stands between whoever asks and the store
        return self._hold(asking, request_id, candidates, about=about, release=release, allowance=allowance or 0)

    async def _hold(
        self,
        asking: Coroutine[Any, Any, Held | Denied | Bound],
        request_id: str,
        candidates: Sequence[Candidate],
        *,
        about: Mapping[str, object],
        release: int | None,
        allowance: int,
    ) -> Held | Denied | Bound:
        try:
            if self._taken:
                await self._tell_of_earlier(request_id)
            answer = await asking
        except LedgerUnavailable as error:
            if not allowance or isinstance(error, LedgerRefused):
                raise
            project = str(about.get("project"))
            fits = self._first_that_fits(candidates, allowance - self._sum(project, but=f"{request_id}:{release}"))
            if fits is None:
                self._log.exhausted(project)
                raise
            index, micro = fits
            record = self._record(request_id, release, candidates[index], index, about)
            await self._take(Taken(project, micro, record), error)
            if release is not None:
                await self._settlements.void(request_id, release, "fallback")
            return Held(index, record.attempt, ())
        finally:
            asking.close()  # if it never began
        self._forget_told()  # the store holds: it counts there
        if self._log.said:
            self._log.over()
        return answer

    async def _tell_of_earlier(self, request_id: str) -> None:
        """The store numbers the attempts of a request, so it must know of those before."""
        for token, taken in list(self._taken.items()):
            if taken.record.request_id == request_id and not self._is_told(token, taken):
                await self._ledger.put_back(taken.record)

    def _is_told(self, token: str, taken: Taken) -> bool:
        return taken.written and not self._settlements.waits(token)

    def _forget_told(self, *, given_back: bool = False) -> None:
        """Forget what the store was told of, all of it or what was given back alone."""
        told = [token for token, taken in self._taken.items() if self._is_told(token, taken)]
        for token in told:
            if self._taken[token].given_back or not given_back:
                del self._taken[token]

    def _give_back(self, hold: str) -> None:
        for taken in self._taken.values():
            taken.given_back |= taken.record.member == hold

    def _sum(self, project: str, *, but: str) -> int:
        """What is taken of a project's allowance; what is given back, or about to be, is not."""
        self._forget_told(given_back=True)
        return sum(
            taken.micro
            for taken in self._taken.values()
            if taken.project == project and not taken.given_back and taken.record.member != but
        )

    def _first_that_fits(self, candidates: Sequence[Candidate], left: int) -> tuple[int, int] | None:
        """Return the index and worst case of the first candidate within what is left."""
        for index, each in enumerate(candidates):
            worst = each.facts.get("worst")
            if isinstance(worst, Mapping):
                micro = micro_from_nano(int(worst[View.ROUTE]))
                if micro <= left:
                    return index, micro
        return None

    def _record(
        self, request_id: str, release: int | None, candidate: Candidate, index: int, about: Mapping[str, object]
    ) -> HoldRecord:
        before = max(self._ledger.newest.get(request_id, 0), release or 0)
        return HoldRecord(
            request_id=request_id,
            attempt=before + 2,  # the store may have made the next one, although nobody heard of it
            token=operation_token(),
            state="sent",
            at=round(time.time() * 1000),
            about=wire.about_json(about),
            candidate=wire.candidate_arg(candidate),
            index=index + 1,
        )

    async def _take(self, taken: Taken, away: LedgerUnavailable) -> None:
        """Take it at once, so that nobody else can, and let it stand if it gets on disk."""
        token = taken.record.token
        self._taken[token] = taken
        try:
            taken.written = await self._settlements.hold(taken.record)
        finally:
            if not taken.written:
                del self._taken[token]
        if not taken.written:
            raise LedgerUnavailable("nothing can be held on the allowance without a journal on disk") from away
        self._log.begun(taken.project)

    async def orphan(self, name: str, request_id: str) -> None:
        """Let a retry with a claim of this name take the request over; see `ports.Ledger`."""
        await self._ledger.orphan(name, request_id)

    async def request(self, request_id: str) -> dict[str, Any] | None:
        """Return what is known of a request; see `ports.Ledger`. What the store was not told yet is not."""
        return await self._ledger.request(request_id)

    async def ping(self) -> None:
        """Return if the store answers, allowance or not: where another gateway is ready, that one is the better."""
        await self._ledger.ping()


class OutageLog:
    """Says once in each outage which projects spend their allowance, and which have none left."""

    def __init__(self) -> None:
        self.said: set[tuple[str, str]] = set()

    def begun(self, project: str) -> None:
        """A request was admitted on the allowance."""
        self._once("project %s holds on its allowance: the ledger is away, and its budgets cannot be asked", project)

    def exhausted(self, project: str) -> None:
        """A request was refused, for not enough is left."""
        self._once("the allowance of project %s does not cover what is asked for any more", project)

    def over(self) -> None:
        """The store answers."""
        self.said.clear()

    def _once(self, message: str, project: str) -> None:
        if (message, project) not in self.said:
            self.said.add((message, project))
            log.warning(message, project)
