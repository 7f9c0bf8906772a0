"""Recovery of what an earlier worker did for a task: decides how to continue."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

from gateway.domain.adjusting import held_of
from gateway.domain.budget import Held
from gateway.domain.caller import Caller
from gateway.domain.errors import GatewayError, UpstreamError
from gateway.domain.ladder import staying
from gateway.domain.policy import OnUnknown, Policy
from gateway.domain.settlement import PRESUMED
from gateway.domain.task import TaskRecord, task_of
from gateway.observe.event import NONE, RequestFinished
from gateway.ports import Body, LedgerUnavailable
from gateway.request.exchange import Admitted, Exchange
from gateway.request.following import account_of, followed, in_calls, leads_there, quote_as_held
from gateway.steps.reserve import Reserved
from gateway.tasks.context import NotHere, TaskContext
from gateway.tasks.submissions import quote_as_noted

Attempt = Mapping[str, Any]
"""An attempt as the ledger's record tells it."""


@dataclass(frozen=True, slots=True)
class EarlierAttempts:
    """The calls of a task that other workers may have sent; `number` is the last of them, `about` the request's record.

    `follow` tells that the last one is known to its provider and is to be followed, `unknown` that nobody knows what
    became of it. `submitted` is how many calls for it the provider is known to have taken on, and those before them;
    `noted` is what was noted of one of them.
    """

    attempts: Sequence[Attempt]
    number: int
    follow: bool = False
    unknown: bool = False
    submitted: int = 1
    about: Mapping[str, Any] = field(default_factory=dict)
    noted: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settled(self) -> bool:
        """Whether the cost of the last call is booked for good."""
        return any(each["attempt"] == self.number and each["state"] == "settled" for each in self.attempts)

    @property
    def lasting(self) -> EarlierAttempts | None:
        """What of it counts for another try: a call that was followed has come to its end, an unknown one never has."""
        return None if self.follow else self

    @property
    def cost(self) -> int:
        """Nano-USD in the route view that is booked, or will be once leases have run out."""
        return sum(_cost(attempt) for attempt in self._called)

    @property
    def before(self) -> int:
        """The same without the last call, which books for itself when it is followed."""
        return sum(_cost(attempt) for attempt in self._called if attempt["attempt"] != self.number)

    @property
    def _called(self) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt["state"] in ("sent", "settled", "presumed")]

    def ended(self, event: RequestFinished) -> RequestFinished:
        """Return the end of a try as that of all the task's work; a call that the try has followed is told by it."""
        followed = self.number if self.follow and event.attempts else None
        earlier = [attempt for attempt in self._called if attempt["attempt"] != followed]
        if not earlier:
            return event
        last, about = earlier[-1], self.about
        known = all(attempt["state"] == "settled" for attempt in earlier)
        return replace(
            event,
            job_type=event.job_type if event.job_type != NONE else about.get("job_type", NONE),
            n=event.n or about.get("n", 0),
            size=event.size or about.get("size", ""),
            quality=event.quality or about.get("quality", ""),
            route=event.route if event.route != NONE else last["facts"].get("route", NONE),
            attempts=event.attempts + len(earlier),
            images=event.images + sum(attempt.get("images", 0) for attempt in earlier),
            estimate=event.estimate if event.estimate is not None else _worst(last),
            cost=(event.cost or 0) + sum(map(_cost, earlier)),
            source=(event.source or last.get("source") or "") if known else PRESUMED,
        )

    def carried_on(self, admitted: Admitted) -> Admitted:
        """Return the request as it goes on: by what routes, calls and cost earlier ones left; the error if by none.

        A call that is to be followed is not chosen again.
        """
        retry, called = admitted.job_type.retry, self._called
        ended = [each for each in called if not (self.follow and each["attempt"] == self.number)]
        left = retry.attempts - sum("batch" not in each["facts"] for each in ended)
        admitted = replace(admitted, job_type=replace(admitted.job_type, retry=replace(retry, attempts=left)))
        if self.follow:
            return admitted
        tried = {attempt["facts"].get("route") for attempt in called} if self.unknown else set()
        untried = [quote for quote in admitted.ranked.quotes if quote.route.name not in tried]
        if self.unknown and (retry.on_unknown is not OnUnknown.NEXT_ROUTE or left < 1):
            raise lost_sight()
        quotes = staying(untried, admitted.pays_for)
        if not quotes:
            raise lost_sight() if self.unknown else _too_dear()
        return replace(admitted, ranked=replace(admitted.ranked, quotes=quotes))

    def resumed(self, admitted: Admitted, today: date, due: float) -> Reserved | None:
        """Return the hold and the quote of the call that is to be followed; None if there is none.

        One by batch is given up in time for when it is `due` (Unix seconds), whatever policy says of batches by now.
        Raises the error to show where policy no longer has the route, or the account, that took it on.
        """
        if not self.follow:
            return None
        facts = self._facts
        if account_of(facts, admitted.policy) is None:
            raise lost_sight()
        degraded = dict(facts.get("degraded") or {})
        quotes = [quote for quote in admitted.ranked.quotes if leads_there(quote.route, facts)]
        quotes = [quote for quote in quotes if (quote.batch is not None) is ("batch" in facts)]
        quote = next((quote for quote in quotes if dict(quote.degraded) == degraded), None)
        quote = quote or quote_as_held(facts, admitted.job, admitted.policy, today)
        if quote is None:
            raise lost_sight()
        quote = quote_as_noted(replace(quote, worst=held_of(facts) if "worst" in facts else quote.worst), self.noted)
        quote = quote if quote.batch is None else replace(quote, batch=quote.batch.by(due))
        return Reserved(in_calls(quote, facts, self.submitted), Held(0, self.number, ()))

    def admitted(self, exchange: Exchange, caller: Caller, policy: Policy, body: Body, today: date) -> Admitted:
        """Return the request whose call is to be followed although policy admits it no more; raises the error to show.

        That is where policy no longer has the route, or the account, that took it on.
        """
        found = followed(exchange, caller, policy, body, facts=self._facts, about=self.about, today=today)
        if found is None:
            raise lost_sight()
        return found

    @property
    def _facts(self) -> Mapping[str, Any]:
        return next((each["facts"] for each in self.attempts if each["attempt"] == self.number), {})


