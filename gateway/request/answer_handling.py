"""Handles a provider's answer within a flight: passes it on, settles it, records it, or cuts it off."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import NamedTuple

from gateway.domain.errors import GatewayError, UpstreamError
from gateway.domain.settlement import PRESUMED, Reading, Settlement
from gateway.ports import Meanwhile
from gateway.ports.provider import Answer, Provider, UpstreamFailure
from gateway.ports.responses import ResponseTracker, Write
from gateway.ports.wrapped import IN_ANSWER
from gateway.request.answer_keeping import AnswerKeeper, Whole, error_answer, keeper_of
from gateway.request.attempt import PassedOn, Sent
from gateway.request.context import FlightContext, own_headers
from gateway.request.delivery import Delivery
from gateway.request.duplicates import Ending, Shared
from gateway.request.exchange import Admitted
from gateway.request.exhausted import bounded
from gateway.request.relay import Relay
from gateway.request.renewal import RenewedAttempts
from gateway.request.told_calls import failed, is_error, no_answer, tell_answered
from gateway.request.unusable_answer import out_of_sight, unusable_answer
from gateway.request.waiters import Waiters
from gateway.responses.settle import settle
from gateway.steps.reserve import Reserved


class Shown(NamedTuple):
    """What the client got: a status, and the code of the error if it was one.

    `error_type` is a bounded word for it, where the code is a provider's own.
    """

    status: int
    code: str
    error_type: str = ""


GOOD = Shown(200, "")

Onward = Callable[[], Awaitable[Shown]]
"""Does what is left to be done for an answer while its client takes it."""


def _shown(answer: Answer, reading: Reading) -> Shown:
    """Return what counts as shown of an answer that came to its end: events that led to nothing are a failure."""
    if reading.error:
        status = UpstreamError.status if answer.event_stream and is_error(reading) else answer.status
        return Shown(status, reading.error, IN_ANSWER)
    return Shown(answer.status, "") if answer.status != GOOD.status else GOOD


async def _unkept(_chunk: bytes) -> None:
    """Keep nothing of an answer."""


class AnswerHandler:
    """One request and what it has, as far as its answer needs it; `shared` is what others wait for that repeat it."""

    __slots__ = (
        "_admitted",
        "_attempts",
        "_context",
        "_delivery",
        "_exchange",
        "_keeper",
        "_providers",
        "_relay",
        "shared",
    )

    def __init__(
        self,
        admitted: Admitted,
        context: FlightContext,
        providers: Mapping[str, Provider],
        relay: Relay,
        shared: Shared | None,
    ) -> None:
        self._admitted = admitted
        self._exchange = exchange = admitted.exchange
        self._context = context
        self._relay = relay
        self._delivery: Delivery | None = None
        self._providers = providers
        self.shared = shared
        self._keeper = self._new_keeper()
        waiters = Waiters(exchange, relay, shared)
        self._attempts = RenewedAttempts(context, providers, waiters, self._keeper)

    def _new_keeper(self) -> AnswerKeeper | None:
        context = self._context
        return keeper_of(context.answers, context.ledger, self._exchange, self._relay)

    async def _deliver(self, sent: Sent) -> Shown | Sent | PassedOn | Onward:
        """Relay the answer and settle in between; an answer that is no use may be followed by another one."""
        answer, tracker, keeper = sent.answer, self._exchange.tracker, self._keeper
        record: Write | None = keeper.write if keeper is not None else None
        if tracker is not None:
            record = tracker.recording(sent.reserved.held.attempt, sent.reserved.quote, answer, record or _unkept)
        head = partial(own_headers, self._admitted, self._context.today, sent.reserved.held)
        delivery = Delivery(answer, self._relay, head, record)
        if delivery.at_hand():  # which leaves nothing to be closed
            return await self._conclude(sent, delivery, None)
        ended, broken = await self._pump(delivery, sent, held_back=True)
        if ended:
            return await self._conclude(sent, delivery, broken)
        delivery.open()
        return partial(self._stream, sent, delivery)

    async def _stream(self, sent: Sent, delivery: Delivery) -> Shown:
        """Pass the rest of an answer on; nothing can follow it any more."""
        self._delivery = delivery
        _, broken = await self._pump(delivery, sent)
        shown = await self._conclude(sent, delivery, broken)
        assert isinstance(shown, Shown)
        return shown

    async def _conclude(
        self, sent: Sent, delivery: Delivery, broken: UpstreamFailure | None
    ) -> Shown | Sent | PassedOn:
        admitted, exchange, reserved, answer = self._admitted, self._exchange, sent.reserved, sent.answer
        tracker, reading = exchange.tracker, answer.reading()
        if answer.event_stream and reading.complete:
            broken = None  # nothing was to follow: how the connection ends says no more
        if tracker is not None and tracker.goes_on(reading):
            return await self._leave_to_follower(tracker, sent, delivery, broken)
        seconds = sent.seconds + delivery.upstream_seconds
        settlement = settle(
            exchange.inbound.request_id,
            reserved.held.attempt,
            reserved.quote,
            reading,
            admitted.project.multiplier,
            upstream_request_id=answer.upstream_request_id,
            seconds=seconds,
        )
        confirmed = settlement.source is not PRESUMED
        error = unusable_answer(reading, broken, event_stream=answer.event_stream, confirmed=confirmed)
        if error is not None:
            failure = broken or no_answer(error.message)
            if not confirmed:
                settlement.facts["reason"] = failure.reason
            await self._book(reserved, settlement)
            return await self._break_off(sent, delivery, failure, error)
        if tracker is not None:
            await tracker.remember(reading)
        cost = settlement.cost.route + (exchange.cost.route if exchange.cost is not None else 0)
        if self._keeper is not None:
            await self._keeper.complete(answer.status, delivery.headers(cost))
        prepare = partial(delivery.prepare, exchange.inbound.request_id, cost)
        await self._book(reserved, settlement, prepare)
        if self.shared is not None:
            self.shared.end(Ending(kept=admitted.request_id))
        tell_answered(self._context.observer, reserved.quote.route.name, answer, reading, seconds)
        if not delivery.give(cost):
            await delivery.finish(cost)
            exchange.client_seconds += delivery.client_seconds
        return _shown(answer, reading)

    async def _book(self, reserved: Reserved, settlement: Settlement, meanwhile: Meanwhile = None) -> None:
        """Settle the hold; `meanwhile` is that of `Ledger.choose_and_hold`."""
        await self._attempts.book(self._admitted, reserved, settlement, meanwhile)
        if (tracker := self._exchange.tracker) is not None:
            await tracker.settled()

    async def _leave_to_follower(
        self, tracker: ResponseTracker, sent: Sent, delivery: Delivery, broken: UpstreamFailure | None
    ) -> Shown:
        """Give the client what there is of work that goes on; its hold lasts until that has ended."""
        reserved, answer, request_id = sent.reserved, sent.answer, self._admitted.request_id
        reading = answer.reading()
        error, quote = out_of_sight(reading, broken), reserved.quote
        await tracker.hand_over(
            request_id, reserved.held.attempt, quote, reading, answer.upstream_request_id, counted=error is not None
        )
        if error is not None:
            self._context.upstream_failed(quote.route.name, [broken or no_answer(error.message)])
            error.headers += own_headers(self._admitted, self._context.today, reserved.held)
            kept = error_answer(error)
            await self._keep_instead(kept)
            self._end(Ending(answer=kept))
            delivery.break_off(error)
            return Shown(error.status, error.code)
        if self._keeper is not None:
            await self._keeper.complete(answer.status, delivery.headers(None))
        self._end(Ending(kept=request_id))
        await delivery.finish(None)
        return Shown(answer.status, "")

    async def _pump(
        self, delivery: Delivery, sent: Sent, *, held_back: bool = False
    ) -> tuple[bool, UpstreamFailure | None]:
        """Read the answer on; returns whether it has ended, and the failure if it broke off."""
        ended, broken = True, None
        try:
            ended = await delivery.pump(held_back=held_back)
        except UpstreamFailure as failure:
            broken = failure
        finally:
            if ended:
                self._exchange.upstream_seconds += delivery.upstream_seconds
                await sent.answer.aclose()
        return ended, broken

    async def _break_off(
        self, sent: Sent, delivery: Delivery, failure: UpstreamFailure, error: GatewayError
    ) -> Shown | Sent | PassedOn:
        """End an answer that is booked and no use: by another one where policy says so, else by the error."""
        self._context.upstream_failed(sent.reserved.quote.route.name, failed(sent.answer, failure))
        if not delivery.opened:
            following = await self._attempts.after(self._admitted, sent.reserved, failure)
            if following is not None:
                if self._keeper is not None:
                    await self._keeper.start_over()
                return following
            bounded(self._attempts.plan, error)
        cost = self._exchange.cost.route if self._exchange.cost else 0
        error.headers += own_headers(self._admitted, self._context.today, sent.reserved.held, cost)
        await self._keep_error(error)
        delivery.break_off(error)
        self._exchange.client_seconds += delivery.client_seconds
        return Shown(error.status, error.code)

    async def _pass_on(self, passed: PassedOn) -> Shown:
        """Give the client the provider's own refusal as it came."""
        failure, cost = passed.failure, self._exchange.cost
        status = failure.status or UpstreamError.status
        own = own_headers(self._admitted, self._context.today, passed.reserved.held, cost.route if cost else 0)
        headers = [*failure.headers, *own]
        refusal = Whole(status, headers, failure.body)
        if cost is not None:
            await self._keep_instead(refusal)
        self._end(Ending(answer=refusal))
        self._relay.open(status, headers)
        await self._relay.write(failure.body)
        self._relay.close()
        return Shown(status, failure.code or failure.reason, failure.reason)

    def _tell_error(self, error: GatewayError) -> None:
        """Give the client an error, or what tells best that its answer ends here: nothing more will come."""
        if self._delivery is not None:
            self._delivery.break_off(error)
        else:
            self._relay.fail(error)

    async def _keep_error(self, error: GatewayError) -> None:
        """Keep an error after money may have been spent; where nothing was, who repeats the request begins anew."""
        if self._exchange.cost is None:
            self._end(Ending(error=error))
            return
        answer = error_answer(error)
        await self._keep_instead(answer)
        self._end(Ending(answer=answer))

    async def _keep_instead(self, answer: Whole) -> None:
        if self._keeper is not None:
            await self._keeper.instead(answer)

    def _end(self, ending: Ending) -> None:
        if self.shared is not None:
            self.shared.end(ending)
