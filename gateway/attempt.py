"""Attempts: hold and send, again and again while what failed cannot have been billed, or policy says to go on."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.admission import Admission
from gateway.domain.errors import ClientGone, GatewayError, RateLimited, Unavailable, UpstreamError, UpstreamTimeout
from gateway.domain.retry import RetryBudgets, jittered
from gateway.domain.route import Views
from gateway.domain.settlement import CostSource, Outcome, Settlement, SettleResult
from gateway.exchange import Admitted
from gateway.failpoint import reach
from gateway.observe.event import FellBack, Observer, UpstreamFailed
from gateway.ports import Answer, LedgerUnavailable, Provider, Settlements, UpstreamFailure
from gateway.retrying import Course, Failed, Step
from gateway.steps.accept import retry_count
from gateway.steps.reserve import AlreadyBound, Reserved
from gateway.steps.send import send
from gateway.steps.settle import presume

LEDGER_RETRY_AFTER = 2.0
"""Seconds a client is asked to wait when the store does not answer."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A hold whose call was answered; the hold is still to be settled."""

    reserved: Reserved
    answer: Answer
    seconds: float
    """How long the answer's head took."""


@dataclass(frozen=True, slots=True)
class PassedOn:
    """The provider's own refusal of what the client asked; the hold has ended already."""

    reserved: Reserved
    failure: UpstreamFailure


class Attempts:
    """Tries the routes of one admitted request; every hold it takes is ended here or handed on in `Sent`.

    `budgets` belong to the process; without them the request has full ones of its own.
    """

    def __init__(
        self,
        admission: Admission,
        settlements: Settlements,
        providers: Mapping[str, Provider],
        observer: Observer,
        budgets: RetryBudgets | None = None,
    ) -> None:
        self._admission = admission
        self._settlements = settlements
        self._providers = providers
        self._observer = observer
        self._budgets = budgets or RetryBudgets(time.monotonic)
        self._course: Course | None = None
        self._open: Reserved | None = None
        self._unbilled = ""  # why the open hold may be given back, once that is sure

    async def first_that_works(self, admitted: Admitted) -> Sent | PassedOn:
        """Return the first usable answer; raises the error to show if there is none.

        Called again after AlreadyBound it goes on where it was, so that all calls together keep to policy's bound.
        """
        if self._course is None:
            counts = retry_count(admitted.exchange.inbound.headers) is not None
            quotes, retry = admitted.ranked.quotes, admitted.job_type.retry
            self._course = Course(quotes, retry, self._budgets, client_repeats=counts)
        course = self._course
        result = await self._go_on(admitted, course)
        if result is None:
            raise failed(course) from course.failures[-1].failure
        return result

    async def after(self, admitted: Admitted, reserved: Reserved, failure: UpstreamFailure) -> Sent | PassedOn | None:
        """Go on after an answer that is booked and no use, if policy says so; None if it does not, or nothing is left.

        `failure` says what became of it; its outcome is unknown. Only for an answer of which nothing was passed on.
        Raises the error to show if going on failed too, or if more than this answer may have been billed.
        """
        assert self._course is not None
        course, before = self._course, admitted.exchange.attempts
        course.failed(reserved.quote, failure)
        admitted.exchange.failed.append(reserved.quote.route.name)
        result = await self._go_on(admitted, course)
        if result is None and (admitted.exchange.attempts > before or course.times_presumed > 1):
            raise failed(course) from failure
        return result

    async def _go_on(self, admitted: Admitted, course: Course) -> Sent | PassedOn | None:
        while (step := course.next()) is not None:
            try:
                result = await self._try(admitted, course, step)
            finally:
                course.end_step()
            if result is not None:
                return result
        await self._give_back(admitted)
        return None

    async def _try(self, admitted: Admitted, course: Course, step: Step) -> Sent | PassedOn | None:
        """Do one step; None if no usable answer came of it."""
        if step.pause:
            await self._pause(admitted, step.pause)
        reserved = await self._reserve(admitted, course, step)
        if reserved is None:
            return None
        result = await self._send(admitted, reserved)
        if isinstance(result, Sent):
            course.succeeded(reserved.quote)
            return result
        if result.pass_on:
            course.succeeded(reserved.quote)
            return await self._pass_on(admitted, course, reserved, result)
        course.failed(reserved.quote, result)
        admitted.exchange.failed.append(reserved.quote.route.name)
        return None

    async def _pause(self, admitted: Admitted, seconds: float) -> None:
        """Wait with nothing held; a gateway that shuts down meanwhile has nothing to end."""
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

    async def _reserve(self, admitted: Admitted, course: Course, step: Step) -> Reserved | None:
        """Hold on the first quote that fits, giving back the attempt before it in the same step; None if none fits."""
        admitted.exchange.attempts += 1
        reach("before_hold")
        try:
            reserved = await self._admission.reserve(
                admitted, step.quotes, release=self._open, give_back=lambda: self._give_back(admitted)
            )
        except AlreadyBound:
            admitted.exchange.attempts -= 1
            await self._give_back(admitted)
            raise
        except LedgerUnavailable as error:
            # A hold whose answer was lost the ledger gives back by itself; the attempt before it may still be held.
            admitted.exchange.attempts -= 1
            await self._give_back(admitted)
            raise (failed(course) if course.presumed else ledger_unavailable()) from error
        except GatewayError as error:
            admitted.exchange.attempts -= 1
            self._open = None  # an earlier attempt was given back in the same step
            if not course.failures or (isinstance(error, Unavailable | ClientGone) and not course.presumed):
                raise
            course.denied(step)
            return None
        self._open, self._unbilled = reserved, ""
        reach("after_hold")
        admitted.exchange.quote = reserved.quote
        exchange, quote = admitted.exchange, reserved.quote
        for degraded in exchange.degradations(quote):
            self._observer.emit(degraded)
        for replaced in exchange.replacements(quote):
            self._observer.emit(replaced)
        self._tell_of_fallback(course, reserved)
        course.chosen(reserved.quote)
        return reserved

    def _tell_of_fallback(self, course: Course, reserved: Reserved) -> None:
        if course.failures:
            last, route = course.failures[-1], reserved.quote.route.name
            if last.quote.route.name != route:
                self._observer.emit(FellBack(last.quote.route.name, route, last.failure.reason))

    async def _send(self, admitted: Admitted, reserved: Reserved) -> Sent | UpstreamFailure:
        """Call the provider; what may have been billed is booked at once."""
        began = time.monotonic()
        try:
            reach("before_send")
            body, links = admitted.body, admitted.exchange.links
            answer = await send(self._providers, admitted.request_id, reserved.quote, body, links)
            reach("answer_begun")
            return Sent(reserved, answer, time.monotonic() - began)
        except UpstreamFailure as failure:
            self._observer.emit(UpstreamFailed(reserved.quote.route.name, failure.reason))
            if failure.outcome is Outcome.UNKNOWN:
                await self._presume(admitted, reserved, failure)
            self._unbilled = failure.reason
            return failure
        finally:
            admitted.exchange.upstream_seconds += time.monotonic() - began

    async def _pass_on(
        self, admitted: Admitted, course: Course, reserved: Reserved, failure: UpstreamFailure
    ) -> PassedOn:
        await self._give_back(admitted)
        if course.presumed or failure.outcome is Outcome.UNKNOWN:
            failure.headers = [*failure.headers, ("x-should-retry", "false")]
        return PassedOn(reserved, failure)

    async def _give_back(self, admitted: Admitted) -> None:
        """End the hold of the last call, which was surely not billed, if it is still there."""
        if self._open is not None:
            reach("before_void")
            await self._settlements.void(admitted.request_id, self._open.held.attempt, self._unbilled)
            reach("after_void")
            self._admission.ended(self._open.quote)
            self._open = None

    async def interrupted(self, admitted: Admitted) -> None:
        """End the hold that is still open after a cancellation or a fault of ours: the request may have left."""
        if self._unbilled:
            await self._give_back(admitted)
        elif self._open is not None:
            await self._presume(admitted, self._open, "interrupted")

    async def _presume(self, admitted: Admitted, reserved: Reserved, reason: UpstreamFailure | str) -> None:
        """Book the worst case, unconfirmed: nobody knows what the provider did."""
        await self.book(admitted, reserved, presume(admitted.request_id, reserved.held.attempt, reserved.quote, reason))

    async def book(self, admitted: Admitted, reserved: Reserved, settlement: Settlement) -> None:
        """Settle a hold and tell of it; the exchange's cost is that of all its attempts."""
        reach("before_settle")
        result = await self._settlements.settle(settlement)
        reach("after_settle")
        self._admission.ended(reserved.quote)
        self._open = None
        exchange = admitted.exchange
        exchange.cost = settlement.cost if exchange.cost is None else total(exchange.cost, settlement.cost)
        if exchange.source is not CostSource.PRESUMED:
            exchange.source = settlement.source
        exchange.images += settlement.images
        if result in (SettleResult.DONE, None):
            self._observer.emit(admitted.hold_ended(reserved.quote, settlement))


