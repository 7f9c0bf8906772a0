"""The warning before open files run out, in a process that may have only a few."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import asyncio, logging, os, resource
import uvloop
from tests.web.raw import connection
from tests.web.recording import RecordingGateway, serving_gateway

async def connect(port):
    async with connection(port) as (_, writer):
        writer.write(b"GET /healthz HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
        await writer.drain()
        await asyncio.sleep(0.1)

async def main():
    async with serving_gateway(RecordingGateway()) as port:
        await connect(port)
        print("few", flush=True)
        files = [os.dup(0)]
        while files[-1] < 180:
            files.append(os.dup(0))
        await asyncio.gather(*(connect(port) for _ in range(5)))
        for file in files:
            os.close(file)

logging.basicConfig(level=logging.INFO, format="%(message)s", stream=open(1, "w", closefd=False, buffering=1))
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
uvloop.run(main())
"""


def test_it_is_said_in_time_once_and_with_the_remedy() -> None:
    """Nothing is said while there are enough; near the limit one line, however many connections come."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=120)
    first, warning = done.stdout.splitlines()
    assert first == "few"
    assert "of 200 files are open" in warning
    assert "LimitNOFILE=" in warning
