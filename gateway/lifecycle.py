"""A request from start to finish: the only place that knows the order, and that a hold always ends.

    accept → authenticate → (read the body) → classify → price → rank → reserve → send → settle → write

From `reserve` on, the work runs in a task of its own: the client may leave, the answer is read to its end and settled.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple

from gateway.attempt import Attempts, PassedOn, Sent, unknown
from gateway.delivery import Delivery
from gateway.domain.budget import Held
from gateway.domain.caller import Caller
from gateway.domain.errors import Forbidden, GatewayError, InternalError, Unavailable, UpstreamError
from gateway.domain.policy import Policy, Project
from gateway.domain.settlement import CostSource, Reading
from gateway.exchange import Admitted, Exchange
from gateway.explanation import explanation
from gateway.observe.event import Observer, RequestDenied, RequestStarted, UpstreamFailed, UpstreamFinished
from gateway.ports import Headers, Inbound, Keyring, Ledger, Outbound, Provider, Settlements, UpstreamFailure
from gateway.relay import Relay
from gateway.steps.accept import accept
from gateway.steps.authenticate import authenticate
from gateway.steps.classify import classify, find_job_type
from gateway.steps.price import able_routes, price
from gateway.steps.rank import rank
from gateway.steps.settle import settle
from gateway.steps.write import Decision, write

log = logging.getLogger("gateway.lifecycle")


class Setup(NamedTuple):
    """What a reload replaces as one: the policy and the providers it names."""

    policy: Policy
    providers: Mapping[str, Provider]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one process takes on at once."""

    in_flight: int = 10_000


