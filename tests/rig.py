"""A gateway's core on a real ledger and a real disk, with a provider in front of which a test can stand.

No simulated provider on a socket can be stopped between any two steps of a call, so one written for it stands behind
the port.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

from gateway.assets.answers import AnswersOnDisk
from gateway.assets.blobs import BlobsOnDisk
from gateway.assets.images import ImageStore
from gateway.assets.shadows import ShadowsOnDisk
from gateway.domain.budget import Budget, Scope, Window
from gateway.domain.caller import Caller
from gateway.domain.job import Operation
from gateway.domain.links import Signer
from gateway.domain.policy import JobType, Policy, Project, Retry
from gateway.domain.retry import RetryBudgets
from gateway.domain.settlement import Reading, Usage
from gateway.images.answer_cache import AnswerCache
from gateway.images.archive import Archives
from gateway.images.linking import Linker
from gateway.ledger.deferred import DeferredSettlements
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store, store_url
from gateway.lifecycle import Lifecycle, Setup
from gateway.observe.event import Event, RequestFinished
from gateway.ports import Body, Headers, Inbound, Outbound, Settlements
from gateway.ports.provider import Answer, Call, Conditions, Provider, UpstreamFailure
from gateway.process.responses_wiring import Books, ResponsesWiring
from gateway.process.task_wiring import TaskWiring
from gateway.request.admission import AdmissionState
from gateway.request.planning import RequestPlanner
from gateway.request.shadow import AT_ONCE, Shadows
from gateway.routing.health import Health
from gateway.routing.task_terms import plain_guard
from tests.builders import TODAY, policy, route
from tests.steps.test_classify import FieldsOnly

BUDGET = Budget(Scope(), Window.TOTAL, 100_000_000)
SMALL_BODY = b'{"data": [{"b64_json": "aGk="}]}'
FINGERPRINT = "f" * 64
PATIENCE = 30.0


@dataclass
class Painted:
    """A good answer; `gate` holds it up after its first chunk."""

    body: bytes
    event_stream: bool = False
    gate: asyncio.Event | None = None
    broken: UpstreamFailure | None = None
    images: int = 1
    status: int = 200
    upstream_request_id: str | None = None
    rate_limits: Mapping[str, str] = field(default_factory=dict)

    @property
    def headers(self) -> Headers:
        """What a provider sends."""
        if self.event_stream:
            return [("content-type", "text/event-stream")]
        return [("content-type", "application/json"), ("content-length", str(len(self.body)))]

    @property
    def content_length(self) -> int | None:
        """Known but for streams."""
        return None if self.event_stream else len(self.body)

    def at_once(self) -> bytes | None:
        """It comes in pieces."""
        return None

    async def chunks(self) -> AsyncIterator[bytes]:
        """Pieces of the body."""
        for start in range(0, len(self.body), 50_000):
            if start and self.gate is not None:
                await self.gate.wait()
            yield self.body[start : start + 50_000]
        if self.broken is not None:
            raise self.broken

    def reading(self) -> Reading:
        """Usage as reported."""
        usage = None if self.broken else Usage(text_in=5, image_out=200)
        return Reading(usage=usage, images=0 if self.broken else self.images, complete=self.broken is None)

    async def aclose(self) -> None:
        """Nothing is open."""


@dataclass
class Painter:
    """A provider: waits for `go_on`, then answers by the next of `script`, or well. Counts its calls."""

    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    script: list[Painted | UpstreamFailure] = field(default_factory=list)
    calls: int = 0
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, call: Call) -> Answer:
        """Take the call."""
        assert call.request_id
        self.calls += 1
        number = self.calls
        self.begun.set()
        await self.go_on.wait()
        if not self.script:
            return Painted(SMALL_BODY[:-1] + b', "created": %d}' % number)
        answer = self.script.pop(0)
        if isinstance(answer, UpstreamFailure):
            raise answer
        return answer

    async def aclose(self) -> None:
        """Nothing is open."""


class ByName:
    """A keyring in which a key names its project and its id, as `project/id`."""

    async def find(self, key: str) -> Caller | None:
        """The caller."""
        project, _, key_id = key.partition("/")
        return Caller(key_id, project)

    def mark(self, key: str) -> bytes:
        """The key as bytes."""
        return key.encode()

    def known(self, mark: bytes) -> Caller | None:
        """Nobody is remembered."""

    async def lives(self, key_id: str) -> bool:
        """Every key does."""
        return bool(key_id)


@dataclass
class Events:
    """Keeps what happened."""

    seen: list[Event] = field(default_factory=list)

    def emit(self, event: Event) -> None:
        """Take note."""
        self.seen.append(event)

    def finished(self) -> list[RequestFinished]:
        """The requests that ended."""
        return [event for event in self.seen if isinstance(event, RequestFinished)]


@dataclass
class Got:
    """An answer read to its end."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes

    @property
    def replayed(self) -> bool:
        """Whether it says that it is a replay."""
        return ("Idempotent-Replayed", "true") in self.headers

    def header(self, name: str) -> str:
        """One header."""
        return dict(self.headers)[name]


