"""Flight: an admitted request on its way, in a task of its own: reserve → send → settle → write.

The client may leave; the answer is read to its end and settled all the same, and kept for whoever repeats the request.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple

from gateway.domain.budget import Held
from gateway.domain.errors import GatewayError, InternalError, Unavailable, UpstreamError
from gateway.domain.retry import RetryBudgets
from gateway.domain.settlement import CostSource
from gateway.observe.event import Observer, RequestDenied, UpstreamFailed, UpstreamFinished
from gateway.ports import Answers, Headers, Ledger, Outbound, Settlements, Truncated
from gateway.ports.provider import Provider, UpstreamFailure
from gateway.ports.responses import Talk
from gateway.request.admission import Doors
from gateway.request.attempt import PassedOn, Sent
from gateway.request.delivery import Delivery
from gateway.request.duplicates import Ending, Shared, reused
from gateway.request.earlier import Earlier
from gateway.request.entitlement import Entitlement
from gateway.request.exchange import Admitted
from gateway.request.keeping import Keeping, Whole, error_answer
from gateway.request.relay import Relay
from gateway.request.renewal import RenewedAttempts
from gateway.request.shadow import Shadows, landing
from gateway.request.spoiled import garbage as garbage
from gateway.request.spoiled import out_of_sight
from gateway.request.spoiled import spoiled as spoiled
from gateway.responses.settle import settle
from gateway.steps.reserve import AlreadyBound
from gateway.steps.write import REPLAYED, Decision, write

log = logging.getLogger(__name__)

ROUNDS = 3
"""How often a request tries to begin whose forerunners all came to nothing."""


@dataclass(frozen=True, slots=True)
class Means:
    """What every flight of a process uses."""

    ledger: Ledger
    settlements: Settlements
    observer: Observer
    today: Callable[[], date]
    answers: Answers | None = None
    budgets: RetryBudgets | None = None
    shadows: Shadows | None = None
    doors: Doors = field(default_factory=Doors)
    entitlement: Entitlement | None = None


class Shown(NamedTuple):
    """What the client got: a status, and the code of the error if it was one."""

    status: int
    code: str


class Flight:
    """One request from its hold to its end. `shared` is what others wait for that repeat it meanwhile."""

    def __init__(
        self, admitted: Admitted, means: Means, providers: Mapping[str, Provider], relay: Relay, shared: Shared | None
    ) -> None:
        self._admitted = admitted
        self._exchange = admitted.exchange
        self._means = means
        self._relay = relay
        self._providers = providers
        self._shared = shared
        self._keeping = Keeping(means.answers, means.ledger, admitted.exchange, relay)
        left = None if shared or admitted.exchange.errand else relay.until_taken
        admission = means.doors.admission(means.ledger, left, self._keeping.held, means.entitlement)
        self._attempts = RenewedAttempts(admission, means.settlements, providers, means.observer, means.budgets)

    async def run(self) -> None:
        """Do it to its end, whether or not the client stays."""
        shown = Shown(InternalError.status, InternalError.default_code)
        try:
            shown = await self._fly()
        except GatewayError as error:
            shown = Shown(error.status, error.code)
            await self._fail(error)
        except BaseException as error:
            await asyncio.shield(self._attempts.interrupted(self._admitted))
            fault = self._fault(error)
            shown = Shown(fault.status, fault.code)
            self._end(Ending(error=fault))
            self._relay.fail(fault)
            raise
        finally:
            succeeded = shown == Shown(200, "")
            async with landing(self._means.shadows, self._admitted, self._providers, succeeded=succeeded):
                gone, sent = self._relay.client_gone, self._relay.bytes_out
                ended = self._exchange.finished(shown.status, code=shown.code, client_gone=gone, bytes_out=sent)
                self._means.observer.emit(ended)
                await self._keeping.end()

    def _fault(self, error: BaseException) -> GatewayError:
        """Return the error to show where the work was cut short; only a gateway that shuts down does so on purpose."""
        request_id, booked = self._admitted.request_id, self._exchange.cost is not None
        if isinstance(error, asyncio.CancelledError):
            message = "The gateway is shutting down" + ("; the work may have been billed." if booked else ".")
            return Unavailable(message, code="shutting_down", retry_after=1.0, should_retry=False if booked else None)
        log.error("request %s failed", request_id, exc_info=error)
        return InternalError(
            f"Something went wrong here. Request id: {request_id}.", should_retry=False if booked else None
        )

    async def _fly(self) -> Shown:
        result = await self._begin()
        while isinstance(result, Sent):
            result = await self._deliver(result)
        if isinstance(result, PassedOn):
            return await self._pass_on(result)
        return result

    async def _begin(self) -> Sent | PassedOn | Shown:
        """Do the work, unless an earlier request has begun it: then wait for that one's answer."""
        for _ in range(ROUNDS):
            try:
                result, self._admitted, self._providers = await self._attempts.begin(self._admitted)
                return result
            except AlreadyBound as earlier:
                bound, binding = earlier.bound, self._exchange.binding
            if not bound.same:
                raise reused()
            self._keeping.follow(bound.request_id)
            began = asyncio.get_running_loop().time()
            claimed = binding is not None and binding.claim
            try:
                answer = await Earlier(self._means.ledger, self._means.answers).answer(
                    bound.request_id, claimed=claimed
                )
            except BaseException:
                if claimed:
                    self._keeping.leave_behind()  # whoever asks next is to find what this one waited for
                raise
            self._exchange.upstream_seconds += asyncio.get_running_loop().time() - began
            if answer is not None:
                return await self._replay(bound.request_id, answer)
            self._keeping.follow(self._admitted.request_id)
        raise UpstreamError("The requests that this one repeats all failed. Nothing was billed; please try again.")

    async def _replay(self, request_id: str, answer: Outbound) -> Shown:
        """Give the client the answer that another request brought."""
        self._exchange.replayed = True
        self._end(Ending(kept=request_id))
        self._relay.open(answer.status, [*answer.headers, REPLAYED])
        try:
            async for chunk in answer.chunks:
                await self._relay.write(chunk)
        except Truncated:
            self._relay.abort()
        else:
            self._relay.close()
        return Shown(answer.status, "")

    async def _deliver(self, sent: Sent) -> Shown | Sent | PassedOn:
        """Relay the answer and settle in between; an answer that is no use may be followed by another one."""
        admitted, exchange, reserved, answer = self._admitted, self._exchange, sent.reserved, sent.answer
        talk, keep = exchange.talk, self._keeping.write
        record = keep if talk is None else talk.recording(answer.reading, keep)
        delivery = Delivery(answer, self._relay, lambda cost: self._headers(reserved.held, cost), record=record)
        broken = await self._pump(delivery, sent)
        reading = answer.reading()
        if talk is not None and talk.goes_on(reading):
            return await self._leave_to_follower(talk, sent, delivery, broken)
        settlement = settle(
            admitted.request_id,
            reserved.held.attempt,
            reserved.quote,
            reading,
            admitted.project.multiplier,
            upstream_request_id=answer.upstream_request_id,
            seconds=sent.seconds + delivery.upstream_seconds,
        )
        confirmed = settlement.source is not CostSource.PRESUMED
        error = spoiled(reading, broken, event_stream=answer.event_stream, confirmed=confirmed)
        if error is not None:
            await self._attempts.book(admitted, reserved, settlement)
            return await self._break_off(sent, delivery, broken or garbage(error), error)
        before = exchange.cost.route if exchange.cost else 0
        if talk is not None:
            await talk.remember(reading)
        await self._keeping.complete(answer.status, delivery.headers(before + settlement.cost.route))
        await self._attempts.book(admitted, reserved, settlement)
        self._end(Ending(kept=admitted.request_id))
        seconds = sent.seconds + delivery.upstream_seconds
        self._means.observer.emit(UpstreamFinished(reserved.quote.route.name, seconds))
        await delivery.finish(before + settlement.cost.route)
        exchange.client_seconds += delivery.client_seconds
        return Shown(answer.status, reading.error or "")

    async def _leave_to_follower(
        self, talk: Talk, sent: Sent, delivery: Delivery, broken: UpstreamFailure | None
    ) -> Shown:
        """Give the client what there is of work that goes on; its hold lasts until that has ended."""
        reserved, answer, request_id = sent.reserved, sent.answer, self._admitted.request_id
        reading = answer.reading()
        await talk.hand_over(request_id, reserved.held.attempt, reserved.quote, reading)
        error = out_of_sight(reading, broken)
        if error is not None:
            self._means.observer.emit(UpstreamFailed(reserved.quote.route.name, (broken or garbage(error)).reason))
            error.headers += self._headers(reserved.held)
            kept = error_answer(error)
            await self._keeping.instead(kept)
            self._end(Ending(answer=kept))
            await delivery.break_off(error)
            return Shown(error.status, error.code)
        await self._keeping.complete(answer.status, delivery.headers(None))
        self._end(Ending(kept=request_id))
        await delivery.finish(None)
        return Shown(answer.status, "")

    async def _pump(self, delivery: Delivery, sent: Sent) -> UpstreamFailure | None:
        """Read the answer to its end; returns the failure if it broke off."""
        try:
            await delivery.pump()
        except UpstreamFailure as failure:
            return failure
        finally:
            self._exchange.upstream_seconds += delivery.upstream_seconds
            await sent.answer.aclose()
        return None

    async def _break_off(
        self, sent: Sent, delivery: Delivery, failure: UpstreamFailure, error: GatewayError
    ) -> Shown | Sent | PassedOn:
        """End an answer that is booked and no use: by another one where policy says so, else by the error."""
        self._means.observer.emit(UpstreamFailed(sent.reserved.quote.route.name, failure.reason))
        if not delivery.opened:
            following = await self._attempts.after(self._admitted, sent.reserved, failure)
            if following is not None:
                await self._keeping.start_over()
                return following
        error.headers += self._headers(sent.reserved.held, self._exchange.cost.route if self._exchange.cost else 0)
        await self._keep_error(error)
        await delivery.break_off(error)
        self._exchange.client_seconds += delivery.client_seconds
        return Shown(error.status, error.code)

    async def _pass_on(self, passed: PassedOn) -> Shown:
        """Give the client the provider's own refusal as it came."""
        failure, cost = passed.failure, self._exchange.cost
        status = failure.status or UpstreamError.status
        headers = [*failure.headers, *self._headers(passed.reserved.held, cost.route if cost else 0)]
        refusal = Whole(status, headers, failure.body)
        if cost is not None:
            await self._keeping.instead(refusal)
        self._end(Ending(answer=refusal))
        self._relay.open(status, headers)
        await self._relay.write(failure.body)
        self._relay.close()
        return Shown(status, failure.reason)

    async def _fail(self, error: GatewayError) -> None:
        """Give the client an error; no answer came, or none that is any use. A hold that is still open ends."""
        exchange = self._exchange
        await self._attempts.interrupted(self._admitted, error)
        error.headers += self._headers(cost=(exchange.cost.route if exchange.cost else 0) if exchange.quote else None)
        if error.status in (402, 429) and exchange.quote is None:  # with a quote, it was a provider that refused
            self._means.observer.emit(RequestDenied(self._admitted.project.name, error.code))
        await self._keep_error(error)
        self._relay.fail(error)

    async def _keep_error(self, error: GatewayError) -> None:
        """Keep an error after money may have been spent; where nothing was, who repeats the request begins anew."""
        if self._exchange.cost is None:
            self._end(Ending(error=error))
            return
        answer = error_answer(error)
        await self._keeping.instead(answer)
        self._end(Ending(answer=answer))

    def _end(self, ending: Ending) -> None:
        if self._shared is not None:
            self._shared.end(ending)

    def _headers(self, held: Held | None = None, cost: int | None = None) -> Headers:
        return own_headers(self._admitted, self._means.today(), held, cost)


def own_headers(admitted: Admitted, today: date, held: Held | None = None, cost: int | None = None) -> Headers:
    """Return the gateway's own headers for a request as far as it has come; `cost` is nano-USD."""
    exchange = admitted.exchange
    quote = exchange.quote or admitted.ranked.quotes[0]
    decision = Decision(admitted.request_id, admitted.job_type.name, quote, exchange.attempts, held, cost, exchange.arm)
    return write(decision, today)
