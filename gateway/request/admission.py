"""Admission: takes the holds of one request, and waits for room on its routes where policy says so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.domain.budget import Denied, Held, Quota, Scope
from gateway.domain.denial import denial
from gateway.domain.errors import BudgetExceeded, ClientGone, GatewayError, InvalidRequest, RateLimited
from gateway.domain.idempotency import Bound
from gateway.domain.offer import Some, routes_of
from gateway.domain.policy import WhenFull
from gateway.domain.route import Quote, Route
from gateway.ports import Ledger, Meanwhile
from gateway.request.entitlement import Entitlement, Superseded
from gateway.request.exchange import Admitted
from gateway.request.wait_reason import WaitReason, soonest, waited_for
from gateway.request.waiting import Room, Turn, shutting_down
from gateway.routing.capacity import Capacity
from gateway.steps.reserve import AlreadyBound, Reserved, candidates

_REJECT: Final = WhenFull.REJECT
FOR_THE_ANSWER = 1.0
"""Seconds of the client's own patience that are left when waiting ends."""


A_REST = 10.0
"""Seconds that stand for the window of a limit of which only its reset is known."""


Leaving = Callable[[], Coroutine[None, None, None]]
"""Returns once the client is gone."""


@dataclass(frozen=True, slots=True)
class AdmissionState:
    """What the admissions of a process share: who waits, and what is known of the providers' limits."""

    room: Room = field(default_factory=Room)
    capacity: Capacity = field(default_factory=Capacity)

    def adopt(self, before: Mapping[str, Route], after: Mapping[str, Route]) -> None:
        """Take over another policy, whose routes are these: whoever waits is decided anew."""
        self.capacity.adopt(before, after)
        self.room.changed()