@dataclass
class Rig:
    """One gateway; `beside` makes another on the same ledger and the same disk. `others` are providers by name."""

    store: Store
    folder: Path
    painter: Painter
    rules: Policy
    events: Events = field(default_factory=Events)
    most_in_flight: int = 1000
    numbers: list[int] = field(default_factory=lambda: [0])
    admissions: AdmissionState = field(default_factory=AdmissionState)
    others: dict[str, Provider] = field(default_factory=dict)
    at_once: int = AT_ONCE
    """Shadows under way."""
    day: date = TODAY

    def __post_init__(self) -> None:
        self.ledger = RedisLedger(self.store)
        self.answers = AnswersOnDisk(self.folder)
        self.lifecycle = self.open(DeferredSettlements(self.ledger))

    def open(self, settlements: Settlements) -> Lifecycle:
        """A core that settles in this way."""
        archives, health = archives_in(self.folder.parent / "assets"), Health(self.events)
        self.shadows = Shadows(
            ledger=self.ledger,
            settlements=settlements,
            observer=self.events,
            today=self._today,
            answers=self.answers,
            comparisons=ShadowsOnDisk(self.folder.parent / "shadows"),
            admissions=self.admissions,
            at_once=self.at_once,
        )
        tasks = TaskWiring(self.store, "main", BlobsOnDisk(self.folder.parent / "assets"), self._setup, self.events)
        books = Books(self.ledger, settlements, self.events)
        responses = ResponsesWiring(self.store, "main", lambda: self.rules, books, self._today, health, 30.0)
        return Lifecycle(
            current=self._setup,
            keyring=ByName(),
            ledger=self.ledger,
            settlements=settlements,
            observer=self.events,
            today=self._today,
            answers=self.answers,
            budgets=RetryBudgets(time.monotonic),
            shadows=self.shadows,
            conditions=health,
            balances=self.ledger.balances,
            most_in_flight=self.most_in_flight,
            admissions=self.admissions,
            archives=archives,
            task_service=tasks.task_service(
                self.ledger, settlements, self._today, archives.linker, health, answers=self.answers
            ),
            guard=plain_guard,
            conversations=responses.conversations,
        )

    def _today(self) -> date:
        return self.day

    def _setup(self) -> Setup:
        return Setup(self.rules, {"acme": self.painter, **self.others})

    def beside(self) -> Rig:
        """Another process, as far as the core can tell."""
        return Rig(self.store, self.folder, self.painter, self.rules, numbers=self.numbers)

    def inbound(
        self,
        key: str | None = None,
        *,
        retries: int | None = None,
        caller: str = "team/key_1",
        fingerprint: str = FINGERPRINT,
        fields: Mapping[str, object] | None = None,
        **headers: str,
    ) -> Inbound:
        """A request; the fingerprint stands for its body."""
        self.numbers[0] += 1
        every = {"authorization": f"Bearer {caller}", **{k.replace("_", "-"): v for k, v in headers.items()}}
        every |= {} if key is None else {"idempotency-key": key}
        every |= {} if retries is None else {"x-stainless-retry-count": str(retries)}
        body = FieldsOnly(fields or {"prompt": "a cat", "size": "1024x1024", "quality": "low"}, fingerprint=fingerprint)

        async def read_body() -> Body:
            return body

        request_id = f"req_{self.numbers[0]:032x}"
        return Inbound(request_id, Operation.GENERATE, None, every, read_body, time.monotonic())

    async def ask(self, inbound: Inbound) -> Got:
        """Ask and read the answer to its end, as the web layer does."""
        outbound = await self.handle(inbound)
        try:
            return Got(outbound.status, outbound.headers, b"".join([chunk async for chunk in outbound.chunks]))
        finally:
            await leave(outbound)

    async def handle(self, inbound: Inbound) -> Outbound:
        """Ask; whoever is cancelled meanwhile has hung up, which the web layer tells as the request wants it told."""
        told: list[Callable[[], None]] = []
        handling = asyncio.create_task(self.lifecycle.handle(replace(inbound, spare=told.append)))
        handling.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            return await asyncio.shield(handling)
        except asyncio.CancelledError:
            if told:
                told[0]()
            else:
                handling.cancel()
            raise

    async def settled(self) -> None:
        """Wait until nothing is in flight."""
        async with asyncio.timeout(PATIENCE):
            while self.lifecycle._flights.running:  # noqa: ASYNC110 - tells nobody when it is empty
                await asyncio.sleep(0.01)

    async def spent(self) -> tuple[int, int]:
        """Micro-USD used and held on the budget."""
        [balance] = await self.ledger.balances([BUDGET])
        return balance.used, balance.held

    def files(self) -> list[str]:
        """What is kept on disk."""
        return sorted(file.name for file in self.folder.iterdir()) if self.folder.exists() else []


