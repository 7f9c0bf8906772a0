"""Policy read again and again under load, with streams open: no request fails, and no money is lost."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from gateway.sandbox.client import Sandbox
from gateway.sandbox.options import SandboxOptions
from gateway.sandbox.server import running_sandbox
from tests.e2e.accounting import NANO, billed, booked, settled
from tests.e2e.policies import tight
from tests.e2e.stack import Stack, fetch, running_gateway, wait_until

PATH = "/v1/images/generations"
PLAIN = {"prompt": "a lighthouse", "size": "1024x1024", "quality": "low"}
STREAM = {**PLAIN, "stream": True, "partial_images": 2}
LATENCY = 0.25
"""Seconds that the provider takes, so that every policy finds requests under way that began by another."""
CLIENTS = 4
"""Half of them stream. None ever repeats a request."""


@dataclass
class Crowd:
    """Clients that ask until they are stopped, and what they heard."""

    stack: Stack
    heard: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    stopped: bool = False

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """Ask meanwhile; at the end everything that was asked for is waited for."""
        kinds = [("plain", PLAIN), ("stream", STREAM)] * (CLIENTS // 2)
        clients = [asyncio.create_task(self._client(*kind)) for kind in kinds]
        try:
            yield
        finally:
            self.stopped = True
            await asyncio.gather(*clients)

    async def _client(self, kind: str, body: object) -> None:
        headers = {"authorization": f"Bearer {self.stack.key()}"}
        timeout = aiohttp.ClientTimeout(total=100)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{self.stack.port}", timeout=timeout) as session:
            while not self.stopped:
                try:
                    async with session.post(PATH, json=body, headers=headers) as answer:
                        text = await answer.text()
                except (aiohttp.ClientError, TimeoutError) as error:
                    self.failures.append(repr(error))
                    continue
                whole = "image_generation.completed" in text if kind == "stream" else "b64_json" in text
                if answer.status == 200 and whole:
                    self.heard[kind] += 1
                else:
                    self.failures.append(f"{answer.status}: {text[-300:]}")

    async def go_on(self) -> None:
        """Return once every client, on average, has heard another answer of each kind."""
        plain, stream = self.heard["plain"] + CLIENTS // 2, self.heard["stream"] + CLIENTS // 2
        await until(lambda: self.failures or (self.heard["plain"] >= plain and self.heard["stream"] >= stream))


async def until(check: Callable[[], object]) -> None:
    """Wait for a condition beside the clients."""
    await asyncio.to_thread(wait_until, check, 60)


@dataclass
class Operator:
    """Whoever changes the policy, by every way there is. In each text the account differs, so it is opened anew."""

    stack: Stack
    processes: int
    """That read policy, each for itself, when its files change or at SIGHUP."""
    texts: int = 0

    def write(self, broken: bool = False) -> None:
        """Put another policy in place."""
        self.texts += 1
        text = tight("1000", timeout=f"{60 + self.texts}s")
        (self.stack.policy / "policy.yaml").write_text(text + ("nonsense: {}\n" if broken else ""))

    def loads(self, result: str) -> float:
        """How often policy was read, with this result, by all processes together."""
        return self.stack.metric("policy_reloads_total", result=result)

    async def file(self, *, broken: bool = False) -> None:
        """Change the file and leave it to the gateway to notice."""
        result = "failed" if broken else "ok"
        before = self.loads(result)
        self.write(broken)
        await until(lambda: self.loads(result) >= before + self.processes)
        await until(lambda: self.stack.metric("policy_last_reload_successful") == (not broken))

    async def hangup(self) -> None:
        """Change the file and say so by SIGHUP."""
        before = self.loads("ok")
        self.write()
        self.stack.process.send_signal(signal.SIGHUP)
        await until(lambda: self.loads("ok") >= before + self.processes)

    async def admin(self, *, broken: bool = False) -> None:
        """Change the file and ask over the admin plane."""
        self.write(broken)
        url = f"http://127.0.0.1:{self.stack.admin_port}/admin/reload"
        reply = await asyncio.to_thread(fetch, url, method="POST")
        assert reply.status == (400 if broken else 200), reply.body

    async def all(self, crowd: Crowd) -> None:
        """By every way, with a broken policy in between, and several in a row without a pause."""
        await self.hangup()
        await crowd.go_on()
        await self.file(broken=True)
        await crowd.go_on()
        await self.admin(broken=True)
        for _ in range(5):
            await self.admin()
            self.stack.process.send_signal(signal.SIGHUP)
        await self.file()
        await crowd.go_on()


async def survive(directory: Path, *options: str, processes: int, rounds: int) -> None:
    """Change the policy by every way, so many times, while clients ask; then compare the books with the bill."""
    with (
        running_sandbox(SandboxOptions(latency=LATENCY)) as sandbox,
        running_gateway(directory, tight("1000", timeout="60s"), sandbox, *options) as stack,
    ):
        crowd, operator = Crowd(stack), Operator(stack, processes)
        stack.key()
        async with crowd.asking():
            await crowd.go_on()
            for _ in range(rounds):
                await operator.all(crowd)
        assert crowd.failures == []
        await asyncio.to_thread(settled, stack)
        check_books(stack, sandbox, crowd)


def check_books(stack: Stack, sandbox: Sandbox, crowd: Crowd) -> None:
    """What was answered was billed once, booked once, and counted once."""
    answered, total = sum(crowd.heard.values()), booked(stack)
    assert (total.requests, total.route, total.unconfirmed) == (answered, billed(sandbox), 0)
    assert len(sandbox.bill()["lines"]) == answered
    assert stack.metric("requests_total", status="200") == answered
    assert round(stack.metric("spend_usd_total", view="route") * NANO) == total.route


async def test_policy_read_again_under_load_fails_no_request(tmp_path: Path) -> None:
    """File, SIGHUP, admin plane, a broken one, several in a row: all is answered, and books equal the bill."""
    await survive(tmp_path, processes=1, rounds=1)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_two_workers_read_policy_again_ten_times_over(tmp_path: Path) -> None:
    """The same with two workers, which read it each for itself, ten times as often: hundreds of requests under way."""
    await survive(tmp_path, "--workers", "2", processes=3, rounds=10)
