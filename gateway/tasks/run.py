"""Task run: one task on its way in this process, from its queue to its end, over as many tries as it takes."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from functools import partial

from gateway.domain.caller import Caller
from gateway.domain.errors import GatewayError, InternalError, RateLimited, Unavailable, ledger_unavailable
from gateway.domain.task import TaskOrder, TaskStatus, task_of
from gateway.failpoint import reach
from gateway.lifecycle import Setup
from gateway.observe.event import RequestStarted
from gateway.ports import LedgerUnavailable
from gateway.ports.tasks import Taken
from gateway.request.answer_keeping import Whole
from gateway.request.batching import by_batch
from gateway.request.exchange import Admitted, Exchange
from gateway.request.flight import Flight
from gateway.request.flight_task import CANCELLED, NOT_HERE, FlightTask, cancelled
from gateway.steps.accept import accept
from gateway.steps.reserve import Reserved
from gateway.tasks.adding import is_wanted
from gateway.tasks.answer import read
from gateway.tasks.context import NotHere as NotHere
from gateway.tasks.context import TaskContext as TaskContext
from gateway.tasks.document import told
from gateway.tasks.ending import STORE_PAUSE as STORE_PAUSE
from gateway.tasks.ending import end, in_the_end
from gateway.tasks.flight import Gathered, KeptRequest, flown, whole
from gateway.tasks.kept_body import is_lost, kept_body
from gateway.tasks.promise import expired, within
from gateway.tasks.recovery import EarlierAttempts, earlier_attempts, recorded
from gateway.tasks.submissions import NotedInQueue, settled_by
from gateway.tasks.telling import Telling
from gateway.tasks.tried import Tried

log = logging.getLogger(__name__)

LONGEST_REST = 60.0
"""Seconds of the longest pause between two tries of a task that a quota, or every provider, keeps waiting."""


class TaskRun:
    """One task that this worker has.

    `begun` tells whether a call may have been sent from here, `at_work` whether one is under way; `sent` is told of
    each that begins. `parked` tells that it waits for a batch, or in one, and takes no room. `leaving` has it given
    back rather than tried once more; `let_go` tells that its worker has cancelled it for that.
    """

    def __init__(self, context: TaskContext, taken: Taken, sent: Callable[[], None] = lambda: None) -> None:
        self._context = context
        self._sent = sent
        self._record = taken.record
        self._order: TaskOrder = taken.record.order
        self.task_id = task_of(self._order.request_id)
        self.token = taken.token
        self.project, self.key_id = self._order.project, self._order.key_id
        self.begun = self.at_work = self.cancelled = self.parked = self.leaving = self.let_go = False
        self._exchange: Exchange | None = None
        self._gathered = taken.record.order.max_wait is None or taken.record.attempt is not None
        self._queued: int | None = self._order.queued_hold
        self._spent = 0
        self._kept: Whole | None = None
        self._again = taken.again
        self._telling = Telling(context.flight_context.observer, self._order)
        self._submissions = NotedInQueue(context.tasks, self.task_id, self.token, taken.record.submitted or None)

    async def run(self) -> None:
        """Do the work and end the task; raises NotHere if that is up to somebody else."""
        try:
            await self._run()
        finally:
            self._telling.rests()  # what has not ended it from here: it goes on, or another worker has ended it

    async def _run(self) -> None:
        reach("task_taken")
        before = await self._before() if self._record.attempt is not None or self._again else None
        if before is not None:
            self._queued, self._spent = None, before.before if before.follow else before.cost
        tries = 0
        while True:
            self._telling.before = before
            if (why := self._no_more(before)) is not None:
                await self._finish(in_the_end(before, why))
                return
            if not self._gathered and (before is None or not before.follow):
                await self._gather()
            tried = await self._try(before)
            self.parked, self.at_work = self._by_batch(), False
            before, self._queued = tried.before, tried.queued
            self._spent += tried.cost or 0
            outcome = tried.outcome if isinstance(tried.outcome, Whole) else self._kept or tried.outcome
            if await self._is_last(outcome, tried):
                self._spent = before.cost if before is not None and before.follow else self._spent  # nobody follows it
                await self._finish(outcome if tried.cost is not None else in_the_end(before, outcome))
                return
            assert isinstance(outcome, GatewayError)
            self._telling.rests()
            self.begun = False  # nothing is under way until the next call
            tries += 1
            if self.leaving:
                raise NotHere
            await asyncio.sleep(self._pause(outcome, tries))

    async def _is_last(self, outcome: Whole | GatewayError, tried: Tried) -> bool:
        """Tell whether a try ends the task; raises NotHere if another worker goes on."""
        lost = self._telling.body_lost = is_lost(outcome)
        never_began, ledger = self._record.attempt is None, self._context.flight_context.ledger
        if lost and never_began and not await is_wanted(self._context.tasks, ledger, self._order):
            raise NotHere
        return not self._passes(outcome, tried)

    def _no_more(self, before: EarlierAttempts | None) -> GatewayError | None:
        """Return why no call may begin any more; None if one may, or one is to be followed."""
        if before is not None and before.follow:
            return None
        if self.cancelled or self._record.cancel_asked:
            return cancelled()
        return expired() if time.time() > self._order.not_after else None

    def _pause(self, error: GatewayError, tries: int) -> float:
        """Return the seconds until another try is worth it; no more than are left for the task to wait, but for one."""
        chance = random.uniform(0, min(2.0**tries, LONGEST_REST))  # noqa: S311 - jitter, not a secret
        return min((error.retry_after or STORE_PAUSE) + chance, max(self._order.not_after - time.time(), STORE_PAUSE))

    async def _before(self) -> EarlierAttempts | None:
        """Find out what an earlier worker did; a task whose answer is kept ends by it.

        Where its cost was not booked and the work can be followed, that is done first, for what it says of the cost.
        """
        answer = await self._context.flight_context.answers.find(self._order.request_id)
        kept = await recorded(self._context, self._record, self.token, STORE_PAUSE)
        found = earlier_attempts(self._record, kept) if self._record.attempt is not None else None
        if answer is None:
            return found
        self._kept = await whole(answer)
        if found is not None and found.follow and not found.settled:
            return found
        self._spent = found.cost if found is not None else 0
        self._telling.before = found
        await self._finish(self._kept)
        raise NotHere

    async def _gather(self) -> None:
        """Wait for others with which it may go by a batch, if it may."""
        try:
            admitted = await self._admitted(Exchange(KeptRequest.of(self._order)), self._context.current(), None)
        except GatewayError:
            return  # the try tells it
        await admitted.body.aclose()
        self.parked = admitted.ranked.quotes[0].batch is not None
        await self._context.gates.wait(admitted, self._order.created)
        self._gathered = True

    async def _try(self, before: EarlierAttempts | None) -> Tried:
        """Decide by today's policy, hold, send, settle; whatever comes of it is returned."""
        context, order = self._context, self._order
        exchange, setup = Exchange(KeptRequest.of(self._order), spent_before=self._spent), context.current()
        self._exchange = None
        context.flight_context.observer.emit(RequestStarted(order.operation, exchange.inbound, task=True))
        try:
            admitted = await self._admitted(exchange, setup, before)
        except GatewayError as error:
            self._telling.tried([exchange.finished(error.status, code=error.code)])
            return Tried(error, None, self._queued, before)
        except BaseException:
            self._telling.tried([exchange.finished(Unavailable.status, code="interrupted")])
            raise
        task, self._exchange = exchange.task, exchange
        assert task is not None
        relay, self.parked = Gathered(), admitted.ranked.quotes[0].batch is not None
        try:
            outcome = await flown(Flight(admitted, context.flight_context, setup.providers, relay, None), relay)
        finally:
            self._telling.tried(task.told)
        cost = exchange.cost.route if exchange.cost else None
        return Tried(outcome, cost, task.queued, before and before.lasting)

    async def _admitted(self, exchange: Exchange, setup: Setup, before: EarlierAttempts | None) -> Admitted:
        order, linker, today = self._order, self._context.planner.linker, self._context.flight_context.today()
        exchange.wishes = accept(order.headers)
        exchange.caller = caller = Caller(order.key_id, order.project, order.key_job_type)
        body = await kept_body(self._context, order)
        try:
            try:
                project = await self._context.project(caller, setup.policy)
                admitted, _ = self._context.planner.admitted(exchange, caller, project, setup.policy, body)
            except GatewayError:
                if before is None or not before.follow:
                    raise
                admitted = before.admitted(exchange, caller, setup.policy, body, today)
            admitted = before.carried_on(admitted) if before is not None else admitted
            follows = before is not None and before.follow
            admitted = by_batch(admitted, order.max_wait, order.not_after, under_way=follows, most=order.most)
            resumed = before.resumed(admitted, today, order.not_after) if before is not None else None
            admitted = within(admitted, order.most, resumed.quote if resumed is not None else None)
        except BaseException:
            await body.aclose()
            raise
        exchange.links = linker.links_at(order.project, order.base, archived=exchange.archive is not None)
        if resumed is not None:
            self._goes_out()
        patience = max(order.not_after - time.time(), 0.0)
        until = time.monotonic() + patience
        exchange.task = FlightTask(self._queued, until, self._begins, self._submissions, self._unwanted, resumed)
        return admitted

    async def _begins(self, reserved: Reserved, multiplier: Fraction) -> bool:
        """Note that a call is about to be sent; False if it must not be."""
        quote, attempt, route = reserved.quote, reserved.held.attempt, reserved.quote.route.name
        self._submissions.begin(attempt, partial(settled_by, quote.official_price, quote.route_price, multiplier))
        try:
            mine = await self._context.serves(self.project, self.key_id)
            mine = mine and await self._context.tasks.began(self.task_id, self.token, route=route, attempt=attempt)
        except LedgerUnavailable as error:
            log.warning("task %s cannot begin: %s", self.task_id, error)
            raise ledger_unavailable() from error
        if mine:
            self._goes_out()
            reach("task_begun")
        elif await self._unwanted():
            raise cancelled()
        return mine

    async def _unwanted(self) -> bool:
        """Tell whether the task's cancelling was asked for, as far as anybody can tell."""
        if not self.cancelled:
            try:
                known = await self._context.tasks.find(self.task_id)
            except LedgerUnavailable as error:
                log.warning("whether task %s is still wanted is not known: %s", self.task_id, error)
                return False
            self.cancelled = known is not None and known.cancel_asked
        return self.cancelled

    def _goes_out(self) -> None:
        self.begun = self.at_work = True
        self.parked = self._by_batch()
        self._sent()

    def _by_batch(self) -> bool:
        """Tell whether what was tried last goes by batch; so does what rests until an account has room for it."""
        quote = self._exchange.quote if self._exchange is not None else None
        return quote is not None and quote.batch is not None

    def _passes(self, outcome: Whole | GatewayError, tried: Tried) -> bool:
        """Tell whether it is worth another try later: nothing was spent, and what stood in the way may pass."""
        if isinstance(outcome, GatewayError) and outcome.code == NOT_HERE:
            raise NotHere  # if its cancelling was asked for, whoever takes it next ends it so
        if isinstance(outcome, Whole) or tried.cost is not None:
            return False
        if outcome.code == "shutting_down":
            raise NotHere
        return isinstance(outcome, RateLimited | Unavailable) or self._context.is_early(outcome, self._order)

    async def _finish(self, outcome: Whole | GatewayError) -> None:
        if isinstance(outcome, GatewayError):
            wanted = outcome.code != CANCELLED
            status = TaskStatus.FAILED if wanted else TaskStatus.CANCELLED
            await self._end(outcome, status, error=told(outcome) if wanted else None)
            return
        said = read(outcome.body)
        if outcome.status == 200:  # noqa: PLR2004 - the one status of an answer with images
            await self._end(outcome, TaskStatus.COMPLETED, result=said)
        else:
            await self._end(outcome, TaskStatus.FAILED, error=said.get("error", said))

    async def fail(self) -> None:
        """End a task that met a fault of ours."""
        error = InternalError(f"Something went wrong here. Request id: {self._order.request_id}.")
        await self._end(error, TaskStatus.FAILED, error=told(error))

    async def _end(
        self,
        outcome: Whole | GatewayError,
        status: TaskStatus,
        *,
        result: Mapping[str, object] | None = None,
        error: Mapping[str, object] | None = None,
    ) -> None:
        """End the task for good, its callback with it; waits for a store that is away."""
        reach("before_task_end")
        ended = replace(self._record, status=status, result=result, error=error, cost=self._spent)
        await end(self._context, ended, self.token, partial(self._telling.ended, outcome))

    async def give_back(self) -> None:
        """Let another worker have it at once."""
        self._submissions.close()
        await self._context.tasks.give_back(self.task_id, self.token)
