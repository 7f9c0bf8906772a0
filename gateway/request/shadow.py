"""Shadows: some requests that succeeded are repeated on another route, for comparison alone.

Nobody waits for a shadow and nobody gets its answer. It has a request id, a hold and a settlement of its own, on the
shadow's budget; it is tried once. A shadow takes the request's body over and frees it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from functools import partial

from gateway.domain import money
from gateway.domain.budget import Held
from gateway.domain.errors import GatewayError
from gateway.domain.job import Wishes
from gateway.domain.policy import ClientModel, Order, Shadow
from gateway.domain.route import Quote
from gateway.domain.settlement import Outcome, Settlement
from gateway.domain.trial import PRODUCTION, SHADOW_SUFFIX
from gateway.observe.event import NONE, Observer, ShadowEnded
from gateway.observe.hold_ends import tell_hold
from gateway.ports import Answers, Headers, Ledger, LedgerUnavailable, Recording, Settlements
from gateway.ports.provider import Answer, Provider, UpstreamFailure
from gateway.request.admission import AdmissionState
from gateway.request.comparison import Comparisons, store_primary
from gateway.request.exchange import Admitted
from gateway.request.told_calls import failed, is_error, no_answer, tell_answered, tell_failed
from gateway.routing.decision import Asked, decide
from gateway.steps.rank import dropping_old, named
from gateway.steps.reserve import shadow_candidate
from gateway.steps.send import send
from gateway.steps.settle import charge, presume, settle
from gateway.steps.write import COST

log = logging.getLogger(__name__)

AT_ONCE = 16
"""Shadows under way in one process; what comes beyond is dropped, for they must not pile up behind a slow route."""

Providers = Mapping[str, Provider]


@dataclass(frozen=True, slots=True)
class Repetition:
    """A request that is to be repeated, and how."""

    admitted: Admitted
    shadow: Shadow
    providers: Providers

    @property
    def request_id(self) -> str:
        """The shadow's own."""
        return self.admitted.request_id + SHADOW_SUFFIX

    def about(self) -> dict[str, object]:
        """Return what the ledger's record says of it: all that it says of the request, but for its trial."""
        kept = {name: value for name, value in self.admitted.about().items() if name not in {"experiment", "arm"}}
        return {**kept, "passed_over": [], "shadow": True, "shadow_of": self.admitted.request_id}

    def quote(self, today: date) -> Quote:
        """Return what the shadow's route would do and cost; GatewayError if it cannot do the job."""
        admitted, policy = self.admitted, self.admitted.policy
        # The client's model chooses no shadow, but what only that took is not for the shadow's model either.
        wanted = named(admitted.job, admitted.job_type, admitted.project, policy, today)
        kind = replace(
            admitted.job_type,
            routes=(replace(self.shadow.route, lane=PRODUCTION),),
            max_cost_per_image=None,
            order=Order.LISTED,
            degrade=(),
            experiment=None,
        )
        project = replace(admitted.project, client_model=ClientModel.IGNORE, lanes=frozenset({PRODUCTION}))
        asked = Asked(dropping_old(admitted.job, wanted), Wishes(), admitted.caller, project, policy, today)
        return decide(asked, kind).quotes[0]


@dataclass(slots=True)
class _Work:
    """A shadow whose hold is taken: what came of it. Without a settlement or a reason, it was cut off."""

    repetition: Repetition
    quote: Quote
    attempt: int
    recording: Recording
    settlement: Settlement | None = None
    unbilled: str = ""
    headers: Headers | None = None
    cost: int = 0

    def own_headers(self) -> Headers:
        """What is stored of the shadow beside the provider's own headers, in the words of the gateway's."""
        return [
            ("x-request-id", self.repetition.request_id),
            ("X-Gateway-Shadow-Of", self.repetition.admitted.request_id),
            ("X-Gateway-Route", self.quote.route.name),
            (COST, money.format_usd(self.cost)),
        ]


