"""Over TLS: an answer comes whole however its connection ends."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest
import uvloop

from gateway.egress.fetcher import SafeFetcher
from tests.egress.table import TableResolver
from tests.egress.test_urls import guarding
from tests.providers.raw_server import SELF_SIGNED

BODY = bytes(range(256)) * 12_000
FETCHES = 10


def answer_and_hang_up(listening: socket.socket) -> None:
    """Answer one request after the other, each on a connection that ends with the last byte of its answer."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(SELF_SIGNED)
    with suppress(OSError):  # the test is over
        while True:
            accepted, _ = listening.accept()
            with context.wrap_socket(accepted, server_side=True) as connection:
                while not connection.recv(65_536).endswith(b"\r\n\r\n"):
                    pass
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY)


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
        server = threading.Thread(target=answer_and_hang_up, args=(listening,))
        server.start()
        try:
            with asyncio.Runner(loop_factory=loop) as runner:
                runner.run(talk(f"https://localhost:{listening.getsockname()[1]}"))
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            server.join()