def archives_in(folder: Path) -> Archives:
    """What keeps images in a folder."""
    blobs = BlobsOnDisk(folder)
    linker = Linker(ImageStore(blobs, dict), Signer(b"s" * 32))
    return Archives(linker, blobs, AnswerCache(blobs, linker, Events()))


def planner(today: date = TODAY, conditions: Conditions | None = None) -> RequestPlanner:
    """What plans requests of which nothing is kept."""
    return RequestPlanner(lambda: today, conditions or Health(Events()), archives_in(Path(os.devnull)))


async def leave(outbound: Outbound) -> None:
    """Close an answer, as the web layer does however it ends."""
    closing = getattr(outbound.chunks, "aclose", None)
    assert closing is not None
    await closing()


async def cut_off(asking: asyncio.Task[Got]) -> None:
    """The client hangs up."""
    asking.cancel()
    await asyncio.wait({asking})
    assert asking.cancelled()
    await asyncio.sleep(0.05)  # what its leaving sets off is one trip to the store


def team(*names: str, budget: Budget = BUDGET, retry: Retry | None = None) -> Policy:
    """Projects by name that share two routes, of which the second is a spare, and one budget."""
    kind = JobType("draft", (route("main"), route("spare")), retry=retry or Retry(attempts=1))
    made = policy(*kind.routes, job_type=kind)
    projects = {name: Project(name, ("draft",), "draft", budgets=(budget,)) for name in ("team", *names)}
    return Policy(made.models, made.providers, made.routes, made.job_types, projects, (), made.digest)


@contextlib.asynccontextmanager
async def rigged(directory: Path, rules: Policy | None = None, *, most_in_flight: int = 1000) -> AsyncIterator[Rig]:
    """A gateway with an empty ledger."""
    with store_url("embedded:", directory) as url:
        store = Store(url)
        rig = Rig(store, directory / "answers", Painter(), rules or team("other"), most_in_flight=most_in_flight)
        try:
            yield rig
            await rig.lifecycle.drain(5)
            await rig.shadows.aclose()
            await rig.ledger.aclose()
        finally:
            await store.aclose()
