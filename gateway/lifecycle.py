"""A request from start to finish: the only place that knows the order, and that a hold always ends.

    accept → authenticate → (read the body) → classify → compatibility → experiment → price → rank
      → reserve → send → settle → write

From `reserve` on it is a `Flight`: the client may leave, the answer is read to its end and settled. A request that
repeats one in flight takes no flight; it waits for that one's answer.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from datetime import date
from typing import NamedTuple

from gateway.domain.caller import Caller
from gateway.domain.errors import GatewayError, InternalError, InvalidRequest, Unavailable
from gateway.domain.job import RESPOND
from gateway.domain.policy import Policy, Project
from gateway.domain.retry import RetryBudgets
from gateway.failpoint import ARMED, reach
from gateway.images.archive import Archives
from gateway.observe.event import Observer, RequestDenied, RequestStarted, taker_of
from gateway.ports import Answers, Body, Inbound, Keyring, Ledger, Outbound, Settlements
from gateway.ports.provider import Conditions, Provider
from gateway.ports.tracing import Choices
from gateway.request.admission import AdmissionState
from gateway.request.answer_keeping import Whole
from gateway.request.batching import by_batch
from gateway.request.concurrency import ConcurrencyLimiter
from gateway.request.context import FlightContext, own_headers
from gateway.request.duplicates import Duplicates
from gateway.request.entitlement import Entitlement
from gateway.request.exchange import Admitted, Exchange
from gateway.request.flights import Flights
from gateway.request.planning import RequestPlanner
from gateway.request.repetition import ties
from gateway.request.shadow import Shadows
from gateway.responses.body import ResponsesBody
from gateway.responses.conversations import ConversationPlanner
from gateway.routing.decision import Asked, project_of
from gateway.routing.dry_run import Decided
from gateway.routing.explanation import Balances, explanation_now
from gateway.routing.task_terms import Guard, TaskTerms
from gateway.steps.accept import accept, envelope_of
from gateway.steps.authenticate import authenticate
from gateway.steps.write import OF_THE_ROUTE
from gateway.tasks.service import TaskService

CLIENT_GONE = 499
"""The status of a request whose client left while it waited for somebody else's answer."""
_AGED = 1.0
"""Seconds; behind a body that took as long, key and policy are asked for again: it may take a quarter of an hour."""


class Setup(NamedTuple):
    """What a reload replaces as one: the policy and the providers it names."""

    policy: Policy
    providers: Mapping[str, Provider]