def total(one: Views, other: Views) -> Views:
    """Return the sum of two amounts, view by view."""
    return Views(one.official + other.official, one.route + other.route, one.internal + other.internal)


def ledger_unavailable() -> Unavailable:
    """Return the error for a hold that could not be taken, when no call may have been billed."""
    return Unavailable(
        "The ledger does not answer, so nothing can be held; nothing was spent. Please try again.",
        code="ledger_unavailable",
        retry_after=jittered(LEDGER_RETRY_AFTER, random.random),
    )


def failed(course: Course) -> GatewayError:
    """Return the error for a request whose calls all failed. Once any may have been billed it must not be repeated."""
    if course.presumed:
        return _presumed(course.failures)
    told, failures = _told(course.failures), [failed.failure for failed in course.failures]
    if all(failure.reason == "status_429" for failure in failures):
        message = f"Every route is at its provider's rate limit ({told}). Nothing was billed; please try again."
        return RateLimited(message, retry_after=course.retry_after(), should_retry=True)
    lasting = all(failure.reason.startswith("account") for failure in failures)
    return UpstreamError(f"Every route failed ({told}). Nothing was billed.", should_retry=False if lasting else None)


def _presumed(failures: Sequence[Failed]) -> GatewayError:
    unclear = [failed for failed in failures if failed.presumed]
    error = unknown(unclear[-1].failure)
    if len(failures) > 1:
        routes = " and ".join(failed.quote.route.name for failed in unclear)
        error.message = (
            f"Every route failed ({_told(failures)}). The work may have been done and billed by {routes}, "
            "and is booked so."
        )
    return error


def _told(failures: Sequence[Failed]) -> str:
    return "; ".join(f"{failed.quote.route.name}: {failed.failure.message}" for failed in failures)


def unknown(failure: UpstreamFailure, *, confirmed: bool = False) -> GatewayError:
    """Return the error for a call that may have been billed, and must not be repeated blindly.

    `confirmed` tells that the answer had said what it cost before it broke off.
    """
    kind = UpstreamTimeout if failure.reason == "timeout" else UpstreamError
    booked = "what it reported was booked" if confirmed else "its worst case was booked as unconfirmed"
    message = f"{failure.message}. The work may have been done and billed; {booked}."
    return kind(message, should_retry=False)
