"""Large answers go by without being kept."""

from __future__ import annotations

import tracemalloc

from gateway.providers.registry import open_provider
from tests.providers.calls import call, config
from tests.providers.raw_server import Connection, serving

SIZE = 64 * 1024 * 1024
LIMIT = 16 * 1024 * 1024


async def test_a_large_answer_is_not_kept() -> None:
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
        provider = open_provider(config(server.url))
        answer = await provider.send(call())
        tracemalloc.start()
        try:
            received = 0
            async for chunk in answer.chunks():
                received += len(chunk)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        await provider.aclose()
    assert received == len(head) + SIZE + len(tail)
    assert (answer.reading().images, answer.reading().complete) == (1, True)
    assert peak < LIMIT
