"""Gateways restarted in turn behind a balancer, under load with streams open: nobody notices, no money is lost."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from gateway.sandbox.client import Sandbox
from gateway.sandbox.options import SandboxOptions
from gateway.sandbox.server import running_sandbox
from tests.chaos.fleet import START_SECONDS, GatewayProcess, StoreServer
from tests.e2e.accounting import billed, booked, settled
from tests.e2e.policies import tight
from tests.e2e.stack import Stack, wait_until

log = logging.getLogger(__name__)

DELAY, GRACE = 1.0, 60.0
"""Seconds that a gateway serves on after SIGTERM, and that what runs may take after that."""
LOOK_SECONDS = 0.1
BODY = {"prompt": "a lighthouse", "size": "1024x1024", "quality": "low"}
STREAM = {**BODY, "stream": True, "partial_images": 2}
PATIENCE = aiohttp.ClientTimeout(total=100)


class Balancer:
    """Passes connections on to gateways that say they are ready, as a cluster's endpoints do."""

    def __init__(self, gateways: list[GatewayProcess]) -> None:
        self._gateways = gateways
        self._ready: set[GatewayProcess] = set()
        self._turns = itertools.count()
        self.port = 0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen and look meanwhile."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            looking = [asyncio.create_task(self._look(session, gateway)) for gateway in self._gateways]
            server = await asyncio.start_server(self._pass_on, "127.0.0.1")
            self.port = server.sockets[0].getsockname()[1]
            try:
                yield
            finally:
                server.close()
                for task in looking:
                    task.cancel()
                await asyncio.gather(*looking, return_exceptions=True)

    async def _look(self, session: aiohttp.ClientSession, gateway: GatewayProcess) -> None:
        while True:
            try:
                async with session.get(f"{gateway.url}/readyz") as answer:
                    ready = answer.status == 200
            except (aiohttp.ClientError, TimeoutError):
                ready = False
            (self._ready.add if ready else self._ready.discard)(gateway)
            await asyncio.sleep(LOOK_SECONDS)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            back, forth = await self._connected()
            await asyncio.gather(_copy(reader, forth), _copy(back, writer))
        finally:
            writer.close()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while True:
            ready = sorted(self._ready, key=lambda gateway: gateway.name)
            if ready:
                with contextlib.suppress(ConnectionRefusedError):
                    return await asyncio.open_connection("127.0.0.1", ready[next(self._turns) % len(ready)].port)
            await asyncio.sleep(LOOK_SECONDS)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
    writer.close()


@dataclass
class Clients:
    """Clients that never repeat a request themselves: whatever fails is counted."""

    url: str
    key: str
    heard: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    stopped: bool = False

    async def run(self, plain: int, streams: int, tasks: int) -> None:
        """Keep so many of each kind asking until they are stopped, each on a connection of its own."""
        kinds = [self._plain] * plain + [self._stream] * streams + [self._task] * tasks
        await asyncio.gather(*(self._client(kind) for kind in kinds))

    async def _client(self, once: object) -> None:
        assert callable(once)
        headers = {"authorization": f"Bearer {self.key}"}
        connector = aiohttp.TCPConnector(limit=1)
        async with aiohttp.ClientSession(self.url, connector=connector, timeout=PATIENCE, headers=headers) as session:
            while not self.stopped:
                try:
                    await once(session)
                except (aiohttp.ClientError, TimeoutError, AssertionError) as error:
                    self.failures.append(f"{type(error).__name__}: {error}")

    async def _plain(self, session: aiohttp.ClientSession) -> None:
        async with session.post("/v1/images/generations", json=BODY) as answer:
            text = await answer.text()
            assert answer.status == 200, text[:300]
            self.heard["plain"] += 1

    async def _stream(self, session: aiohttp.ClientSession) -> None:
        async with session.post("/v1/images/generations", json=STREAM) as answer:
            text = await answer.text()
            assert answer.status == 200, text[:300]
            assert "image_generation.completed" in text, text[-300:]
            self.heard["stream"] += 1

    async def _task(self, session: aiohttp.ClientSession) -> None:
        async with session.post("/v1/images/generations", json=BODY, headers={"prefer": "respond-async"}) as answer:
            made = await answer.json()
            assert answer.status in {200, 202}, made
        self.tasks.append(made["id"])
        while True:
            async with session.get(f"/v1/tasks/{made['id']}") as answer:
                task = await answer.json()
                assert answer.status == 200, task
            if task["status"] not in {"pending", "processing"}:
                break
            await asyncio.sleep(0.2)
        assert task["status"] == "completed", task
        self.heard["task"] += 1


