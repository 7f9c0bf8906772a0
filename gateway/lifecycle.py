"""A request from start to finish: the only place that knows the order, and that a hold always ends.

    accept → authenticate → (read the body) → classify → compatibility → experiment → price → rank
      → reserve → send → settle → write

From `reserve` on it is a `Flight`, in a task of its own: the client may leave, the answer is read to its end and
settled. A request that repeats one in flight takes no flight; it waits for that one's answer.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from gateway.admission import Doors
from gateway.decision import Asked, decide, job_type_of, project_of
from gateway.domain.errors import GatewayError, InternalError, Unavailable
from gateway.domain.policy import Policy
from gateway.domain.retry import RetryBudgets
from gateway.duplicates import Duplicates, Ending
from gateway.exchange import Admitted, Exchange
from gateway.explanation import Balances, explanation_now
from gateway.failpoint import reach
from gateway.flight import Flight, Means, own_headers
from gateway.keeping import Whole
from gateway.linking import Linker
from gateway.observe.event import Observer, RequestDenied, RequestStarted
from gateway.ports import Answers, Conditions, Inbound, Keyring, Ledger, Outbound, Provider, Settlements
from gateway.rehearsal import Decided
from gateway.relay import Relay
from gateway.repetition import ties
from gateway.shadow import Shadows
from gateway.steps.accept import accept, idempotency_key, retry_count
from gateway.steps.authenticate import authenticate
from gateway.steps.classify import classify
from gateway.steps.compatibility import modernized
from gateway.steps.write import OF_THE_ROUTE

CLIENT_GONE = 499
"""The status of a request whose client left while it waited for somebody else's answer."""


class Setup(NamedTuple):
    """What a reload replaces as one: the policy and the providers it names."""

    policy: Policy
    providers: Mapping[str, Provider]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one process takes on at once."""

    in_flight: int = 10_000


class Lifecycle:
    """Runs image requests. One instance per process; `current` returns the setup that new requests use.

    `answers` keeps what may be asked for again; without it a repeated request is told that its answer is not kept.
    `budgets` bound the retries of all requests together; without them each request has its own. `shadows` repeat
    some requests for comparison. `conditions` tell how routes are doing, `balances` where budgets stand for whoever
    asks without spending. `doors` hold who waits for a route. `linker` keeps images for links to them.
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
        answers: Answers | None = None,
        budgets: RetryBudgets | None = None,
        shadows: Shadows | None = None,
        conditions: Conditions | None = None,
        balances: Balances | None = None,
        limits: Limits | None = None,
        doors: Doors | None = None,
        linker: Linker | None = None,
    ) -> None:
        self._current = current
        self._keyring = keyring
        self._means = Means(ledger, settlements, observer, today, answers, budgets, shadows, doors or Doors())
        self._duplicates = Duplicates(answers, observer)
        self._observer = observer
        self._today = today
        self._conditions = conditions
        self._balances = balances
        self._linker = linker
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
        reach("received")
        self._observer.emit(RequestStarted(str(inbound.operation)))
        try:
            admitted = await self._admit(exchange, setup)
            reach("body_read")
            if exchange.wishes.dry_run:
                return await self._explain(admitted)
            shared = self._duplicates.running(exchange.binding)
            if shared is not None:
                return await self._duplicates.join(admitted, shared)
        except GatewayError as error:
            self._refused(exchange, error)
            raise
        except asyncio.CancelledError:
            self._observer.emit(exchange.finished(CLIENT_GONE, code="client_gone", client_gone=True))
            raise
        except BaseException:
            self._observer.emit(exchange.finished(InternalError.status, code=InternalError.default_code))
            raise
        return await self._take_off(admitted, setup.providers)

    async def _admit(self, exchange: Exchange, setup: Setup) -> Admitted:
        """Everything before money: who, what, where and at what price."""
        inbound = exchange.inbound
        exchange.wishes = wishes = accept(inbound.headers)
        key, retries = idempotency_key(inbound.headers), retry_count(inbound.headers)
        exchange.caller = caller = await authenticate(inbound.headers, self._keyring)
        project = project_of(caller, setup.policy)
        self._check_room()
        began = time.monotonic()
        body = await inbound.read_body()
        exchange.client_seconds += time.monotonic() - began
        try:
            job, today = classify(inbound.operation, inbound.path_model, body), self._today()
            exchange.job = job = modernized(job, body.fields, project, setup.policy, today)
            asked = Asked(job, wishes, caller, project, setup.policy, today, self._conditions, inbound.request_id)
            exchange.job_type = job_type = job_type_of(asked)
            ranked = decide(asked, job_type)
            exchange.arm = ranked.arm
            if job.links and self._linker is not None:
                exchange.links = self._linker.links(project.name, inbound.headers)
            exchange.binding, exchange.orphan_name = ties(inbound, caller, body, key=key, retries=retries)
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

    async def _take_off(self, admitted: Admitted, providers: Mapping[str, Provider]) -> Outbound:
        relay, shared = Relay(), self._duplicates.begin(admitted.exchange.binding)
        task = asyncio.create_task(Flight(admitted, self._means, providers, relay, shared).run())
        self._running.add(task)

        def landed(task: asyncio.Task[None]) -> None:
            self._running.discard(task)
            if shared is not None:
                shared.end(Ending(error=InternalError("The request that this one repeats was interrupted.")))
            if not task.cancelled():
                task.exception()  # it was logged and answered where it arose

        task.add_done_callback(landed)
        return await relay.head()

    async def _explain(self, admitted: Admitted) -> Outbound:
        """Answer a dry run: the decision, and where budgets stand; nothing is held and nothing is sent."""
        await admitted.body.aclose()
        job, wishes, today = admitted.job, admitted.exchange.wishes, self._today()
        seed, conditions = admitted.request_id, self._conditions
        asked = Asked(job, wishes, admitted.caller, admitted.project, admitted.policy, today, conditions, seed)
        decided = Decided(asked, admitted.job_type, admitted.ranked)
        told = await explanation_now(decided, self._balances)
        chosen = told["chosen"]
        admitted.exchange.quote = admitted.ranked.quotes[chosen if isinstance(chosen, int) else 0]
        body = json.dumps(told, indent=2).encode() + b"\n"
        headers = [("content-type", "application/json"), ("content-length", str(len(body)))]
        self._observer.emit(admitted.exchange.finished(200))
        own = own_headers(admitted, self._today())
        if chosen is None:  # no route would be called, so none is told of
            own = [(name, value) for name, value in own if name not in OF_THE_ROUTE]
        return Whole(200, [*headers, *own], body).outbound()

    def refuse_new_work(self) -> None:
        """Answer new requests, and those that wait for a route, with 503 from now on."""
        self._draining = True
        self._means.doors.room.close()

    async def drain(self, seconds: float) -> int:
        """Take no new work and wait for what runs; the rest is presumed spent after `seconds`, and counted."""
        self.refuse_new_work()
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)
        left = list(self._running)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        return len(left)
