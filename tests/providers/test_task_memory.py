"""Five thousand calls that wait for their work at once: what they take of memory, and that each of them ends."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import time
from dataclasses import replace

import psutil
import pytest

from gateway.domain.task_profile import PollTimes
from tests.providers.calls import read_all
from tests.providers.raw_server import Connection
from tests.providers.task_vendor import PROFILE, png, task_call, vendor_of

PENDING = 5_000
MOST = 100 * 10**6
"""Bytes above idle."""


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_five_thousand_calls_wait_at_little_cost(capsys: pytest.CaptureFixture[str]) -> None:
    """All wait at once in less than 100 MB with twenty connections for looking, and all are answered when done."""
    times = PollTimes(first=1.0, every=8.0, after=20.0, then=8.0, at_once=20)
    process = psutil.Process(os.getpid())
    async with vendor_of(replace(PROFILE, poll=times, patience=500.0)) as (vendor, provider):
        ready = False
        made = looks = 0
        took_on = asyncio.Event()

        async def script(connection: Connection) -> None:
            nonlocal looks, made
            while True:
                request = await connection.request()
                vendor.server.requests.clear()  # what arrived would be counted as the gateway's memory
                path = request.line.split(" ")[1]
                if path.startswith("/files/"):
                    await connection.answer(png(), headers="Content-Type: image/png\r\n")
                elif request.line.startswith("POST"):
                    made += 1
                    took_on.set()
                    await connection.answer(json.dumps({"id": f"t{made}", "status": "pending"}).encode())
                else:
                    looks += 1
                    link = f"{vendor.server.url}/files/{path.rpartition('/')[2]}.png"
                    state = {"status": "completed", "results": [link]} if ready else {"status": "processing"}
                    await connection.answer(json.dumps(state).encode())

        async def one() -> int:
            answer = await provider.send(task_call())
            try:
                return len(await read_all(answer))
            finally:
                await answer.aclose()

        vendor.told = script
        idle = _memory(process)
        waiting: list[asyncio.Task[int]] = []
        while len(waiting) < PENDING:  # one after the other, so that few connections do
            took_on.clear()
            waiting.append(asyncio.create_task(one()))
            await took_on.wait()
        await asyncio.sleep(2)
        taken = _memory(process) - idle
        busy, began, counted = process.cpu_times().user, time.monotonic(), looks
        await asyncio.sleep(20)
        seconds = time.monotonic() - began
        rate, cpu = (looks - counted) / seconds, (process.cpu_times().user - busy) / seconds
        ready = True
        assert len(await asyncio.gather(*waiting)) == PENDING
        told = f"{taken / 2**20:.1f} MB, {rate:.0f} looks a second at {cpu:.0%} of a core, vendor included"
        with capsys.disabled():
            print(f"\n{PENDING} pending: {told}")  # noqa: T201 - the figures are the test's other result
        assert taken < MOST


def _memory(process: psutil.Process) -> int:
    gc.collect()
    return int(process.memory_info().rss)
