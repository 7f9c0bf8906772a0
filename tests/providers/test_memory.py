"""Large answers go by without being kept."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from gateway.base64_stream import encoded_length
from gateway.domain.job import Operation
from gateway.domain.profile import Parameter, Profile, Source
from gateway.ports import InputImage, Inputs
from gateway.providers.registry import open_provider
from tests.providers.calls import MemoryBody, call, config, read_all
from tests.providers.raw_server import Connection, serving

SIZE = 64 * 1024 * 1024
LIMIT = 16 * 1024 * 1024


@pytest.mark.parametrize("profile", [Profile(), Profile(normalise=True)], ids=["as it comes", "normalised"])
async def test_a_large_answer_is_not_kept(profile: Profile) -> None:
    """A 64 MB answer, the server in the same process included, raises peak memory by less than 16 MB."""
    tail = b'"}],"usage":{"input_tokens":12,"output_tokens":196}}'
    head = b'{"data":[{"b64_json":"'

    async def script(connection: Connection) -> None:
        await connection.request()
        piece = b"A" * 1_048_576
        await connection.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            % (len(head) + SIZE + len(tail))
        )
        await connection.send(head)
        for _ in range(SIZE // len(piece)):
            await connection.send(piece)
        await connection.send(tail)

    async with serving(script) as server:
        provider = open_provider(config(server.url, profile=profile))
        tracemalloc.start()
        try:
            answer = await provider.send(call())
            received = 0
            async for chunk in answer.chunks():
                received += len(chunk)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        await answer.aclose()
        await provider.aclose()
    assert received == len(head) + SIZE + len(tail) or profile.normalise
    assert received >= SIZE
    assert (answer.reading().images, answer.reading().complete) == (1, True)
    assert peak < LIMIT


async def test_a_large_upload_is_not_kept() -> None:
    """An image of 48 MB goes into a JSON body as it is sent: peak memory rises by less than 16 MB."""
    size, received = 48 * 1024 * 1024, 0

    async def content() -> AsyncIterator[bytes]:
        for _ in range(size // 65_536):
            yield b"\x89" * 65_536

    async def script(connection: Connection) -> None:
        nonlocal received
        request = await connection.head()
        left = int(request.header("content-length") or 0)
        while left:
            piece = await connection.reader.read(min(left, 1_048_576))
            left, received = left - len(piece), received + len(piece)
        await connection.answer(b'{"data": [{"b64_json": "eA=="}]}')

    image = InputImage(content=content, length=size, media_type="image/png")
    job = call(MemoryBody({"prompt": "a cat"}, given=Inputs((image,))))
    job = replace(job, job=replace(job.job, operation=Operation.EDIT))
    profile = Profile(parameters=(Parameter("images", Source.IMAGES),))
    async with serving(script) as server:
        provider = open_provider(config(server.url, profile=profile))
        tracemalloc.start()
        try:
            answer = await provider.send(job)
            await read_all(answer)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        await answer.aclose()
        await provider.aclose()
    assert received > encoded_length(size)
    assert peak < LIMIT