class Admission:
    """Admits the requests of a process, call by call; one may wait for its first call alone.

    After a call that failed it does not: it has a token of a retry budget reserved, which others may need meanwhile.
    So the `attempts` of its exchange count the call that a hold is for.
    `entitlement` is asked each time that waiting has come to something.
    """

    def __init__(self, ledger: Ledger, admissions: AdmissionState, entitlement: Entitlement) -> None:
        self._ledger = ledger
        self._capacity = admissions.capacity
        self.entitlement = entitlement
        self._room = admissions.room

    def reserve(
        self,
        admitted: Admitted,
        quotes: Sequence[Quote],
        release: Reserved | None,
        give_back: Callable[[Admitted], Awaitable[None]],
        left: Leaving | None,
        *,
        meanwhile: Meanwhile = None,
    ) -> Coroutine[None, None, Reserved]:
        """Hold on the first quote that fits; where its routes are full, wait as policy says.

        `release` is the attempt to give back in the same step, or by `give_back` where nothing can be asked. `left` is
        None if the request goes on without its client, for others may have joined it. Raises the error that says what
        stood in the way of each quote, AlreadyBound if its binding belongs to another request, ClientGone, and
        Unavailable when the gateway shuts down. `meanwhile` is what `Ledger.choose_and_hold` is given, unless it waits.

        Where policy forbids to leave a full route for another (`reject`) and there is another, the quotes are offered
        one by one in their order: the next only once all before it were refused for other reasons than being full.
        Those before are offered again with it, since their refusal for money is what opens the next range.
        """
        if admitted.job_type.throttled.then is _REJECT and len(set(routes_of(quotes))) > 1:
            return self._one_by_one(admitted, quotes, release, give_back, left)
        return self._among(admitted, quotes, release, give_back, left=left, meanwhile=meanwhile)

    async def _one_by_one(
        self,
        admitted: Admitted,
        quotes: Sequence[Quote],
        release: Reserved | None,
        give_back: Callable[[Admitted], Awaitable[None]],
        left: Leaving | None,
    ) -> Reserved:
        for number, quote in enumerate(quotes[:-1]):
            try:
                return await self._among(admitted, [quote], release, give_back, left=left, refused=quotes[:number])
            except (BudgetExceeded, InvalidRequest):
                release = None
        return await self._among(admitted, quotes[-1:], release, give_back, left=left, refused=quotes[:-1])

    async def _among(
        self,
        admitted: Admitted,
        quotes: Sequence[Quote],
        release: Reserved | None,
        give_back: Callable[[Admitted], Awaitable[None]],
        *,
        left: Leaving | None,
        refused: Sequence[Quote] = (),
        meanwhile: Meanwhile = None,
    ) -> Reserved:
        """Hold on one of the quotes, or wait for them; `refused` are asked for again, but not waited for."""
        late = admitted.exchange.task is not None
        wait = admitted.job_type.throttled.wait or late
        offered, error = quotes, None
        wait_reasons: list[WaitReason] = []
        if self._room.queues:
            offered, wait_reasons = self._unclaimed(quotes, late=late)
        if wait:
            offered, resting = self._awake(offered)
            wait_reasons += resting
        if offered:
            offered = [*refused, *offered] if refused else offered
            try:
                told = await self._ask(admitted, offered, release, meanwhile)
            finally:
                admitted.exchange.begun()
            answer = self._heard(admitted, offered, release, told)
            if isinstance(answer, Reserved):
                return answer
            full = self._room.wait_reason(answer)
            error = _refusal(answer, offered, admitted)
            if _is_final(answer) if wait_reasons else full is None:
                raise error
            wait_reasons += [full] if full else []
        wait_reason = soonest(wait_reasons)
        assert wait_reason is not None
        if not offered:
            await give_back(admitted)
        bound, exchange = self._until(admitted), admitted.exchange
        later = bool(exchange.failed) if late else exchange.attempts > 1  # a task that began rests instead
        if not wait or later or wait_reason.due > bound:
            raise error if isinstance(error, RateLimited) else self._full(wait_reason)
        return await self._wait(admitted, quotes, wait_reason, bound, refused=refused, left=left)

    async def _wait(
        self,
        admitted: Admitted,
        quotes: Sequence[Quote],
        wait_reason: WaitReason,
        bound: float,
        *,
        refused: Sequence[Quote],
        left: Leaving | None,
    ) -> Reserved:
        """Queue up, and ask the ledger each time it is this request's turn."""
        admitted.exchange.begun()
        leaving = asyncio.create_task(left()) if left is not None else None
        try:
            project, job_type, late = (
                admitted.project.name,
                admitted.job_type.name,
                admitted.exchange.task is not None,
            )
            with self._room.place(quotes, project, job_type, wait_reason, bound, late=late) as place:
                await self.entitlement.check(admitted)  # what changed before it had a place nobody has told it
                while True:
                    began = self._room.clock()
                    turn = await place.turn(leaving)
                    waited = self._room.clock() - began
                    admitted.exchange.waited += waited
                    admitted.exchange.upstream_seconds += waited
                    if turn is not Turn.ASK:
                        raise self._in_vain(turn, place.wait_reason)
                    await self._check_again(admitted)
                    offered, resting = self._awake(quotes)
                    if offered:
                        offered = [*refused, *offered] if refused else offered
                        told = await self._ask(admitted, offered, None)
                        answer = self._heard(admitted, offered, None, told)
                        if isinstance(answer, Reserved):
                            place.served()
                            return answer
                        full = self._room.wait_reason(answer)
                        if _is_final(answer) if resting else full is None:
                            raise _refusal(answer, offered, admitted)
                        resting += [full] if full else []
                    place.denied(soonest(resting) or wait_reason)
        finally:
            if leaving is not None:
                leaving.cancel()

    async def _check_again(self, admitted: Admitted) -> None:
        try:
            await self.entitlement.check(admitted)
        except Superseded:
            self._room.changed()  # who waits behind it is decided anew as well, so that nobody loses a place to others
            raise

    def _ask(
        self, admitted: Admitted, quotes: Sequence[Quote], release: Reserved | None, meanwhile: Meanwhile = None
    ) -> Awaitable[Held | Denied | Bound]:
        """Ask the ledger for a hold on the first quote that fits."""
        exchange, about = admitted.exchange, admitted.about()
        task = exchange.task
        queued = task.queued if task is not None and release is None else None
        allowance = admitted.project.offline_allowance if task is None else None  # a task begins by the store alone
        return self._ledger.choose_and_hold(
            exchange.inbound.request_id,
            candidates(quotes, admitted, about, self._capacity.limits),
            about=about,
            release=release.held.attempt if release is not None else queued,
            binding=exchange.binding,
            allowance=allowance,
            only_if_held=queued is not None,
            meanwhile=meanwhile,
        )

    def _heard(
        self, admitted: Admitted, quotes: Sequence[Quote], release: Reserved | None, told: Held | Denied | Bound
    ) -> Reserved | Denied:
        """Return what the ledger's answer to `_ask` comes to; raises AlreadyBound."""
        if isinstance(told, Bound):
            raise AlreadyBound(told)
        if release is not None:
            self._room.ended(release.quote)
        if isinstance(told, Denied):
            return told
        if admitted.exchange.task is not None:
            admitted.exchange.task.queued = None
        return Reserved(quotes[told.index], told)

    def _unclaimed(self, quotes: Sequence[Quote], *, late: bool) -> tuple[Sequence[Quote], list[WaitReason]]:
        """Return the quotes whose routes nobody waits for who comes first, and what is known of the others."""
        ahead = [self._room.ahead(quote, late=late) for quote in quotes]
        free = [quote for quote, wait_reason in zip(quotes, ahead, strict=True) if wait_reason is None]
        return free, [wait_reason for wait_reason in ahead if wait_reason is not None]

    def _awake(self, quotes: Sequence[Quote]) -> tuple[Sequence[Quote], list[WaitReason]]:
        """Return the quotes whose accounts may have room, by their own word, and until when the others rest."""
        routes = routes_of(quotes)
        known = [place for place, route in enumerate(routes) if self._capacity.knows(route)]
        rests = {routes[place]: until for place in known if (until := self._capacity.rests(quotes[place]))}
        if not rests:
            return quotes, []
        awake = Some(quotes, [place for place, route in enumerate(routes) if route not in rests])
        resting = [quotes[place] for place in known if routes[place] in rests]
        return awake, [self._rest(quote, rests[quote.route.name]) for quote in resting]

    def _rest(self, quote: Quote, until: float) -> WaitReason:
        return WaitReason(until, until + self._room.lag(A_REST), frozenset((Scope(route=quote.route.name).label(),)))

    def _until(self, admitted: Admitted) -> float:
        """Until when the request may wait: policy's time from the first wait on, or the client's if that ends first."""
        exchange = admitted.exchange
        if exchange.task is not None:
            return exchange.task.until
        if exchange.waits_since is None:
            exchange.waits_since = self._room.clock()
        until = exchange.waits_since + admitted.job_type.throttled.wait
        if (deadline := exchange.wishes.deadline) is not None:
            until = min(until, exchange.inbound.received + deadline - FOR_THE_ANSWER)
        return until

    def _full(self, wait_reason: WaitReason) -> RateLimited:
        seconds = max(wait_reason.slot - self._room.clock(), 0.0)
        gates = ", ".join(sorted(wait_reason.gates))
        message = f"Rate limit reached for {gates}: others wait for the next slot. Please try again in {seconds:.1f}s."
        return RateLimited(message, retry_after=seconds, should_retry=True)

    def _in_vain(self, turn: Turn, wait_reason: WaitReason) -> GatewayError:
        if turn is Turn.LEFT:
            return ClientGone("The client left while its request waited for a route; nothing was billed.")
        if turn is Turn.CHANGED:
            return Superseded()
        return shutting_down() if turn is Turn.CLOSED else self._full(wait_reason)


def _refusal(denied: Denied, quotes: Sequence[Quote], admitted: Admitted) -> GatewayError:
    payer = admitted.payer
    return denial(denied, quotes, payer.job_type.degrade, may_degrade=payer.may_degrade)


def _is_final(denied: Denied) -> bool:
    """Whether a project's own quota stands in the way, on whatever route: that is not waited for."""
    ways = [way for way in denied.obstacles if way]
    return bool(ways) and all(
        any(isinstance(obstacle.line.rule, Quota) and not waited_for(obstacle) for obstacle in way) for way in ways
    )
