"""Over TLS: an answer comes whole however its connection ends."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable

import pytest
import uvloop

from gateway.egress.fetcher import SafeFetcher
from tests.egress.table import TableResolver
from tests.egress.test_urls import guarding
from tests.providers.raw_server import SELF_SIGNED
from tests.providers.test_tls import answer_and_hang_up

BODY = bytes(range(256)) * 12_000
FETCHES = 10


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("pause", [0.0, 0.02])
def test_an_answer_after_which_the_server_hangs_up(loop: Callable[[], asyncio.AbstractEventLoop], pause: float) -> None:
    """Nothing of an answer is lost if the server hangs up while its reader is behind."""

    async def talk(url: str) -> None:
        known = ssl.create_default_context(cafile=SELF_SIGNED)
        fetcher = SafeFetcher(guarding("localhost"), resolver=TableResolver({"localhost": ["127.0.0.1"]}), tls=known)
        for _ in range(FETCHES):
            fetched = await fetcher.get(url, seconds=60, limit=len(BODY))
            received = b""
            async for chunk in fetched.chunks():
                received += chunk
                await asyncio.sleep(pause)
            await fetched.aclose()
            assert received == BODY
        await fetcher.aclose()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = threading.Thread(target=answer_and_hang_up, args=(listening, BODY, b"\r\n\r\n"))
        server.start()
        try:
            with asyncio.Runner(loop_factory=loop) as runner:
                runner.run(talk(f"https://localhost:{listening.getsockname()[1]}"))
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            server.join()
