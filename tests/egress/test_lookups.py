"""Names that nobody answers for: those that clients choose keep no link of a provider waiting."""

from __future__ import annotations

import asyncio
import socket
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from gateway.observe.event import Event
from gateway.ports.egress import Unfetchable
from gateway.process.egress_wiring import EgressWiring
from tests.builders import policy
from tests.egress.test_callbacks import Queue
from tests.ledger.conftest import ledger, realm, server, store
from tests.providers.raw_server import Connection, serving

__all__ = ["ledger", "realm", "server", "store"]

NAMES = 24
"""More than are looked up at once."""


class Deaf:
    """Hears events, and keeps none."""

    def emit(self, event: Event) -> None:
        """Let it go."""


async def test_names_of_clients_that_nobody_answers_for_keep_no_link_of_a_provider_waiting(
    store: Store, realm: str, ledger: RedisLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither those of callbacks nor those of input images: an image that is paid for is fetched meanwhile."""
    asked, answered, ask = threading.Semaphore(0), threading.Event(), socket.getaddrinfo

    def slow(host: Any, *rest: Any, **more: Any) -> Any:
        if not str(host).endswith(".slow.test"):
            return ask(host, *rest, **more)
        asked.release()
        answered.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "nobody answers")

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.answer(b"\x89PNG", headers="Content-Type: image/png\r\n")

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    place = SimpleNamespace(realm=realm, public_url=None, tracing=None)
    wiring = EgressWiring(place, policy, store, b"pepper", Deaf())
    queue = Queue(ledger, store, realm)
    for number in range(NAMES // 2):
        await queue.message(f"https://h{number}.slow.test/hook")
    running, inputs = asyncio.create_task(wiring.run()), wiring.services.client_fetcher
    assert inputs is not None
    images = [inputs.get(f"https://i{number}.slow.test/a.png", seconds=60, limit=9) for number in range(NAMES // 2)]
    fetching = [asyncio.create_task(each) for each in images]
    try:
        for _ in range(16):
            await asyncio.to_thread(asked.acquire)
        links = wiring.services.fetcher
        assert links is not None
        async with serving(script) as host:
            url = f"http://localhost:{host.port}"
            async with asyncio.timeout(60):
                fetched = await links.get(f"{url}/a.png", seconds=60, limit=9, trusted=[url])
                assert [chunk async for chunk in fetched.chunks()] == [b"\x89PNG"]
    finally:
        answered.set()
        running.cancel()
        ended = await asyncio.gather(running, *fetching, return_exceptions=True)
        await wiring.aclose()
    assert all(isinstance(each, Unfetchable) for each in ended[1:])