@dataclass
class Fleet:
    """Gateways on one store before one provider, and what reads their books."""

    gateways: list[GatewayProcess]
    rules: Path
    books: Stack

    @property
    def log_text(self) -> str:
        """The ends of all logs, for whoever reads of a failure."""
        return "\n".join(f"--- {each.name}\n{each.log.read_text()[-1500:]}" for each in self.gateways)


@contextlib.contextmanager
def fleet(directory: Path, sandbox: Sandbox, number: int) -> Iterator[Fleet]:
    """Run so many gateways."""
    store, rules = StoreServer("store", directory), directory / "policy"
    rules.mkdir()
    (rules / "policy.yaml").write_text(tight("10000", timeout="60s"))
    environ = {
        **os.environ,
        "SANDBOX_URL": sandbox.url,
        "SANDBOX_KEY": sandbox.api_key,
        "IMAGE_GATEWAY_PEPPER": "a-pepper-for-tests-alone",
        "IMAGE_GATEWAY_POLICY": str(rules),
        "IMAGE_GATEWAY_STORE": store.url,
        "IMAGE_GATEWAY_STORE_TIMEOUT": "1",
        "IMAGE_GATEWAY_ASSETS": str(directory / "assets"),
        "IMAGE_GATEWAY_DATA": str(directory / "commands"),
    }
    options = ("--shutdown-delay", str(DELAY), "--grace", str(GRACE), "--log-level", "warning")
    gateways = [GatewayProcess(f"gateway-{each}", directory, environ, *options) for each in range(number)]
    store.start()
    try:
        for gateway in gateways:
            gateway.start()
        for gateway in gateways:
            wait_until(lambda gateway=gateway: up(gateway), START_SECONDS, gateway.name)
        one = gateways[0]
        assert one._process is not None
        yield Fleet(
            gateways,
            rules,
            Stack(one.port, one.admin_port, one.data, rules, sandbox, one._process, environ, one.log),
        )
    finally:
        for program in (*gateways, store):
            program.kill()


def up(gateway: GatewayProcess) -> bool:
    """Whether it serves; one whose port somebody else had just then is started again."""
    gateway.restart_if_dead()
    return gateway.ready()


async def restarted(gateway: GatewayProcess) -> None:
    """Restart a gateway in order: it must end by itself, well, and come back."""
    status = await asyncio.to_thread(gateway.stop)
    assert status == 0, gateway.log.read_text()[-2000:]
    gateway.start()
    await asyncio.to_thread(wait_until, lambda: up(gateway), START_SECONDS, gateway.name)


async def survive(directory: Path, *, number: int, rounds: int, clients: tuple[int, int, int]) -> None:
    """Restart every gateway in each round, and change the policy, while clients ask; then read the books."""
    with (
        running_sandbox(SandboxOptions(latency=0.5)) as sandbox,
        fleet(directory, sandbox, number) as running,
    ):
        balancer = Balancer(running.gateways)
        async with balancer.running():
            crowd = Clients(f"http://127.0.0.1:{balancer.port}", running.books.key())
            asking = asyncio.create_task(crowd.run(*clients))
            began = time.monotonic()
            for again in range(rounds):
                for gateway in running.gateways:
                    await restarted(gateway)
                rules = running.rules / "policy.yaml"
                rules.write_text(f"{rules.read_text()}# {again}\n")
                before = sum(crowd.heard.values())
                await asyncio.to_thread(
                    wait_until, lambda before=before: sum(crowd.heard.values()) >= before + sum(clients), 60, "answers"
                )
            crowd.stopped = True
            await asking
        log.warning("%.0f s: %s", time.monotonic() - began, dict(crowd.heard))
        assert crowd.failures == [], "\n".join([*crowd.failures[:20], running.log_text])
        assert set(crowd.heard) == {"plain", "stream", "task"}
        await asyncio.to_thread(wait_until, lambda: not running.books.held(), 60, "nothing held")
        settled(running.books)
        total = booked(running.books)
        assert (total.route, total.unconfirmed) == (billed(sandbox), 0)
        assert len(sandbox.bill()["lines"]) == sum(crowd.heard.values())
        verified = running.books.command("ledger", "verify", "--thorough")
        assert verified.returncode == 0, verified.stdout + verified.stderr


async def test_two_gateways_restarted_in_turn(tmp_path: Path) -> None:
    """Two gateways restarted under load with streams and tasks: no request fails, and books equal the bill."""
    await survive(tmp_path, number=2, rounds=1, clients=(2, 2, 1))


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_three_gateways_restarted_three_times(tmp_path: Path) -> None:
    """Three gateways, each restarted three times under load with streams and tasks: the same."""
    await survive(tmp_path, number=3, rounds=3, clients=(12, 8, 4))
