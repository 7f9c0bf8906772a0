"""A provider that fails: what it costs the clients of a job type that has another one, and how it comes back."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import openai
import pytest

from gateway.admin.views import admin_views
from gateway.config.load import load_policy
from gateway.ledger.keys import Keys
from gateway.ledger.pepper import load_pepper
from gateway.ledger.store import store_url
from gateway.process.app import Application, Settings, running_application
from gateway.process.today import today
from gateway.routing.health import FAILURES, Times
from gateway.sandbox.client import Sandbox
from gateway.web.app import create_app
from gateway.web.server import listen, serve_app
from tests.e2e.stack import fetch, running_gateway

POLICY = """
providers:
  main: {kind: openai, base_url: "${SANDBOX_URL}/openai/v1", api_key: "${SANDBOX_KEY}"}
  spare: {kind: openai, base_url: "${SANDBOX_URL}/openai/v1", api_key: "${SANDBOX_KEY}"}
routes:
  main: {provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
  spare: {provider: spare, model: gpt-image-2.5-flare, upstream_model: gpt-image-2.5-flare}
job_types:
  draft: {routes: [main, spare]}
  alone: {routes: [main], retry: {attempts: 1}}
projects:
  team: {job_types: [draft, alone], default_job_type: draft, budgets: [{window: total, limit: "100000"}]}
"""
MAIN = {"model": "gpt-image-2-2026-04-21"}
"""What a fault matches that shall strike at the first route alone."""
ASKED: dict[str, Any] = {"model": "any", "prompt": "a lighthouse", "size": "1024x1024", "quality": "low"}
SHORT = Times(ejection=0.4, longest=1.0, slow_start=0.3, claim=1.0)
CLIENTS = 8
PATIENCE = 30.0
LOST: dict[str, Any] = {"status": 502, "bare": True}
"""An answer after which nobody knows whether the image was made and billed, so that no other route is called."""


@dataclass
class Town:
    """A gateway in this process, on real sockets, and clients of it."""

    application: Application
    url: str
    key: str
    sandbox: Sandbox
    failed: list[int] = field(default_factory=list)
    """The status of each error that a client got."""
    routes: list[str] = field(default_factory=list)
    """Which route each good answer came from."""

    async def ask(self, job_type: str = "draft") -> bool:
        """One request with the real SDK, which repeats nothing; tells whether an image came."""
        async with openai.AsyncOpenAI(base_url=self.url, api_key=self.key, max_retries=0) as client:
            return await self._ask(client, job_type)

    async def _ask(self, client: openai.AsyncOpenAI, job_type: str = "draft") -> bool:
        try:
            raw = await client.images.with_raw_response.generate(
                **ASKED, extra_headers={"X-Gateway-Job-Type": job_type}
            )
        except openai.APIStatusError as error:
            self.failed.append(error.status_code)
            return False
        self.routes.append(raw.headers["x-gateway-route"])
        return True

    @contextlib.asynccontextmanager
    async def crowd(self, clients: int = CLIENTS) -> AsyncIterator[None]:
        """Clients that ask again and again, each one request at a time."""

        async def go_on(client: openai.AsyncOpenAI) -> None:
            while True:
                await self._ask(client)

        async with openai.AsyncOpenAI(base_url=self.url, api_key=self.key, max_retries=0) as client:
            tasks = [asyncio.create_task(go_on(client)) for _ in range(clients)]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                ended = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended

    async def until(self, circuit: str, route: str = "main") -> dict[str, Any]:
        """Wait until the admin plane shows a route so."""
        async with asyncio.timeout(PATIENCE):
            while (shown := await self.shown(route))["health"]["circuit"] != circuit:  # noqa: ASYNC110 - the health of a route tells nobody
                await asyncio.sleep(0.01)
        return shown

    async def seen_ejected(self) -> dict[str, Any]:
        """Wait until the admin plane and the metrics agree that `main` is out and `spare` is not.

        An ejection of the test's short times may lapse between two looks, and comes again while the fault lasts.
        """
        async with asyncio.timeout(PATIENCE):
            while True:
                shown = await self.until("open")
                if (
                    not shown["available"]
                    and await self.sample('image_gateway_route_available{route="main"}') == 0
                    and await self.sample('image_gateway_route_available{route="spare"}') == 1
                ):
                    return shown
                await asyncio.sleep(0.01)

    async def shown(self, route: str = "main") -> dict[str, Any]:
        """What `/admin/routes` says of a route."""
        rows = await admin_views(self.application)["routes"]({})
        assert isinstance(rows, list)
        return next(dict(row) for row in rows if row["route"] == route)

    async def sample(self, name: str) -> float:
        """One sample of `/metrics`."""
        lines = (await self.application.scrape())[0].decode().splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), 0.0)


@pytest.fixture
async def town(tmp_path: Path, sandbox: Sandbox) -> AsyncIterator[Town]:
    """A gateway whose times are short, with two routes to two accounts."""
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "policy.yaml").write_text(POLICY)
    environ = {"SANDBOX_URL": sandbox.url, "SANDBOX_KEY": sandbox.api_key}
    policy = load_policy(tmp_path / "policy", environ=environ, secrets="required", today=today()).policy
    assert policy is not None
    settings = Settings(data=tmp_path / "data", store_timeout=5.0, grace=5.0, health=SHORT)
    with store_url("embedded:", settings.data) as url:
        async with running_application(settings, policy, url) as application:
            keys = Keys(application.store, load_pepper(settings.data, None), settings.realm)
            key, sock, shutdown = await keys.create("team", name="team"), listen("127.0.0.1", 0), asyncio.Event()
            base = f"http://127.0.0.1:{sock.getsockname()[1]}/v1"
            serving = asyncio.create_task(
                serve_app(create_app(application.service), sock, shutdown=shutdown, grace=5.0)
            )
            try:
                yield Town(application, base, key.secret, sandbox)
            finally:
                shutdown.set()
                await serving


async def test_an_outage_of_one_of_two_routes_costs_few_answers_and_ends(town: Town) -> None:
    """Once it is ejected only single trials fail, as metrics and the admin plane tell; afterwards it serves again."""
    async with town.crowd():
        await asyncio.sleep(0.2)
        storm = town.sandbox.fault("status", times=None, match=MAIN, **LOST)
        shown = await town.seen_ejected()
        assert 0 < shown["health"]["ejected_for_seconds"] <= SHORT.longest * 1.1
        await asyncio.sleep(3)
        ejections = await town.sample('image_gateway_ejections_total{route="main"}')
        town.sandbox.remove_fault(storm)
        await town.until("slow_start")
        assert (await town.shown())["available"] is True
        await town.until("closed")
        async with asyncio.timeout(PATIENCE):
            while set(town.routes[-2 * CLIENTS :]) != {"main"}:  # noqa: ASYNC110 - clients tell nobody
                await asyncio.sleep(0.01)
    assert ejections >= 2
    under_way = 2 * CLIENTS  # when it was first ejected, or about to call
    assert len(town.failed) <= FAILURES + under_way + ejections + 1  # one trial for each


async def test_the_only_route_is_called_however_often_it_fails(town: Town) -> None:
    """Where no other route is, an ejected one is still called, and serves at once when its provider is well."""
    town.sandbox.fault("status", times=FAILURES + 3, match=MAIN, **LOST)
    told = [await town.ask("alone") for _ in range(FAILURES + 4)]
    assert told == [False] * (FAILURES + 3) + [True]
    assert len(town.sandbox.requests()) == FAILURES + 4
    assert await town.sample('image_gateway_ejections_total{route="main"}') >= 1
    assert (await town.shown())["health"]["circuit"] in ("slow_start", "closed")


@pytest.mark.parametrize("fault", ["moderation", "rate_limit"])
async def test_refusals_that_are_nobodys_fault_eject_nothing(town: Town, fault: str) -> None:
    """Moderation and a full account, however often, leave the route in service; moderation calls no other route."""
    town.sandbox.fault(fault, times=3 * FAILURES, match=MAIN)
    for _ in range(3 * FAILURES):
        await town.ask()
    assert (await town.shown())["health"]["circuit"] == "closed"
    assert await town.sample('image_gateway_ejections_total{route="main"}') == 0
    if fault == "moderation":
        assert town.routes == []


async def test_a_new_policy_keeps_what_is_known_of_routes_that_stay(town: Town) -> None:
    """A reload ends no ejection of a route that stays, and begins anew with one that calls another account."""
    town.sandbox.fault("status", times=FAILURES, match=MAIN, **LOST)
    for _ in range(FAILURES):
        await town.ask("alone")
    assert (await town.shown())["health"]["ejections_in_a_row"] == 1
    policy = town.application.policy
    town.application.adopt(replace(policy, digest="1" * 16))
    assert (await town.shown())["health"]["ejections_in_a_row"] == 1
    main = policy.routes["main"]
    moved = replace(main, provider=replace(main.provider, timeout=7.0))
    town.application.adopt(replace(policy, routes={**policy.routes, "main": moved}))
    assert (await town.shown())["health"] == {
        "circuit": "closed",
        "ejected_for_seconds": 0.0,
        "weight": 1.0,
        "failures_in_a_row": 0,
        "ejections_in_a_row": 0,
    }


async def test_a_process_that_makes_no_calls_shows_no_health(town: Town) -> None:
    """Beside workers the admin process knows nothing of what they met, and does not say that all is well."""
    rows = await admin_views(town.application, makes_calls=False)["routes"]({})
    assert isinstance(rows, list)
    assert [(row["route"], row["health"]) for row in rows] == [("main", None), ("spare", None)]


async def test_latencies_are_learned_from_what_is_served(town: Town) -> None:
    """After an answer the route's latency for such jobs is known, and covers the provider's whole time."""
    town.sandbox.fault("slow", seconds=0.3, match=MAIN)
    assert await town.ask()
    [mean] = town.application.health._latencies.values()
    assert mean.total >= 0.3


def errors(replies: Sequence[tuple[float, int]], since: float) -> float:
    """The share of requests from then on that were not answered well."""
    late = [status for at, status in replies if at >= since]
    return sum(status != 200 for status in late) / len(late)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("fault", [{"status": 500}, LOST], ids=["refused", "lost"])
async def test_a_storm_in_real_time(tmp_path: Path, sandbox: Sandbox, fault: dict[str, Any]) -> None:
    """Through 100 s of 5xx on one of two routes clients get under 0.5 % errors after 10 s; then the route is back."""
    replies: list[tuple[float, int]] = []
    with running_gateway(tmp_path, POLICY, sandbox) as stack:
        headers = {"authorization": f"Bearer {stack.key()}"}
        storm, began = sandbox.fault("status", times=None, match=MAIN, **fault), time.monotonic()

        async def go_on() -> None:
            while time.monotonic() < began + 100:
                at = time.monotonic()
                url, body = f"{stack.url}/images/generations", {**ASKED}
                reply = await asyncio.to_thread(fetch, url, body=body, headers=headers)
                replies.append((at, reply.status))
                await asyncio.sleep(0.02)

        await asyncio.gather(*(go_on() for _ in range(6)))
        assert errors(replies, began + 10) < 0.005
        sandbox.remove_fault(storm)
        async with asyncio.timeout(200):
            served = ""
            while served != "main":
                reply = await asyncio.to_thread(fetch, f"{stack.url}/images/generations", body=ASKED, headers=headers)
                served = reply.headers["x-gateway-route"] if reply.status == 200 else ""
                await asyncio.sleep(0.2)
