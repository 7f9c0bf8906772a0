"""Attempts: hold and send, again and again while what failed cannot have been billed, or policy says to go on."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn

from gateway.domain.errors import ClientGone, GatewayError, Unavailable
from gateway.domain.record import record
from gateway.domain.retry import jittered
from gateway.domain.settlement import Outcome, Settlement
from gateway.failpoint import ARMED, reach
from gateway.observe.event import Degraded, FellBack, Replaced
from gateway.ports import LedgerUnavailable, Meanwhile
from gateway.ports.provider import Answer, Provider, UpstreamFailure
from gateway.request.answer_keeping import AnswerKeeper
from gateway.request.calling import PreparedCall, call_of, suits
from gateway.request.context import FlightContext
from gateway.request.exchange import Admitted
from gateway.request.exhausted import cannot_hold, failed
from gateway.request.flight_task import NOT_HERE, cancelled
from gateway.request.retrying import RetryPlan, Step, was_called
from gateway.request.waiters import Waiters
from gateway.steps.accept import RETRY_COUNT, retry_count
from gateway.steps.reserve import AlreadyBound, Reserved
from gateway.steps.send import send_call
from gateway.steps.settle import charge, presume


@record(frozen=True, slots=True)
class Sent:
    """A hold whose call was answered; the hold is still to be settled."""

    reserved: Reserved
    answer: Answer
    seconds: float
    """How long the answer's head took."""


@record(frozen=True, slots=True)
class PassedOn:
    """The provider's own refusal of what the client asked; the hold has ended already."""

    reserved: Reserved
    failure: UpstreamFailure


