"""Large bodies in a process of its own: what they cost in memory is bounded."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx
import psutil
import pytest

from tests.web.forms import Item, write_form

MIB = 1024 * 1024
FORM = {"content-type": "multipart/form-data; boundary=b0undary"}


@dataclass
class Server:
    """The process and its address."""

    process: psutil.Process
    url: str

    @property
    def memory(self) -> int:
        """Resident bytes."""
        return int(self.process.memory_info().rss)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server in a process of its own, warmed up."""
    command = [sys.executable, "-m", "tests.web.memory_server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2], text=True) as process:
        assert process.stdout is not None
        url = f"http://127.0.0.1:{process.stdout.readline().strip()}/v1/images"
        for _ in range(3):
            httpx.post(f"{url}/edits", content=write_form([Item("image", b"x" * MIB, "a")]), headers=FORM)
        yield Server(psutil.Process(process.pid), url)
        process.kill()


class Peak:
    """The highest memory of a process while the block runs, over what it was before."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.growth = 0

    async def __aenter__(self) -> Self:
        self._before = self._server.memory
        self._watcher = asyncio.create_task(self._watch())
        return self

    async def _watch(self) -> None:
        while True:
            self.growth = max(self.growth, self._server.memory - self._before)
            await asyncio.sleep(0.005)

    async def __aexit__(self, *_: object) -> None:
        self._watcher.cancel()


async def generated(head: bytes, size: int) -> AsyncIterator[bytes]:
    """A body made as it is sent."""
    yield head
    chunk = b"QUJD" * 16_384
    for _ in range(size // len(chunk)):
        yield chunk


LARGE = {
    "a form": ("edits", FORM, b'--b0undary\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'),
    "a data URL": ("edits", {"content-type": "application/json"}, b'{"images": [{"image_url": "data:image/png;base64,'),
    "a long prompt": ("generations", {"content-type": "application/json"}, b'{"prompt": "' + b"x" * 1000),
}


@pytest.mark.parametrize("case", LARGE)
async def test_a_body_of_200_mb_is_refused_in_bounded_memory(case: str, server: Server) -> None:
    """Chunked and of unknown length, it is read up to the limit and refused; memory grows by less than 32 MiB."""
    path, headers, head = LARGE[case]
    async with Peak(server) as peak, httpx.AsyncClient(timeout=60) as client:
        answer = await client.post(f"{server.url}/{path}", content=generated(head, 200 * MIB), headers=headers)

    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")
    assert peak.growth < 32 * MIB


async def test_twenty_uploads_of_20_mb_at_once_fit_in_memory(server: Server) -> None:
    """They lie on disk while they are read and sent on: all together they take less than 64 MiB."""
    form = write_form([Item("image", b"x" * (20 * MIB), "a.png"), Item("prompt", b"x")])

    async def sliced() -> AsyncIterator[bytes]:
        for start in range(0, len(form), 65_536):
            yield form[start : start + 65_536]

    async with Peak(server) as peak, httpx.AsyncClient(timeout=60) as client:
        uploads = (client.post(f"{server.url}/edits", content=sliced(), headers=FORM) for _ in range(20))
        answers = await asyncio.gather(*uploads)

    assert [answer.status_code for answer in answers] == [200] * 20
    assert peak.growth < 64 * MIB
