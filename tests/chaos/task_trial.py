"""A trial of tasks: many of them, their callbacks, and the provider that takes work on, while gateways die."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.failpoint import VARIABLE
from gateway.ledger.store import Store
from gateway.ledger.tasks import RedisTasks
from gateway.sandbox.client import Sandbox
from tests.chaos.books import Books, books_of, read_bill
from tests.chaos.checks import few, verified
from tests.chaos.fleet import REALM, Fleet, Program, running_fleet
from tests.chaos.killer import STORE_SHARE
from tests.chaos.trial import SLACK_SECONDS, chosen_seed, until
from tests.e2e.receiver import receiving
from tests.e2e.stack import fetch, wait_until
from tests.ports import free_port

log = logging.getLogger(__name__)

TELLING = 240.0
"""Seconds: whoever took a callback and died leaves it to others after a minute, and some are refused at first."""

POLICY = """
egress: {allow: ["127.0.0.0/8"]}
providers:
  one: {kind: openai, base_url: "${UPSTREAM_URL}", api_key: "${UPSTREAM_KEY_ONE}", timeout: 30s}
  evolink:
    preset: evolink
    base_url: "${TASKS_URL}/evolink/v1"
    api_key: "${TASKS_KEY}"
    task: {poll: {first: 200ms, every: 500ms, after: 1h, then: 500ms}}
