"""Accounts that are full: pooled, learned from, and waited for, on a real gateway before accounts with real limits."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from gateway.sandbox.client import Sandbox
from gateway.sandbox.options import SandboxOptions
from gateway.sandbox.server import running_sandbox
from tests.e2e.accounting import admin, settled
from tests.e2e.stack import Stack, running_gateway, wait_until

BODY = {"prompt": "a lighthouse", "size": "1024x1024", "quality": "low"}
POOL = """
providers:
  one: {kind: openai, base_url: "${SANDBOX_URL}/openai/v1", api_key: "${SANDBOX_KEY}", limits: %(account)s}
  two: {kind: openai, base_url: "${SECOND_URL}/openai/v1", api_key: "${SANDBOX_KEY}", limits: %(account)s}
routes:
  one/image: {provider: one, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21, limits: %(route)s}
  two/image: {provider: two, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21, limits: %(route)s}
job_types:
  draft: {routes: [one/image, two/image], throttled: {wait: %(wait)s}}
  single: {routes: [one/image], throttled: {wait: %(wait)s}}
projects:
  many: {job_types: [draft, single], default_job_type: draft, budgets: [{window: day, limit: "1000"}]}
  few: {job_types: [draft], budgets: [{window: day, limit: "1000"}]}
"""


class Pool:
    """A gateway before two accounts with limits of their own."""

    def __init__(self, stack: Stack, accounts: list[Sandbox]) -> None:
        self.stack = stack
        self.accounts = accounts

    def arrived(self) -> list[dict[str, Any]]:
        """What reached either account, in order."""
        return sorted((each for account in self.accounts for each in account.requests()), key=lambda each: each["at"])


Start = Callable[..., Pool]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a gateway before two accounts, with these limits in policy, and these enforced by the accounts."""
    with ExitStack() as running:

        def begin(*, account: str = "{}", route: str = "{}", wait: str = "1s", enforced: int = 5) -> Pool:
            options = SandboxOptions(latency=0, images_per_minute=enforced)
            accounts = [running.enter_context(running_sandbox(options)) for _ in range(2)]
            rules = POOL % {"account": account, "route": route, "wait": wait}
            environ = {"SECOND_URL": accounts[1].url}
            stack = running.enter_context(running_gateway(tmp_path, rules, accounts[0], environ=environ))
            return Pool(stack, accounts)

        yield begin


def test_accounts_are_pooled(start: Start) -> None:
    """Two accounts of 2 images a minute serve 4; the fifth is told when to come again, and neither hears of it."""
    pool = start(account="{images_per_minute: 2}")
    replies = [pool.stack.post("/v1/images/generations", BODY, project="many") for _ in range(5)]
    assert [reply.headers.get("x-gateway-route") for reply in replies[:4]] == ["one/image"] * 2 + ["two/image"] * 2
    assert replies[4].status == 429
    assert 1 <= int(replies[4].headers["retry-after"]) <= 60
    assert [request["status"] for request in pool.arrived()] == [200] * 4


def test_a_limit_that_the_account_tells_counts_in_place_of_policys(start: Start) -> None:
    """Policy says 100, the account 2: once it has said so it is not asked for more, and the limit is shown."""
    pool = start(route="{images_per_minute: 100}", enforced=2)
    headers = {"x-gateway-job-type": "single"}
    replies = [pool.stack.post("/v1/images/generations", BODY, project="many", headers=headers) for _ in range(4)]
    assert [reply.status for reply in replies] == [200, 200, 429, 429]
    assert [request["status"] for request in pool.arrived()] == [200, 200]
    [shown] = [route for route in admin(pool.stack, "routes") if route["route"] == "one/image"]
    assert shown["images_remaining"] == 0


def test_a_client_is_not_kept_longer_than_it_waits(start: Start) -> None:
    """The SDK tells its timeout: a slot that comes later is a 429 at once, a `RateLimitError` that names the time."""
    pool = start(account="{images_per_minute: 1}", wait="90s")
    client = openai.OpenAI(base_url=pool.stack.url, api_key=pool.stack.key("many"), max_retries=0, timeout=20)
    with client:
        for _ in range(2):
            client.images.generate(model="gpt-image-2", prompt="a lighthouse", size="1024x1024", quality="low")
        with pytest.raises(openai.RateLimitError) as caught:
            client.images.generate(model="gpt-image-2", prompt="a lighthouse", size="1024x1024", quality="low")
    assert 20 < int(caught.value.response.headers["retry-after"]) <= 60


def test_a_shutdown_does_not_wait_for_those_who_wait(start: Start) -> None:
    """A gateway that is told to stop sends them away with a 503 and ends."""
    pool = start(account="{images_per_minute: 1}", wait="90s")
    for _ in range(2):
        assert pool.stack.post("/v1/images/generations", BODY, project="many").status == 200
    key, url = pool.stack.key("many"), f"{pool.stack.url}/images/generations"

    async def wait_and_stop() -> int:
        async with aiohttp.ClientSession() as session:
            asking = asyncio.create_task(session.post(url, json=BODY, headers={"authorization": f"Bearer {key}"}))
            await asyncio.to_thread(wait_until, lambda: pool.stack.metric("in_flight") == 1)
            assert await asyncio.to_thread(pool.stack.stop) == 0
            async with await asking as answer:
                assert (await answer.json())["error"]["code"] == "shutting_down"
                return answer.status

    assert asyncio.run(wait_and_stop()) == 503


async def patient(session: aiohttp.ClientSession, url: str, key: str, prompt: str) -> int:
    """Ask until served, coming again when a 429 says; returns how often it was told to."""
    headers = {"authorization": f"Bearer {key}"}
    for again in range(20):
        async with session.post(url, json={**BODY, "prompt": prompt}, headers=headers) as answer:
            await answer.read()
            if answer.status == 200:
                return again
            assert answer.status == 429, await answer.text()
            await asyncio.sleep(int(answer.headers["retry-after-ms"]) / 1000)
    raise AssertionError("never served")


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_two_accounts_are_used_up_by_the_minute_and_never_overrun(start: Start) -> None:
    """Two routes of 5 images a minute, 60 requests at once that wait 90 s: no 429 upstream, 10 a minute, fair."""
    pool = start(route="{images_per_minute: 5}", wait="90s")
    keys = {project: pool.stack.key(project) for project in ("many", "few")}
    url = f"{pool.stack.url}/images/generations"
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        sent = [patient(session, url, keys[project], project) for project in ["many"] * 55 + ["few"] * 5]
        await asyncio.gather(*sent)
    settled(pool.stack)
    arrived = pool.arrived()
    assert Counter(request["status"] for request in arrived) == {200: 60}
    assert [len(account.requests()) for account in pool.accounts] == [30, 30]
    minutes = (arrived[-1]["at"] - arrived[0]["at"]) / 60
    assert 9.5 <= 50 / minutes <= 10.5, "the first ten are there at once, the rest come as slots do"
    places = [place for place, request in enumerate(arrived) if request["fields"]["prompt"] == "few"]
    assert max(places) < 10 + 2 * 5, "of two projects that wait, each gets every other slot"