class Shadows:
    """Repeats requests in the background, and stores both answers among `comparisons`. One instance per process."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        settlements: Settlements,
        observer: Observer,
        today: Callable[[], date],
        answers: Answers,
        comparisons: Comparisons,
        admissions: AdmissionState,
        at_once: int = AT_ONCE,
    ) -> None:
        self._ledger = ledger
        self._settlements = settlements
        self._observer = observer
        self._today = today
        self._answers = answers
        self._comparisons = comparisons
        self._admissions = admissions
        self._at_once = at_once
        self._running: set[asyncio.Task[None]] = set()
        self._endings: set[asyncio.Task[None]] = set()
        self._closed = False

    async def follow(self, admitted: Admitted, providers: Providers) -> None:
        """Begin to repeat a request that succeeded, or drop it; returns at once, and frees its body in either case."""
        shadow = admitted.job_type.shadow
        assert shadow is not None
        repetition = Repetition(admitted, shadow, providers)
        if self._closed or len(self._running) >= self._at_once:
            await admitted.body.aclose()
            self._tell(repetition, "dropped")
            return
        task = asyncio.create_task(self._run(repetition))
        self._running.add(task)
        task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a shadow request failed", exc_info=error)

    async def _run(self, repetition: Repetition) -> None:
        result = "failed"
        try:
            result = await self._repeat(repetition)
        finally:
            await repetition.admitted.body.aclose()
            self._tell(repetition, result)

    async def _repeat(self, repetition: Repetition) -> str:
        quote = self._quote(repetition)
        if quote is None:
            return "unable"
        room, capacity = self._admissions.room, self._admissions.capacity
        if room.ahead(quote) is not None or capacity.rests(quote):
            return "denied"  # clients wait for the route, or its account has said that it is full
        candidate = shadow_candidate(quote, repetition.shadow, capacity.limits)
        try:
            held = await self._ledger.choose_and_hold(repetition.request_id, [candidate], about=repetition.about())
        except LedgerUnavailable:
            return "dropped"
        if not isinstance(held, Held):
            return "denied"
        recording = self._comparisons.record(repetition.admitted.request_id, "shadow")
        return await self._do(_Work(repetition, quote, held.attempt, recording))

    def _quote(self, repetition: Repetition) -> Quote | None:
        """None where the two answers could not be compared: another picture was made, or one would be."""
        made = repetition.admitted.exchange.quote
        if made is None or made.degraded:
            return None
        try:
            return repetition.quote(self._today())
        except GatewayError as error:
            log.info("no shadow of request %s: %s", repetition.admitted.request_id, error.message)
            return None

    async def _do(self, work: _Work) -> str:
        """Send it, read it and end its hold; what is cut off is presumed spent."""
        try:
            try:
                await self._call(work)
            finally:
                await self._end(work)
                self._admissions.room.ended(work.quote)
            if work.headers is None:
                return "failed"
            await work.recording.commit(200, [*work.headers, *work.own_headers()])
            await store_primary(self._comparisons, self._answers, work.repetition.admitted)
            return "ok"
        finally:
            await work.recording.discard()

    async def _call(self, work: _Work) -> None:
        """Send and read; leaves in the work how its hold ends, and the answer's headers if it is a good one."""
        repetition, quote, began = work.repetition, work.quote, time.monotonic()
        try:
            answer = await send(repetition.providers, repetition.request_id, quote, repetition.admitted.body)
        except UpstreamFailure as failure:
            tell_failed(self._observer, quote.route.name, (failure, *failure.others))
            multiplier = repetition.admitted.project.multiplier
            end = presume if failure.outcome is Outcome.UNKNOWN else charge
            work.settlement = end(repetition.request_id, work.attempt, quote, failure, multiplier)
            work.unbilled = "" if work.settlement else failure.reason
            return
        broken = await self._read(answer, work)
        reading, seconds = answer.reading(), time.monotonic() - began
        work.settlement = settle(
            repetition.request_id,
            work.attempt,
            quote,
            reading,
            repetition.admitted.project.multiplier,
            upstream_request_id=answer.upstream_request_id,
            seconds=seconds,
        )
        if broken is None and reading.complete and (reading.images or is_error(reading)):
            tell_answered(self._observer, quote.route.name, answer, reading, seconds)
            work.headers = answer.headers if reading.images else None
            return
        whole = broken or no_answer("the answer is no answer")
        tell_failed(self._observer, quote.route.name, failed(answer, whole))

    async def _read(self, answer: Answer, work: _Work) -> UpstreamFailure | None:
        """Read the answer to its end; returns the failure if it broke off."""
        try:
            async for chunk in answer.chunks():
                await work.recording.write(chunk)
        except UpstreamFailure as failure:
            return failure
        finally:
            await answer.aclose()
        return None

    async def _end(self, work: _Work) -> None:
        """End the hold, to the end of it even if the shadow is cancelled meanwhile."""
        task = asyncio.create_task(self._settle(work))
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)
        await asyncio.shield(task)

    async def _settle(self, work: _Work) -> None:
        request_id = work.repetition.request_id
        if work.unbilled:
            await self._settlements.void(request_id, work.attempt, work.unbilled)
            return
        settlement = work.settlement or presume(request_id, work.attempt, work.quote, "interrupted")
        work.cost = settlement.cost.route
        told = replace(
            work.repetition.admitted.hold_ended(work.quote, settlement), experiment=NONE, arm=NONE, shadow=True
        )
        await self._settlements.settle(settlement, ended=partial(tell_hold, self._observer, told))

    def _tell(self, repetition: Repetition, result: str) -> None:
        shadow = repetition.shadow
        self._observer.emit(ShadowEnded(repetition.admitted.job_type.name, shadow.route.name, result))

    async def aclose(self) -> None:
        """Begin no more, and cut off those under way; returns once their holds have ended."""
        self._closed = True
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await asyncio.gather(*self._endings, return_exceptions=True)
