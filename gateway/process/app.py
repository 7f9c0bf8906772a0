"""The composition root: configuration in, a running gateway out. With the commands, all that may import every part."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from gateway.assets.location import Bucket
from gateway.assets.shadows import ShadowsOnDisk
from gateway.domain.budget import Budget
from gateway.domain.policy import Policy
from gateway.domain.retry import RetryBudgets
from gateway.domain.route import ProviderConfig, Secret
from gateway.ledger.clock import warn_if_ahead
from gateway.ledger.deferred import DeferredSettlements
from gateway.ledger.heartbeats import Heartbeats
from gateway.ledger.identity import is_known, remember
from gateway.ledger.journal import Journal
from gateway.ledger.keyring import RedisKeyring
from gateway.ledger.offline import OfflineLedger
from gateway.ledger.pepper import load_pepper
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from gateway.lifecycle import Lifecycle, Setup
from gateway.observe.event import PolicyLoaded
from gateway.observe.fanout import Observers
from gateway.observe.labels import LabelSets
from gateway.observe.log import LogObserver
from gateway.observe.metrics import Metrics
from gateway.observe.scrape import BudgetState, ModelRetirement, Snapshot, new_registry, scrape
from gateway.observe.tracing import Tracing
from gateway.ports import Ledger, LedgerUnavailable
from gateway.ports.provider import Provider
from gateway.process.background import kept_running
from gateway.process.egress_wiring import EgressWiring
from gateway.process.heartbeat import Heartbeat
from gateway.process.responses_wiring import Books, ResponsesWiring
from gateway.process.route_state import route_state
from gateway.process.storage_wiring import StorageWiring
from gateway.process.task_wiring import TaskWiring
from gateway.process.today import today
from gateway.providers import open_provider, with_batches
from gateway.request.admission import AdmissionState
from gateway.request.shadow import Shadows
from gateway.routing.health import Health, RouteHealth, Times
from gateway.routing.watched import WatchedProvider
from gateway.service import Service
from gateway.tasks.service import TaskService

Result = TypeVar("Result")
START_SECONDS, START_PAUSE = 5.0, 0.1


@dataclass(frozen=True, slots=True)
class Settings:
    """How to run: everything that is not policy. `lease`, `grace` and `store_timeout` are seconds."""

    data: Path
    assets: Path | None = None
    """What gateways that share a store share on disk: answers kept for repeats, stored images. None: in `data`."""
    bucket: Bucket | None = None
    """Where they share it instead."""
    public_url: str | None = None
    """Under which clients reach the gateway, for links; None: the host that each request names, without TLS."""
    realm: str = "main"
    pepper: Secret | None = None
    lease: float = 30.0
    grace: float = 30.0
    store_timeout: float = 0.075
    requests: int = 10_000
    """In flight in one process, those whose client has left included."""
    health: Times = field(default_factory=Times)
    tracing: Tracing | None = None
    adopting: Callable[[Policy], None] = lambda _: None
    """Is told of each policy that replaces another, before it serves."""


class Application:
    """A gateway of one process, without its sockets. Use `running_application`."""

    def __init__(self, settings: Settings, policy: Policy, store: Store, pepper: bytes) -> None:
        self.policy = policy
        self.store = store
        self.realm = settings.realm
        self.registry = new_registry()
        self.metrics = Metrics(self.registry, LabelSets.from_policy(policy))
        self.heartbeat = Heartbeat(Heartbeats(store, settings.realm), self._healths)
        self._tracing, self._adopting = settings.tracing, settings.adopting
        self._observers = Observers([self._tracing, self.metrics, LogObserver(), self.heartbeat.event_counts])
        self.admissions = AdmissionState()
        self.health = Health(self._observers, times=settings.health, capacity=self.admissions.capacity)
        self.egress = EgressWiring(settings, lambda: self.policy, store, pepper, self._observers)
        self._providers = {name: self._open(config) for name, config in policy.providers.items()}
        self._serving = Setup(policy, self._providers)
        self._former: list[Provider] = []
        observers, silence = self._observers, settings.lease
        noted = partial(remember, settings.data, store.where, settings.realm)
        self.ledger = RedisLedger(
            store, settings.realm, lease=silence, observer=observers, on_expired=observers.emit, on_opened=noted
        )
        self.settlements = DeferredSettlements(self.ledger, Journal.within(settings.data, settings.realm, store.where))
        self.storage = storage = StorageWiring(settings, lambda: self.policy, pepper, self._observers, store)
        self.comparisons = ShadowsOnDisk(storage.folder / "shadows", now=storage.now)
        offline = OfflineLedger(self.ledger, self.settlements)
        self.shadows = Shadows(
            ledger=offline,
            settlements=self.settlements,
            observer=self._observers,
            today=today,
            answers=storage.answers,
            comparisons=self.comparisons,
            admissions=self.admissions,
        )
        self.keyring = RedisKeyring(store, pepper, settings.realm)
        self.tasks = TaskWiring(store, settings.realm, storage.blobs, self._setup, observers, silence=silence)
        task_service = self.tasks.task_service(
            offline, self.settlements, today, storage.linker, self.health, answers=storage.answers
        )
        books = Books(offline, self.settlements, observers)
        self.responses = ResponsesWiring(store, settings.realm, lambda: self.policy, books, today, self.health, silence)
        self.lifecycle = self._lifecycle(offline, task_service, settings.requests)
        self.tasks.start_worker(self.lifecycle, partial(self.metrics.show, "tasks_waiting"))
        self.service = self._service(offline, task_service)
        self._observers.emit(PolicyLoaded(policy.digest, ok=True))

    def _lifecycle(self, ledger: Ledger, task_service: TaskService, most_in_flight: int) -> Lifecycle:
        return Lifecycle(
            current=self._setup,
            keyring=self.keyring,
            ledger=ledger,
            settlements=self.settlements,
            observer=self._observers,
            today=today,
            answers=self.storage.answers,
            budgets=RetryBudgets(time.monotonic),
            shadows=self.shadows,
            conditions=self.health,
            balances=self.ledger.balances,
            most_in_flight=most_in_flight,
            admissions=self.admissions,
            archives=self.storage.archives,
            task_service=task_service,
            guard=self.egress.guard.refusal,
            conversations=self.responses.conversations,
            choices=self._tracing,
        )

    def _service(self, ledger: Ledger, task_service: TaskService) -> Service:
        return Service(
            lifecycle=self.lifecycle,
            current=self._setup,
            keyring=self.keyring,
            ledger=ledger,
            today=today,
            archives=self.storage.archives,
            hints=self.egress.hints,
            task_service=task_service,
            other_endpoints=self.responses.other_endpoints,
        )

    def _healths(self) -> dict[str, RouteHealth]:
        return {name: self.health.of(name) for name in self.policy.routes}

    def _setup(self) -> Setup:
        return self._serving

    def _open(self, config: ProviderConfig) -> Provider:
        provider = open_provider(config, self.egress.services)
        opened: Provider = WatchedProvider(provider, self.health, self.admissions.capacity)
        opened = opened if config.batch is None else with_batches(opened, config, self.egress.services)
        return opened if self._tracing is None else self._tracing.provider(opened)

    def adopt(self, policy: Policy) -> None:
        """Serve new requests by another policy; those under way finish by the one they began with."""
        self._adopting(policy)
        before, kept, labels = self.policy, self._providers, LabelSets.from_policy(policy)
        opened = {  # all of them, before anything changes: one that cannot be leaves the old policy whole
            name: kept[name] if before.providers.get(name) == config else self._open(config)
            for name, config in policy.providers.items()
        }
        self._former += [provider for provider in kept.values() if provider not in opened.values()]
        self.health.adopt(before.routes, policy.routes)
        self.admissions.adopt(before.routes, policy.routes)
        self.responses.adopt(policy)
        self.policy, self._providers, self._serving = policy, opened, Setup(policy, opened)
        self._observers.flush()  # what has happened is counted by the names it happened under
        self.metrics.labels = labels
        self._observers.emit(PolicyLoaded(policy.digest, ok=True))

    def keep_policy(self) -> None:
        """Tell that a new policy did not check."""
        self._observers.emit(PolicyLoaded(self.policy.digest, ok=False))

    async def scrape(self) -> tuple[bytes, str]:
        """Return what `/metrics` answers."""
        return await scrape(self.registry, self.snapshot, self.service.ready)

    async def snapshot(self) -> Snapshot:
        """Return budgets, routes and retirements as they are now; raises LedgerUnavailable."""
        budgets = budgets_of(self.policy)
        limits = {name: self.admissions.capacity.limits(route) for name, route in self.policy.routes.items()}
        balances = await self.ledger.balances([*budgets, *(limit for own in limits.values() for limit in own)])
        room = iter(balances[len(budgets) :])
        return Snapshot(
            policy_digest=self.policy.digest,
            last_reload_successful=self.heartbeat.event_counts.reload_failed is None,
            budgets=tuple(
                BudgetState(rule.scope.label(), rule.window, rule.limit, balance.used, balance.held, rule.view)
                for rule, balance in zip(budgets, balances, strict=False)
            ),
            routes=tuple(
                route_state(self.health.of(name), name, [(limit, next(room)) for limit in own])
                for name, own in limits.items()
            ),
            retirements=tuple(
                ModelRetirement(model.name, (model.retires - today()).days)
                for model in {route.model.name: route.model for route in self.policy.routes.values()}.values()
                if model.retires is not None
            ),
            tasks={str(status): count for status, count in (await self.tasks.queue.counts()).items()},
            assets=self.storage.held(),
            callbacks_dead=(await self.egress.callbacks.callback_counts())["dead"],
        )

    def background(self) -> list[Coroutine[None, None, None]]:
        """Return what runs beside the requests, until it is cancelled."""
        parts = (
            self.ledger,
            self.keyring,
            self.settlements,
            self.comparisons,
            self.storage,
            self.egress,
            self.tasks,
            self.responses,
            self.heartbeat,
        )
        return [kept_running(part) for part in parts]

    async def aclose(self, grace: float) -> None:
        """Finish what runs, within `grace` seconds, settle what is settled, and let go of providers."""
        await asyncio.gather(self.lifecycle.drain(grace), self.tasks.aclose(grace))
        await asyncio.gather(self.shadows.aclose(), self.storage.aclose(grace))
        await self.settlements.aclose(grace)
        await self.ledger.aclose()
        await self.responses.aclose()
        for provider in (*self._providers.values(), *self._former):
            await provider.aclose()


def budgets_of(policy: Policy) -> list[Budget]:
    """Every budget of a policy, the common ones first, those of shadows last."""
    of_projects = [budget for project in policy.projects.values() for budget in project.budgets]
    of_shadows = [kind.shadow.budget for kind in policy.job_types.values() if kind.shadow is not None]
    return [*policy.budgets, *of_projects, *of_shadows]


async def patiently(work: Callable[[], Awaitable[Result]]) -> Result:
    """Do what a start needs of the store, again and again for a few seconds: a slow disk is no reason not to start."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return await work()
        except LedgerUnavailable:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(START_PAUSE)


@contextlib.asynccontextmanager
async def running_application(settings: Settings, policy: Policy, store_url: str) -> AsyncIterator[Application]:
    """Yield an application with its background work going; StoreError if the store cannot be used."""
    store = Store(store_url, realm=settings.realm, silence=settings.store_timeout)
    try:
        await store.check()
        pepper = load_pepper(settings.data, settings.pepper)
        application = Application(settings, policy, store, pepper)
        known = is_known(settings.data, store.where, settings.realm)
        await patiently(partial(application.ledger.open, create=not known))
        await patiently(application.keyring.load)
        await patiently(partial(warn_if_ahead, store, settings.realm))
        tasks = [asyncio.create_task(work) for work in application.background()]
        try:
            yield application
        finally:
            await application.aclose(settings.grace)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await application.egress.aclose()
    finally:
        await store.aclose()