class Lifecycle:
    """Runs image requests. One instance per process; `current` returns the setup that new requests use.

    `answers` keeps what may be asked for again. `budgets` bound the retries of all requests together. `shadows` repeat
    some requests for comparison. `conditions` tell how routes are doing, `balances` where budgets stand for whoever
    asks without spending. `most_in_flight` bounds the requests that run at once. `admissions` know who waits for a
    route. `archives` keep images for links to them. `task_service` makes tasks, `conversations` plans those of the
    Responses API. `guard` judges the URLs that clients want to be called. `choices` take the time of decisions, where
    they are traced.
    """

    def __init__(
        self,
        *,
        current: Callable[[], Setup],
        keyring: Keyring,
        ledger: Ledger,
        settlements: Settlements,
        observer: Observer,
        today: Callable[[], date],
        answers: Answers,
        budgets: RetryBudgets,
        shadows: Shadows,
        conditions: Conditions,
        balances: Balances,
        most_in_flight: int,
        admissions: AdmissionState,
        archives: Archives,
        task_service: TaskService,
        guard: Guard,
        conversations: ConversationPlanner,
        choices: Choices | None = None,
    ) -> None:
        self._current = current
        self._keyring = keyring
        self.entitlement = entitlement = Entitlement(current, today, keyring.lives, self._understood)
        self._context = FlightContext(
            ledger, settlements, observer, today, answers, budgets, shadows, admissions, entitlement
        )
        self._duplicates = Duplicates(answers, observer)
        self._observer = observer
        self._started = taker_of(observer, RequestStarted)
        self._today = today
        self._conditions = conditions
        self._balances = balances
        self._task_service = task_service
        self._conversations = conversations
        self._archives = archives
        self.planner = RequestPlanner(today, conditions, archives, guard, choices)
        self._most_in_flight = most_in_flight
        self._flights = Flights(self._context)
        self._concurrency = ConcurrencyLimiter()
        self._draining = False

    @property
    def draining(self) -> bool:
        """Whether the gateway is shutting down and takes no new work."""
        return self._draining

    async def handle(self, inbound: Inbound) -> Outbound:
        """Answer one request; raises GatewayError where there is an error to show."""
        exchange = Exchange(inbound)
        policy, providers = self._current()
        if ARMED:
            reach("received")
        self._started(RequestStarted(str(inbound.operation), inbound))
        try:
            admitted, terms, providers = await self._admit(inbound, exchange, policy, providers)
            if ARMED:
                reach("body_read")
            cached, wishes = admitted.job_type.cache is not None, exchange.wishes
            if terms is not None or cached or wishes.dry_run or exchange.binding is not None:
                answer = await self._without_flight(admitted, terms)
                if answer is not None:
                    return answer
        except GatewayError as error:
            self._refused(exchange, error)
            raise
        except asyncio.CancelledError:
            self._observer.emit(exchange.finished(CLIENT_GONE, code="client_gone", client_gone=True))
            raise
        except BaseException:
            self._observer.emit(exchange.finished(InternalError.status, code=InternalError.default_code))
            raise
        shared = None if exchange.binding is None else self._duplicates.begin(exchange.binding)
        return await self._flights.take_off(inbound, admitted, providers, shared)

    async def _without_flight(self, admitted: Admitted, terms: TaskTerms | None) -> Outbound | None:
        """Answer what comes to no call now, or takes another's answer; None for what is to fly like any other."""
        exchange, cached = admitted.exchange, admitted.job_type.cache is not None
        if exchange.wishes.dry_run or terms is not None or cached:
            exchange.begun()  # before its hold, if it comes to one, it waits for something else
        if exchange.wishes.dry_run:
            return await self._explain(admitted, terms)
        if cached and terms is None:
            earlier = await self._archives.answered(admitted, self._today)
            if earlier is not None:
                return earlier
        shared = self._duplicates.running(exchange.binding)
        if shared is not None:
            exchange.begun()
            return await self._duplicates.join(admitted, shared)
        return None if terms is None else await self._create_task(admitted, terms)

    async def _admit(
        self, inbound: Inbound, exchange: Exchange, policy: Policy, providers: Mapping[str, Provider]
    ) -> tuple[Admitted, TaskTerms | None, Mapping[str, Provider]]:
        """Everything before money: who, what, where and at what price; and whether it is to be answered later."""
        keyring = self._keyring
        try:
            envelope = envelope_of(inbound.headers)
        except InvalidRequest:
            exchange.wishes = accept(inbound.headers)  # if it is not they that cannot be read: tags are logged
            raise
        exchange.wishes = envelope.wishes
        caller = keyring.known(envelope.mark) or await authenticate(inbound.headers, keyring, envelope)
        exchange.caller = caller
        project = project_of(caller, policy)
        if self._draining or len(self._flights.running) >= self._most_in_flight:
            raise self._no_room()
        began = time.monotonic()
        body = await inbound.read_body()
        took = time.monotonic() - began
        exchange.client_seconds += took
        try:
            if took >= _AGED:
                policy, providers = self._current()
                project = await self.entitlement.project(caller, policy)
            if inbound.operation is RESPOND:  # which waits for its conversation meanwhile
                admitted, terms = await self._understand(exchange, caller, project, policy, body)
            else:
                exchange.leave_limiter = self._concurrency.take() or await self._concurrency.enter()
                admitted, terms = self.planner.admitted(exchange, caller, project, policy, body)
            if terms is not None:
                admitted = by_batch(admitted, terms.max_wait)
            key, retries = envelope.idempotency_key, envelope.retries
            if key is not None or retries is not None:
                later = terms is not None
                tied = ties(inbound, caller, body, key=key, retries=retries, later=later)
                exchange.binding, exchange.orphan_name = tied
        except BaseException:
            await body.aclose()
            raise
        return admitted, terms, providers

    async def _understand(
        self, exchange: Exchange, caller: Caller, project: Project, policy: Policy, body: Body
    ) -> tuple[Admitted, TaskTerms | None]:
        """Classify, compatibility, experiment, price and rank."""
        if exchange.inbound.operation is RESPOND:
            return await self._conversations.admitted(exchange, caller, project, policy, body), None
        return self.planner.admitted(exchange, caller, project, policy, body)

    async def _understood(
        self, exchange: Exchange, caller: Caller, project: Project, policy: Policy, body: Body
    ) -> Admitted:
        """Understand once more what waits; how it is to be answered is settled."""
        whole = body.document if isinstance(body, ResponsesBody) else body
        admitted, _ = await self._understand(exchange, caller, project, policy, whole)
        return admitted

    async def _create_task(self, admitted: Admitted, terms: TaskTerms) -> Outbound:
        answer = await self._task_service.create(admitted, terms)
        self._observer.emit(admitted.exchange.finished(answer.status, bytes_out=len(answer.whole or b"")))
        return answer

    def _no_room(self) -> Unavailable:
        if self._draining:
            return Unavailable("The gateway is shutting down; please try again.", code="shutting_down", retry_after=1)
        return Unavailable("The gateway is at its limit of requests in flight.", code="overloaded", retry_after=1)

    def _refused(self, exchange: Exchange, error: GatewayError) -> None:
        if error.status in (402, 403, 404, 429):
            project = exchange.caller.project if exchange.caller else "none"
            self._observer.emit(RequestDenied(project, error.code))
        if exchange.job_type is not None and all(name.lower() != "x-gateway-job-type" for name, _ in error.headers):
            error.headers += [("X-Gateway-Job-Type", exchange.job_type.name), ("X-Gateway-Attempts", "0")]
        gone = error.status == CLIENT_GONE
        length = 0 if gone else len(error.written())
        self._observer.emit(exchange.finished(error.status, code=error.code, client_gone=gone, bytes_out=length))

    async def _explain(self, admitted: Admitted, terms: TaskTerms | None) -> Outbound:
        """Answer a dry run: the decision, and where budgets stand; nothing is held and nothing is sent."""
        await admitted.body.aclose()
        job, wishes, today = admitted.job, admitted.exchange.wishes, self._today()
        seed, conditions = admitted.request_id, self._conditions
        asked = Asked(job, wishes, admitted.caller, admitted.project, admitted.policy, today, conditions, seed)
        decided = Decided(asked, admitted.job_type, admitted.ranked, terms)
        told = await explanation_now(decided, self._balances)
        chosen = told["chosen"]
        admitted.exchange.quote = admitted.ranked.quotes[chosen if isinstance(chosen, int) else 0]
        body = json.dumps(told, indent=2).encode() + b"\n"
        headers = [("content-type", "application/json"), ("content-length", str(len(body)))]
        self._observer.emit(admitted.exchange.finished(200, bytes_out=len(body)))
        own = own_headers(admitted, self._today)
        if chosen is None:  # no route would be called, so none is told of
            own = [(name, value) for name, value in own if name not in OF_THE_ROUTE]
        return Whole(200, [*headers, *own], body).outbound()

    @property
    def flight_context(self) -> FlightContext:
        """What flights use here, those of tasks too."""
        return self._context

    def refuse_new_work(self) -> None:
        """Answer new requests, and those that wait for a route, with 503 from now on."""
        self._draining = True
        self._context.admissions.room.close()

    async def drain(self, seconds: float) -> int:
        """Take no new work and wait for what runs; the rest is presumed spent after `seconds`, and counted."""
        self.refuse_new_work()
        return await self._flights.drain(seconds)