class Lifecycle:
    """Runs image requests. One instance per process; `current` returns the setup that new requests use."""

    def __init__(
        self,
        *,
        current: Callable[[], Setup],
        keyring: Keyring,
        ledger: Ledger,
        settlements: Settlements,
        observer: Observer,
        today: Callable[[], date],
        limits: Limits | None = None,
    ) -> None:
        self._current = current
        self._keyring = keyring
        self._ledger = ledger
        self._settlements = settlements
        self._observer = observer
        self._today = today
        self._limits = limits or Limits()
        self._running: set[asyncio.Task[None]] = set()
        self._draining = False

    @property
    def draining(self) -> bool:
        """Whether the gateway is shutting down and takes no new work."""
        return self._draining

    async def handle(self, inbound: Inbound) -> Outbound:
        """Answer one request; raises GatewayError where there is an error to show."""
        exchange, setup = Exchange(inbound), self._current()
        self._observer.emit(RequestStarted(str(inbound.operation)))
        try:
            admitted = await self._admit(exchange, setup)
            if exchange.wishes.dry_run:
                return await self._explain(admitted)
        except GatewayError as error:
            self._refused(exchange, error)
            raise
        except BaseException:
            self._observer.emit(exchange.finished(InternalError.status, code=InternalError.default_code))
            raise
        relay = Relay()
        self._start(self._serve(admitted, setup.providers, relay))
        return await relay.head()

    async def _admit(self, exchange: Exchange, setup: Setup) -> Admitted:
        """Everything before money: who, what, where and at what price."""
        inbound = exchange.inbound
        exchange.wishes = wishes = accept(inbound.headers)
        exchange.caller = caller = await authenticate(inbound.headers, self._keyring)
        project = project_of(caller, setup.policy)
        self._check_room()
        began = time.monotonic()
        body = await inbound.read_body()
        exchange.client_seconds += time.monotonic() - began
        try:
            exchange.job = job = classify(inbound.operation, inbound.path_model, body)
            exchange.job_type = job_type = find_job_type(job, wishes, caller, project, setup.policy)
            quotes, refusals = price(job, job_type, project, wishes.lane, self._today())
            able = [] if quotes else able_routes(job, setup.policy, project, wishes.lane, self._today())
            ranked = rank(
                quotes,
                refusals,
                client_model=job.client_model,
                wishes=wishes,
                job_type=job_type,
                project=project,
                policy=setup.policy,
                able=able,
            )
        except BaseException:
            await body.aclose()
            raise
        return Admitted(exchange, caller, project, job, job_type, setup.policy, ranked, body)

    def _check_room(self) -> None:
        if self._draining:
            raise Unavailable("The gateway is shutting down; please try again.", code="shutting_down", retry_after=1)
        if len(self._running) >= self._limits.in_flight:
            raise Unavailable("The gateway is at its limit of requests in flight.", code="overloaded", retry_after=1)

    def _refused(self, exchange: Exchange, error: GatewayError) -> None:
        if error.status in (402, 403, 404, 429):
            project = exchange.caller.project if exchange.caller else "none"
            self._observer.emit(RequestDenied(project, error.code))
        self._observer.emit(exchange.finished(error.status, code=error.code))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # it was logged and answered where it arose

    async def _serve(self, admitted: Admitted, providers: Mapping[str, Provider], relay: Relay) -> None:
        """Do an admitted request to its end, whether or not the client stays."""
        exchange = admitted.exchange
        attempts = Attempts(self._ledger, self._settlements, providers, self._observer)
        status, code = InternalError.status, InternalError.default_code
        try:
            sent = await attempts.first_that_works(admitted)
            if isinstance(sent, PassedOn):
                status = await self._pass_on(admitted, sent, relay)
                code = sent.failure.reason
            else:
                status, code = await self._deliver(admitted, attempts, sent, relay)
        except GatewayError as error:
            status, code = error.status, error.code
            cost = exchange.cost.route if exchange.cost else 0
            error.headers += self._headers(admitted, cost=cost if exchange.quote else None)
            if status in (402, 429) and exchange.quote is None:  # with a quote, it was a provider that refused
                self._observer.emit(RequestDenied(admitted.project.name, code))
            relay.fail(error)
        except BaseException as error:
            await asyncio.shield(attempts.interrupted(admitted))
            if not isinstance(error, asyncio.CancelledError):
                log.exception("request %s failed", admitted.request_id)
            relay.fail(InternalError(f"Something went wrong here. Request id: {admitted.request_id}."))
            raise
        finally:
            await admitted.body.aclose()
            self._observer.emit(
                exchange.finished(status, code=code, client_gone=relay.client_gone, bytes_out=relay.bytes_out)
            )

    async def _deliver(self, admitted: Admitted, attempts: Attempts, sent: Sent, relay: Relay) -> tuple[int, str]:
        """Relay the answer, settle in between, and return the status and error code the client got."""
        exchange, reserved, answer = admitted.exchange, sent.reserved, sent.answer
        delivery = Delivery(answer, relay, lambda cost: self._headers(admitted, reserved.held, cost))
        broken: UpstreamFailure | None = None
        try:
            await delivery.pump()
        except UpstreamFailure as failure:
            broken = failure
        finally:
            exchange.upstream_seconds += delivery.upstream_seconds
            await answer.aclose()
        reading = answer.reading()
        settlement = settle(
            admitted.request_id,
            reserved.held.attempt,
            reserved.quote,
            reading,
            admitted.project.multiplier,
            upstream_request_id=answer.upstream_request_id,
        )
        await attempts.book(admitted, reserved, settlement)
        confirmed = settlement.source is not CostSource.PRESUMED
        error = spoiled(reading, broken, event_stream=answer.event_stream, confirmed=confirmed)
        if error is None:
            seconds = sent.seconds + delivery.upstream_seconds
            self._observer.emit(UpstreamFinished(reserved.quote.route.name, seconds))
            await delivery.finish(settlement.cost.route)
            exchange.client_seconds += delivery.client_seconds
            return answer.status, reading.error or ""
        self._observer.emit(UpstreamFailed(reserved.quote.route.name, broken.reason if broken else "garbage"))
        error.headers += self._headers(admitted, reserved.held, settlement.cost.route)
        await delivery.break_off(error)
        exchange.client_seconds += delivery.client_seconds
        return error.status, error.code

    async def _pass_on(self, admitted: Admitted, passed: PassedOn, relay: Relay) -> int:
        """Give the client the provider's own refusal as it came."""
        failure = passed.failure
        status = failure.status or UpstreamError.status
        cost = admitted.exchange.cost.route if admitted.exchange.cost else 0
        relay.open(status, [*failure.headers, *self._headers(admitted, passed.reserved.held, cost)])
        await relay.write(failure.body)
        relay.close()
        return status

    def _headers(self, admitted: Admitted, held: Held | None = None, cost: int | None = None) -> Headers:
        exchange = admitted.exchange
        quote = exchange.quote or admitted.ranked.quotes[0]
        decision = Decision(admitted.request_id, admitted.job_type.name, quote, exchange.attempts, held, cost)
        return write(decision, self._today())

    async def _explain(self, admitted: Admitted) -> Outbound:
        """Answer a dry run: the decision alone; nothing is held and nothing is sent."""
        await admitted.body.aclose()
        admitted.exchange.quote = admitted.ranked.quotes[0]
        body = json.dumps(explanation(admitted), indent=2).encode() + b"\n"
        headers = [("content-type", "application/json"), ("content-length", str(len(body)))]
        self._observer.emit(admitted.exchange.finished(200))
        return Outbound(200, [*headers, *self._headers(admitted)], whole(body))

    def refuse_new_work(self) -> None:
        """Answer new requests with 503 from now on."""
        self._draining = True

    async def drain(self, seconds: float) -> int:
        """Take no new work and wait for what runs; the rest is presumed spent after `seconds`, and counted."""
        self._draining = True
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)
        left = list(self._running)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        return len(left)


def project_of(caller: Caller, policy: Policy) -> Project:
    """Return the caller's project, or Forbidden if policy no longer names it."""
    project = policy.projects.get(caller.project)
    if project is None:
        message = f"Policy has no project {caller.project!r}, which this key belongs to; ask your platform team."
        raise Forbidden(message, code="project_not_found")
    return project


def spoiled(
    reading: Reading, broken: UpstreamFailure | None, *, event_stream: bool, confirmed: bool
) -> GatewayError | None:
    """Return the error for an answer that came with a 2xx but is no answer; None if it is good."""
    if broken is not None:
        return unknown(broken, confirmed=confirmed)
    if not reading.complete:
        message = "The provider's answer is not whole or not readable. The work may have been done and billed."
        return UpstreamError(message, should_retry=False)
    if not reading.images and not event_stream:
        found = f"an error ({reading.error})" if reading.error else "no image"
        message = f"The provider answered 200 with {found}. The work may have been done and billed."
        return UpstreamError(message, should_retry=False)
    return None


async def whole(body: bytes) -> AsyncIterator[bytes]:
    """Yield a body that is at hand in one piece."""
    yield body
