"""Flight: an admitted request on its way: reserve → send → settle → write.

The client may leave; the answer is read to its end and settled all the same, and kept for whoever repeats the request.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

from gateway.domain.errors import GatewayError, InternalError, Unavailable, UpstreamError
from gateway.domain.idempotency import Bound
from gateway.observe.event import RequestDenied, RequestFinished
from gateway.ports import Outbound, Truncated
from gateway.request.answer_handling import GOOD, AnswerHandler, Onward, Shown
from gateway.request.attempt import PassedOn, Sent
from gateway.request.context import own_headers
from gateway.request.duplicates import Ending, reused
from gateway.request.earlier_answer import EarlierAnswers
from gateway.request.entitlement import Superseded
from gateway.steps.reserve import AlreadyBound
from gateway.steps.write import REPLAYED

log = logging.getLogger(__name__)

ROUNDS = 3
"""How often a request tries to begin whose forerunners all came to nothing."""

Rest = Callable[[], Awaitable[None]]
"""Does what is left of a flight while its client takes the answer, or afterwards."""


class Flight(AnswerHandler):
    """One request from its hold to its end. `shared` is what others wait for that repeat it meanwhile."""

    __slots__ = ()

    async def run(self) -> None:
        """Do it to its end, whether or not the client stays."""
        onward = await self.take_off()
        if onward is not None:
            await onward()

    def take_off(self) -> Coroutine[Any, Any, Rest | None]:
        """Do it as far as the client need not take any of the answer meanwhile: small answers to their end.

        The relay has the answer then, or its beginning. What is returned is to be done while the client takes it.
        """
        return self._part(self._fly())

    async def _part(self, part: Awaitable[Shown | Onward]) -> Rest | None:
        """Do a part of it; what cuts it short ends it, in a task that nothing cuts short, and is raised then."""
        try:
            try:
                shown = await part
            except GatewayError as error:
                await self._fail(error)
                shown = Shown(error.status, error.code)
        except BaseException as error:
            ending = asyncio.create_task(self._cut_short(error))
            while not ending.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({ending})
            ending.result()
            raise
        return await self._land(shown) if isinstance(shown, Shown) else partial(self._go_on, shown)

    async def _go_on(self, onward: Onward) -> None:
        rest = await self._part(onward())
        if rest is not None:
            await rest()

    async def _cut_short(self, error: BaseException) -> None:
        try:
            await self._attempts.interrupted(self._admitted)
        finally:
            fault = self._fault(error)
            self._end(Ending(error=fault))
            self._tell_error(fault)
            rest = await self._land(Shown(fault.status, fault.code))
        if rest is not None:
            await rest()

    async def _land(self, shown: Shown) -> Rest | None:
        """Free what it had, and tell of it; what is kept of its answer takes as long as its client."""
        admitted, exchange, relay = self._admitted, self._exchange, self._relay
        if exchange.tracker is not None:
            exchange.tracker.left()
        shadow = admitted.job_type.shadow is not None and shown == GOOD and exchange.sampled and not exchange.replayed
        if not shadow:
            await admitted.body.aclose()
        gone, sent = relay.client_gone, relay.bytes_out
        status, code, error_type = shown
        self._tell(exchange.finished(status, code=code, error_type=error_type, client_gone=gone, bytes_out=sent))
        return partial(self._keep_on, shadow=shadow) if shadow or self._keeper is not None else None

    def _tell(self, event: RequestDenied | RequestFinished) -> None:
        """Tell how it ended, or let a task's worker do so: a task may be tried again."""
        task = self._exchange.task
        if task is None:
            self._context.observer.emit(event)
        else:
            task.told.append(event)

    async def _keep_on(self, *, shadow: bool) -> None:
        """Keep the answer as long as it may be asked for, and have the request repeated by its shadow."""
        try:
            if self._keeper is not None:
                await self._keeper.end()
        except BaseException:
            if shadow:
                await self._admitted.body.aclose()
            raise
        if shadow:
            await self._context.shadows.follow(self._admitted, self._providers)

    def landed(self) -> None:
        """Tell those who wait for it still, if there are any, that it came to nothing."""
        if self.shared is not None:
            self.shared.end(Ending(error=InternalError("The request that this one repeats was interrupted.")))

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

    async def _fly(self) -> Shown | Onward:
        """Do the work, unless an earlier request has begun it: then wait for that one's answer."""
        rounds = 0
        while rounds < ROUNDS:
            try:
                if rounds and not self._exchange.attempts:  # the policy or the day may have changed while it waited
                    await self._context.entitlement.check(self._admitted)
                found = await self._attempts.first_that_works(self._admitted)
            except Superseded as superseded:
                self._admitted, self._providers = await self._attempts.renewed(self._admitted, superseded)
                self._keeper = self._keeper or self._new_keeper()  # a shadow that the new policy adds needs one
                continue
            except AlreadyBound as earlier:
                answer = await self._earlier(earlier.bound)
                if answer is not None:
                    return self._replay(earlier.bound.request_id, answer)
                rounds += 1
                continue
            result: Sent | PassedOn | Shown | Onward = found or self._attempts.exhausted()
            while isinstance(result, Sent):
                result = await self._deliver(result)
                if isinstance(result, Shown):
                    return result
            return await self._pass_on(result) if isinstance(result, PassedOn) else result
        raise UpstreamError("The requests that this one repeats all failed. Nothing was billed; please try again.")

    async def _earlier(self, bound: Bound) -> Outbound | None:
        """Wait for the answer of the request that this one repeats; None if nothing came of that."""
        if not bound.same:
            raise reused()
        keeper = self._keeper
        assert keeper is not None, "whoever is bound, by a key or by a claim, may be repeated"
        keeper.follow(bound.request_id)
        binding, began = self._exchange.binding, time.monotonic()
        claimed = binding is not None and binding.claim
        try:
            answer = await EarlierAnswers(self._context.ledger, self._context.answers).answer(
                bound.request_id, claimed=claimed
            )
        except BaseException:
            if claimed:
                keeper.leave_behind()  # whoever asks next is to find what this one waited for
            raise
        self._exchange.upstream_seconds += time.monotonic() - began
        if answer is None:
            keeper.follow(self._admitted.request_id)
        return answer

    def _replay(self, request_id: str, answer: Outbound) -> Onward:
        """Give the client the answer that another request brought."""
        self._exchange.replayed = True
        self._end(Ending(kept=request_id))
        self._relay.open(answer.status, [*answer.headers, REPLAYED])
        return partial(self._give, answer)

    async def _give(self, answer: Outbound) -> Shown:
        try:
            async for chunk in answer.chunks:
                await self._relay.write(chunk)
        except Truncated:
            self._relay.abort()
        else:
            self._relay.close()
        return Shown(answer.status, "")

    async def _fail(self, error: GatewayError) -> None:
        """Give the client an error; no answer came, or none that is any use. A hold that is still open ends."""
        exchange = self._exchange
        await self._attempts.interrupted(self._admitted, error)
        cost = (exchange.cost.route if exchange.cost else 0) if exchange.quote else None
        error.headers += own_headers(self._admitted, self._context.today, cost=cost)
        if error.status in (402, 429) and not exchange.attempts:  # after a call, it was a provider that refused
            self._tell(RequestDenied(self._admitted.project.name, error.code))
        await self._keep_error(error)
        self._tell_error(error)