routes:
  one/image: {provider: one, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
  evolink/image: {provider: evolink, offer: evolink/gpt-image-2}
job_types:
  sync: {routes: [one/image], defaults: {quality: low}}
  work: {routes: [evolink/image], defaults: {quality: low}}
projects:
  team:
    job_types: [sync, work]
    default_job_type: sync
    budgets: [{window: month, limit: "100000"}]
  narrow: {job_types: [sync], budgets: [{window: month, limit: "100000"}]}
"""
POINTS = (
    "task_added",
    "task_taken",
    "task_begun",
    "task_submitted",
    "before_send",
    "answer_begun",
    "answer_read",
    "before_settle",
    "after_settle",
    "before_task_end",
)
AT_ONCE = 16
ENDED = ("completed", "failed", "cancelled")


class WorkSandbox(Program):
    """A provider that takes work on, in a process of its own."""

    def __init__(self, directory: Path, port: int, seconds: float) -> None:
        command = [sys.executable, "-m", "tests.e2e.polled_sandbox", str(port), str(seconds), "1000000"]
        super().__init__("sandbox", command, os.environ, directory)
        self.sandbox = Sandbox(f"http://127.0.0.1:{port}")


@dataclass
class Heard:
    """Who is called back at a port: the ids of tasks, as often as they were taken."""

    port: int = 0
    heard: Counter[str] = field(default_factory=Counter)


@contextlib.contextmanager
def hearing(seed: int) -> Iterator[Heard]:
    """Listen for callbacks; one in fifty is told to come again, once."""
    told, mood, refusals = Heard(), random.Random(seed), set[str]()

    def answer(body: bytes) -> int:
        name = json.loads(body)["id"]
        refused = name not in refusals and mood.random() < 0.02
        refusals.add(name)
        if not refused:
            told.heard[name] += 1
        return 503 if refused else 204

    with receiving(answer) as receiver:
        told.port = receiver.port
        yield told


class Killer:
    """Kills gateways, at random or by a failpoint of their next life, until there were `kills` deaths of them.

    Now and then it kills the store, too.
    """

    def __init__(self, fleet: Fleet, seed: int, kills: int, pause: float) -> None:
        self._fleet = fleet
        self._random = random.Random(seed)
        self._kills = kills
        self._pause = pause
        self.store_deaths = 0

    @property
    def deaths(self) -> int:
        """How many gateways were killed so far."""
        return sum(gateway.killed for gateway in self._fleet.gateways)

    async def run(self) -> None:
        """Go on until it is enough."""
        while self.deaths < self._kills:
            await asyncio.sleep(self._random.expovariate(1 / self._pause))
            if self._random.random() < STORE_SHARE:
                self._fleet.store.kill()
                self.store_deaths += 1
                continue
            victim = self._random.choice(self._fleet.gateways)
            victim.environ.pop(VARIABLE, None)
            if self._random.random() < 0.5:
                victim.environ[VARIABLE] = f"{self._random.choice(POINTS)}:kill:{self._random.randrange(1, 30)}"
            victim.kill()
        for gateway in self._fleet.gateways:
            if gateway.environ.pop(VARIABLE, None) is not None:
                gateway.kill()


@dataclass
class Clients:
    """Who make tasks: each by a key of its own, asked again until there is an answer. `made` is by marker."""

    fleet: Fleet
    callback: str
    seed: int
    made: dict[str, str] = field(default_factory=dict)

    async def make(self, many: int, *, first: int = 0) -> None:
        """Make so many tasks, numbered from `first`, every other one on the provider that takes work on."""
        todo = iter(range(first, first + many))
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
            await asyncio.gather(*(self._client(session, todo) for _ in range(AT_ONCE)))

    async def _client(self, session: aiohttp.ClientSession, todo: Iterator[int]) -> None:
        for number in todo:
            marker = f"{self.seed}-{number}"
            body = {"prompt": f"{marker} a lighthouse", "size": "1024x1024", "callback_url": self.callback}
            headers = {
                "authorization": f"Bearer {self.fleet.keys['team']}",
                "idempotency-key": marker,
                "x-gateway-job-type": "work" if number % 2 else "sync",
            }
            while marker not in self.made:
                url = f"{random.choice(self.fleet.gateways).url}/v1/images/generations"
                with contextlib.suppress(aiohttp.ClientError, ConnectionError, TimeoutError):
                    async with session.post(url, json=body, headers=headers) as answer:
                        told = await answer.json()
                        if answer.status == 202:
                            self.made[marker] = told["id"]
                        else:
                            assert answer.status in (429, 500, 502, 503, 504), told
                await asyncio.sleep(0.02)

    async def tasks(self) -> dict[str, Any]:
        """Every task of the project by its id, as a gateway tells; empty if it cannot just now."""
        found: dict[str, Any] = {}
        headers, after, more = {"authorization": f"Bearer {self.fleet.keys['team']}"}, "", True
        async with aiohttp.ClientSession(headers=headers) as session:
            while more:
                url = f"{self.fleet.gateways[0].url}/v1/tasks?limit=100{after}"
                async with session.get(url) as answer:
                    page = await answer.json()
                    if answer.status != 200:
                        return {}
                found |= {task["id"]: task for task in page["data"]}
                after, more = f"&after={page['last_id']}", page["has_more"]
        return found

    async def all_ended(self) -> dict[str, Any]:
        """Wait until every task has ended, and return them."""
        while True:
            with contextlib.suppress(aiohttp.ClientError, ConnectionError):
                found = await self.tasks()
                if found and all(task["status"] in ENDED for task in found.values()):
                    return found
            await asyncio.sleep(1)


async def wrongs(
    fleet: Fleet, books: Books, sandbox: Sandbox, clients: Clients, tasks: Mapping[str, Any]
) -> Sequence[str]:
    """Everything that is wrong with tasks, the provider's bills and the books, in words."""
    made = set(clients.made.values())
    markers = {name.removeprefix("task_"): marker for marker, name in clients.made.items()}
    bills = Counter[str]()
    lines = Counter[str]()
    for charge in read_bill(fleet.bill):
        bills[charge.client] += charge.nano_usd
        lines[charge.client] += 1
    prompts = {each["request"]: each["fields"].get("prompt", "") for each in sandbox.requests() if each["fields"]}
    names = {marker: f"req_{name}" for name, marker in markers.items()}
    for line in sandbox.bill()["lines"]:
        name = names[prompts[line["request"]].partition(" ")[0]]
        bills[name] += line["nano_usd"]
        lines[name] += 1
    accounts = await books.accounts()
    presumed = {name for name, account in accounts.items() if account.sources[-1] == "presumed"}
    guessed = presumed | {name for name, account in accounts.items() if account.sources[-1] == "estimate"}
    booked = {name: account.total for name, account in accounts.items()}
    followed = {name for marker, name in names.items() if int(marker.rpartition("-")[2]) % 2}
    every = bills.keys() | booked.keys()
    done = {f"req_{name.removeprefix('task_')}" for name, task in tasks.items() if task["status"] == "completed"}
    return [
        *few("made and not to be found", made - tasks.keys()),
        *few("found, never told, and not given up", [n for n in tasks.keys() - made if not _undone(tasks[n])]),
        *few("billed more than once", [name for name, count in lines.items() if count > 1]),
        *few("completed and not billed", done - lines.keys()),
        *few("followed, completed and presumed", done & presumed & followed),
        *few(
            "booked otherwise than billed",
            [(n, bills[n], accounts.get(n)) for n in every - guessed if bills[n] != booked.get(n, 0)],
        ),
        *few("billed above what is presumed or estimated", [n for n in guessed if bills[n] > booked[n]]),
    ]


def _undone(task: Mapping[str, Any]) -> bool:
    """Whether its creation was taken back, as its client was told, for the store was slow to answer."""
    return bool(task["status"] == "failed" and task["error"]["code"] == "task_body_lost")


async def _given_up(queue: RedisTasks, found: Mapping[str, Any]) -> list[str]:
    """Tasks that failed although what the provider took on was known."""
    records = [record for name in found if (record := await queue.find(name)) is not None]
    return [each.order.request_id for each in records if each.status == "failed" and each.submitted]


@dataclass
class TaskTrial:
    """What a test sees of it. `lease` is seconds."""

    fleet: Fleet
    sandbox: Sandbox
    clients: Clients
    receiver: Heard
    lease: float

    async def come_to_rest(self) -> dict[str, Any]:
        """Wait for the end of every task and for every callback, and until nothing may be held any more."""
        found = await self.clients.all_ended()
        log.warning("%s", Counter(task["status"] for task in found.values()))
        await until(lambda: self.receiver.heard.keys() >= found.keys(), TELLING, "every callback")
        await asyncio.sleep(self.lease * 2 + SLACK_SECONDS)
        return found

    async def audit(self, found: Mapping[str, Any]) -> None:
        """Fail with all that is wrong, and the ends of the logs."""
        store = Store(self.fleet.store_url, deadline=60)
        try:
            books = books_of(store, REALM, self.fleet.policy, self.fleet.environ)
            wrong = [*few("still held", await books.held()), *few("a sum is wrong", await books.disagreements())]
            wrong += await wrongs(self.fleet, books, self.sandbox, self.clients, found)
            wrong += few("called back of what is unknown", self.receiver.heard.keys() - found.keys())
            wrong += few("followed and given up", await _given_up(RedisTasks(store, REALM), found))
            wrong += verified(self.fleet, books)
        finally:
            await store.aclose()
        failed = Counter(task["error"]["message"][:90] for task in found.values() if task["status"] == "failed")
        log.warning("failed: %s", dict(failed))
        assert not wrong, "\n".join([*wrong, self.fleet.log_text])


@contextlib.asynccontextmanager
async def task_trial(
    directory: Path,
    environ: pytest.MonkeyPatch,
    *,
    lease: float,
    gateways: int,
    work_seconds: float = 2.0,
    beside: Sequence[Program] = (),
    **fleet_options: Any,
) -> AsyncIterator[TaskTrial]:
    """Run a fleet on one disk, a provider that takes work on, and a receiver of callbacks; see `running_fleet`."""
    seed = chosen_seed()
    work = WorkSandbox(directory, free_port(), work_seconds)
    environ.setenv("TASKS_URL", work.sandbox.url)
    environ.setenv("TASKS_KEY", work.sandbox.api_key)
    environ.setenv("IMAGE_GATEWAY_ASSETS", str(directory / "assets"))
    options = {"gateways": gateways, "lease": lease, "seed": seed, "policy": POLICY, **fleet_options}
    with hearing(seed) as receiver, running_fleet(directory, beside=[work, *beside], **options) as fleet:
        wait_until(lambda: fetch(work.sandbox.url).status == 200, 30, "the sandbox")
        clients = Clients(fleet, f"http://127.0.0.1:{receiver.port}/", seed)
        yield TaskTrial(fleet, work.sandbox, clients, receiver, lease)