def earlier_attempts(record: TaskRecord, kept: Mapping[str, Any] | None) -> EarlierAttempts | None:
    """Return what was done for a task that was sent before; None if nothing of it can have been billed.

    `kept` is the ledger's record of the request.
    """
    attempts: Sequence[Attempt] = kept["attempts"] if kept is not None else ()
    assert record.attempt is not None
    state = next((each["state"] for each in attempts if each["attempt"] == record.attempt), None)
    about: Mapping[str, Any] = (kept.get("about") if kept is not None else None) or {}
    if state == "void" and not any(each["state"] in ("sent", "presumed") for each in attempts):
        refusals = any(each["state"] == "settled" for each in attempts)  # each was charged, and is known to its end
        return EarlierAttempts(attempts, record.attempt, about=about) if refusals else None
    follow = state != "void" and bool(record.submitted)
    submitted = max(record.submitted, default=0) + 1
    noted: Mapping[str, Any] = next(iter(record.submitted.values()), {}) if follow else {}
    return EarlierAttempts(
        attempts, record.attempt, follow=follow, unknown=not follow, submitted=submitted, about=about, noted=noted
    )


async def recorded(context: TaskContext, record: TaskRecord, token: str, pause: float) -> Mapping[str, Any] | None:
    """Return the ledger's record of a task's request; while the ledger is away it is asked each `pause` seconds.

    Attempts beyond the last one that began are given back and left out. The queue is asked before a call leaves, and
    whoever held them has lost the task: they were not sent and never will be. So is one by batch that was not
    announced, and it is told as given back: the queue is asked before a line is written too.

    Raises NotHere if the task was lost meanwhile: then what is on record may be its next worker's.
    """
    request_id, kept = record.order.request_id, None
    asking = True
    while asking:
        try:
            kept = await context.flight_context.ledger.request(request_id)
            if not await context.holds(task_of(request_id), token):  # asked after what it vouches for was read
                raise NotHere
            asking = False
        except LedgerUnavailable:
            await asyncio.sleep(pause)
    if kept is None:
        return None
    attempts: Sequence[Attempt] = kept["attempts"]
    begun = [each for each in attempts if record.attempt is not None and each["attempt"] <= record.attempt]
    unwritten = [each for each in begun if _unannounced(record, each)]
    for each in (*(each for each in attempts if each not in begun), *unwritten):
        if each["state"] in ("sent", "presumed"):
            await context.flight_context.settlements.void(request_id, each["attempt"], "not_begun")
    return {**kept, "attempts": [{**each, "state": "void"} if each in unwritten else each for each in begun]}


def _unannounced(record: TaskRecord, attempt: Attempt) -> bool:
    """Tell whether an attempt is one by batch of which no line was announced, and so none written."""
    last = attempt["attempt"] == record.attempt and attempt["state"] != "settled"
    return last and "batch" in attempt["facts"] and not record.submitted


def lost_sight() -> GatewayError:
    """Return the error for a call whose gateway died before it had the answer."""
    message = (
        "The gateway that made the call to the provider did not get to its end. The work may have been done and "
        "billed; its worst case was booked as unconfirmed."
    )
    return UpstreamError(message, should_retry=False)


def _too_dear() -> GatewayError:
    message = "A refusal was billed, and another call would exceed the maximum that the request may cost."
    return UpstreamError(message, should_retry=False)


def _cost(attempt: Attempt) -> int:
    return int(attempt["cost"].route) if "cost" in attempt else _worst(attempt) or 0


def _worst(attempt: Attempt) -> int | None:
    worst = attempt["facts"].get("worst")
    return int(worst["route"]) if isinstance(worst, Mapping) else None