class Attempts:
    """Tries the routes of one admitted request; every hold it takes is ended here or handed on in `Sent`.

    No call follows a failed one once the `waiters` left. Without budgets of the process it has full ones itself.
    """

    __slots__ = ("_ahead", "_budgets", "_context", "_keeper", "_open", "_providers", "_unbilled", "_waiters", "plan")

    def __init__(
        self, context: FlightContext, providers: Mapping[str, Provider], waiters: Waiters, keeper: AnswerKeeper | None
    ) -> None:
        self._context = context
        self._providers = providers
        self._waiters = waiters
        self._keeper = keeper
        self._budgets = context.budgets
        self.plan: RetryPlan | None = None
        self._open: Reserved | None = None
        self._ahead: PreparedCall | None = None
        self._unbilled = ""  # why the open hold may be given back, once that is sure

    def first_that_works(self, admitted: Admitted) -> Coroutine[Any, Any, Sent | PassedOn | None]:
        """Return what is to be awaited for the first usable answer; None comes of it if there is none: see `exhausted`.

        Called again after AlreadyBound it goes on where it was, so that all calls together keep to policy's bound.
        """
        if self.plan is None:
            headers = admitted.exchange.inbound.headers
            counts = RETRY_COUNT in headers and retry_count(headers) is not None
            quotes, retry, pays_for = admitted.ranked.quotes, admitted.job_type.retry, admitted.pays_for
            self.plan = RetryPlan(quotes, retry, self._budgets, counts, pays_for)
        return self._go_on(admitted, self.plan)

    def exhausted(self) -> NoReturn:
        """Raise the error to show where no answer is any use."""
        assert self.plan is not None
        raise failed(self.plan) from self.plan.failures[-1].failure

    async def after(self, admitted: Admitted, reserved: Reserved, failure: UpstreamFailure) -> Sent | PassedOn | None:
        """Go on after an answer that is booked and no use, if policy says so; None if it does not, or nothing is left.

        `failure` says what became of it; its outcome is unknown. Only for an answer of which nothing was passed on.
        Raises the error to show if going on failed too, or if more than this answer may have been billed.
        """
        assert self.plan is not None
        plan, exchange, before = self.plan, admitted.exchange, len(self.plan.failures)
        plan.failed(reserved.quote, failure)
        exchange.failed += (reserved.quote.route.name,)
        result = await self._go_on(admitted, plan)
        if result is None and (len(plan.failures) > before + 1 or plan.times_presumed > 1):
            raise failed(plan) from failure
        return result

    async def _go_on(self, admitted: Admitted, plan: RetryPlan) -> Sent | PassedOn | None:
        """Do step after step; None if no usable answer came of any. A task that nobody wants any more ends here."""
        task = admitted.exchange.task
        while True:
            if plan.failures and task is not None and await task.unwanted():
                await self._give_back(admitted)
                raise cancelled()
            if (plan.failures and self._waiters.gone()) or (step := plan.next()) is None:
                await self._give_back(admitted)
                return None
            try:
                if step.pause and not await self._pause(admitted, step.pause):
                    return None
                resumed = self._resumed(admitted, plan) if task is not None and task.resumed is not None else None
                reserved = resumed or await self._reserve(admitted, plan, step)
                if reserved is None:
                    continue
                result = await self._send(admitted, reserved, resumed=resumed is not None)
                if isinstance(result, Sent):
                    plan.succeeded(reserved.quote)
                    return result
                if result.pass_on:
                    plan.succeeded(reserved.quote)
                    return await self._pass_on(admitted, reserved, result)
                plan.failed(reserved.quote, result)
                admitted.exchange.failed += (reserved.quote.route.name,)
                if resumed is not None:
                    await self._give_back(admitted)  # its lease may have lapsed: the next hold would leave it as it is
            finally:
                if plan.reserved:
                    plan.end_step()

    def _resumed(self, admitted: Admitted, plan: RetryPlan) -> Reserved:
        """Take over the hold of a call that another process has sent."""
        exchange, task = admitted.exchange, admitted.exchange.task
        assert task is not None
        assert task.resumed is not None
        self._open, task.resumed = task.resumed, None
        exchange.attempts += 1
        exchange.quote = self._open.quote
        plan.chosen(self._open.quote)
        return self._open

    async def _pause(self, admitted: Admitted, seconds: float) -> bool:
        """Wait with nothing held, and tell whether to go on; a gateway that stops meanwhile has nothing to end."""
        await self._give_back(admitted)
        began = time.monotonic()
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError as error:
            # Only a gateway that shuts down cancels, and the client is to be told so rather than of a fault of ours.
            message = "The gateway is shutting down; nothing was billed. Please try again."
            raise Unavailable(message, code="shutting_down", retry_after=jittered(1.0, random.random)) from error
        finally:
            admitted.exchange.upstream_seconds += time.monotonic() - began
        return not self._waiters.gone()

    async def _reserve(self, admitted: Admitted, plan: RetryPlan, step: Step) -> Reserved | None:
        """Hold on the first quote that fits, giving back the attempt before it in the same step; None if none fits."""
        admitted.exchange.attempts += 1
        if ARMED:
            reach("before_hold")
        likeliest = step.quotes[0]
        self._ahead = ahead = PreparedCall(admitted, likeliest, self._providers) if suits(admitted, likeliest) else None
        try:
            reserved = await self._context.admission.reserve(
                admitted, step.quotes, self._open, self._give_back, self._waiters.left, meanwhile=ahead
            )
        except AlreadyBound:
            admitted.exchange.attempts -= 1
            await self._give_back(admitted)
            raise
        except LedgerUnavailable as error:
            # A hold whose answer was lost the ledger gives back by itself; the attempt before it may still be held.
            admitted.exchange.attempts -= 1
            await self._give_back(admitted)
            raise (failed(plan) if plan.presumed else cannot_hold()) from error
        except GatewayError as error:
            admitted.exchange.attempts -= 1
            self._open = None  # an earlier attempt was given back in the same step
            if not plan.called or (isinstance(error, Unavailable | ClientGone) and not plan.presumed):
                raise
            plan.denied(step)
            return None
        exchange, quote = admitted.exchange, reserved.quote
        self._open, self._unbilled = reserved, "not_begun" if exchange.task is not None else ""
        if self._keeper is not None:
            self._keeper.held()
        if ARMED:
            reach("after_hold")
        exchange.quote = quote
        if plan.failures or quote.degraded or quote.replaced is not None:
            self._tell(plan, exchange.changed(quote), quote.route.name)
        plan.chosen(quote)
        return reserved

    def _tell(self, plan: RetryPlan, changes: Sequence[Degraded | Replaced], route: str) -> None:
        """Tell of what policy changed, and that the request fell back on another route."""
        for told in changes:
            self._context.observer.emit(told)
        if plan.failures and (last := plan.failures[-1]).quote.route.name != route:
            self._context.observer.emit(FellBack(last.quote.route.name, route, last.failure.reason))

    async def _may_begin(self, admitted: Admitted, reserved: Reserved) -> None:
        """Ask whether a task is still to be sent from here; its hold is given back if it is not."""
        task = admitted.exchange.task
        assert task is not None
        try:
            if await task.begins(reserved, admitted.project.multiplier):
                self._unbilled = ""
                return
        except GatewayError:
            await self._give_back(admitted)
            raise
        await self._give_back(admitted)
        raise Unavailable("The task was cancelled, or taken over by another gateway.", code=NOT_HERE)

    async def _send(self, admitted: Admitted, reserved: Reserved, *, resumed: bool = False) -> Sent | UpstreamFailure:
        """Call the provider; what may have been billed is booked at once."""
        exchange, quote = admitted.exchange, reserved.quote
        if exchange.task is not None and not resumed:
            await self._may_begin(admitted, reserved)
        began = time.monotonic()
        try:
            if ARMED:
                reach("before_send")
            ahead, self._ahead = self._ahead, None
            call = ahead.call if ahead is not None and ahead.quote is quote else None
            call = call or call_of(admitted, quote, self._budgets, self._waiters.gone)
            answer = await send_call(self._providers, call)
            if ARMED:
                reach("answer_begun")
            return Sent(reserved, answer, time.monotonic() - began)
        except UpstreamFailure as failure:
            self._context.upstream_failed(reserved.quote.route.name, (failure, *failure.others))
            if failure.outcome is Outcome.UNKNOWN:
                await self._presume(admitted, reserved, failure)
            elif due := charge(admitted.request_id, reserved.held.attempt, quote, failure, admitted.project.multiplier):
                failure.charged = True
                await self.book(admitted, reserved, due)
            if not was_called(failure):
                exchange.attempts -= 1
            self._unbilled = failure.reason
            return failure
        finally:
            exchange.upstream_seconds += time.monotonic() - began

    async def _pass_on(self, admitted: Admitted, reserved: Reserved, failure: UpstreamFailure) -> PassedOn:
        await self._give_back(admitted)
        if admitted.exchange.cost is not None:
            failure.headers = [*failure.headers, ("x-should-retry", "false")]
        return PassedOn(reserved, failure)

    async def _give_back(self, admitted: Admitted) -> None:
        """End the hold of the last call, which was surely not billed, if it is still there."""
        if self._open is not None:
            reach("before_void")
            await self._context.settlements.void(admitted.request_id, self._open.held.attempt, self._unbilled)
            reach("after_void")
            self._context.admissions.room.ended(self._open.quote)
            self._open = None

    async def interrupted(self, admitted: Admitted, error: GatewayError | None = None) -> None:
        """End the hold that is still open after a cancellation or a fault of ours: the request may have left.

        Then the `error` that its client gets says that it must not be repeated.
        """
        if self._unbilled:
            await self._give_back(admitted)
        elif self._open is not None:
            await self._presume(admitted, self._open, "interrupted")
            if error is not None:
                error.should_retry = False

    async def _presume(self, admitted: Admitted, reserved: Reserved, reason: UpstreamFailure | str) -> None:
        """Book the worst case, unconfirmed: nobody knows what the provider did."""
        attempt, multiplier = reserved.held.attempt, admitted.project.multiplier
        await self.book(admitted, reserved, presume(admitted.request_id, attempt, reserved.quote, reason, multiplier))

    async def book(
        self, admitted: Admitted, reserved: Reserved, settlement: Settlement, meanwhile: Meanwhile = None
    ) -> None:
        """Settle a hold and tell of it; the exchange's cost is that of all its attempts.

        `meanwhile` is that of `Ledger.choose_and_hold`.
        """
        if ARMED:
            reach("before_settle")
        ended = partial(admitted.tell_ended, self._context.observer, reserved.quote, settlement)
        await self._context.settlements.settle(settlement, meanwhile, ended)
        if ARMED:
            reach("after_settle")
        self._context.admissions.room.ended(reserved.quote)
        self._open = None
        admitted.exchange.booked(settlement)
