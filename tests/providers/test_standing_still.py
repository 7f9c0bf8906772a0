"""A process that stood still (a suspended machine, a paused container) hears what servers said to it meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys

import httpx
import pytest
import uvloop

from gateway.http1.transport import Transport
from tests.providers.exchanges import JSON, exchange, post
from tests.providers.raw_server import Connection, Request, serving

PATIENCE = 3.0
"""Seconds that each wait may take; whoever stands still does so for longer."""
PIECE, PIECES = b"x" * 65_536, 512
"""More than the system holds for a server that reads nothing."""
WAITS = ("head", "body", "room")
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.mark.skipif(sys.platform == "win32", reason="nothing stands still there by a signal")
@pytest.mark.parametrize("loop", LOOPS)
async def test_what_was_said_while_this_process_stood_still(loop: str) -> None:
    """The deadline ran out meanwhile, and all the same the answer counts, the rest of one, and what a server took."""
    waiting: dict[str, asyncio.Event] = {name: asyncio.Event() for name in WAITS}
    go_on = asyncio.Event()

    async def script(connection: Connection) -> None:
        head = await connection.head()
        name = head.header("x-wait") or ""
        if name == "room":  # it reads nothing, until the other process cannot do anything about it
            await _reached(waiting[name], go_on)
            await _rest(connection, head)
            await connection.answer(JSON.encode())
            return
        await _rest(connection, head)
        if name == "body":
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(JSON))
        await _reached(waiting[name], go_on)
        await (connection.send(JSON.encode()) if name == "body" else connection.answer(JSON.encode()))

    async with serving(script) as server:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", __name__, loop, server.url, stdout=asyncio.subprocess.PIPE
        )
        try:
            await asyncio.wait_for(asyncio.gather(*[reached.wait() for reached in waiting.values()]), 60)
            await asyncio.sleep(0.5)  # by now it waits for its event loop, which then finds the time up before all else
            child.send_signal(signal.SIGSTOP)
            await asyncio.to_thread(os.waitid, os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
            go_on.set()
            await asyncio.sleep(PATIENCE + 0.5)
            child.send_signal(signal.SIGCONT)
            told, _ = await asyncio.wait_for(child.communicate(), 60)
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        assert json.loads(told) == {name: [200, JSON] for name in WAITS}


async def _reached(here: asyncio.Event, go_on: asyncio.Event) -> None:
    here.set()
    await go_on.wait()


async def _rest(connection: Connection, head: Request) -> None:
    await connection.reader.readexactly(int(head.header("content-length") or 0))


async def _talk(url: str) -> dict[str, list[object]]:
    """What becomes of three exchanges: one waits for an answer, one for the rest of one, one to be read from."""
    transport = Transport()

    async def one(name: str) -> list[object]:
        request = post(url, *[PIECE] * (PIECES if name == "room" else 1), connect=60.0, read=PATIENCE)
        request.headers["x-wait"] = name
        try:
            status, body = await exchange(transport, request)
        except httpx.TransportError as error:
            return [type(error).__name__, str(error)]
        return [status, body.decode()]

    said = await asyncio.gather(*map(one, WAITS))
    await transport.aclose()
    return dict(zip(WAITS, said, strict=True))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=LOOPS[sys.argv[1]]) as runner:
        sys.stdout.write(json.dumps(runner.run(_talk(sys.argv[2]))))
