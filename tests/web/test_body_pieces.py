"""Bodies in pieces of all sizes arrive as they were sent; and requests leave nothing that must be looked for."""

from __future__ import annotations

import gc
import json
import random

import pytest

from gateway.request.relay import Relay
from gateway.web.json_object import read_object
from gateway.web.json_scan import Scanner
from gateway.web.limits import BodyLimits
from tests.web.raw import HOST, connection, post, read_reply
from tests.web.recording import RecordingGateway

CHUNKED = b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


def in_chunks(body: bytes, sizes: list[int]) -> bytes:
    """A body in chunks of these sizes in turn."""
    out, at, turn = [], 0, 0
    while at < len(body):
        chunk = body[at : at + sizes[turn % len(sizes)]]
        out.append(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        at, turn = at + len(chunk), turn + 1
    return b"".join(out) + b"0\r\n\r\n"


@pytest.mark.parametrize("sizes", [[20_000, 1, 1], [1, 20_000], [16 * 1024], [40_000, 300, 50_000], [10]], ids=str)
async def test_large_and_small_chunks_arrive_in_order(port: int, gateway: RecordingGateway, sizes: list[int]) -> None:
    """Whatever chunks follow each other in one packet, the body is the one that was sent."""
    text = random.Random(3).randbytes(60_000).hex()
    body = json.dumps({"prompt": "x", "user": text}).encode()
    async with connection(port) as (reader, writer):
        writer.write(b"POST /v1/images/generations HTTP/1.1\r\n" + HOST + CHUNKED + in_chunks(body, sizes))
        assert (await read_reply(reader)).status == 200
    assert [seen.rendered for seen in gateway.seen] == [body]


async def test_a_served_request_leaves_no_garbage(port: int, gateway: RecordingGateway) -> None:
    """What a request was made of is free when it is answered: no cycle keeps it until somebody looks for it."""
    gateway.keep_rendered = False
    async with connection(port) as (reader, writer):
        for served in range(12):
            if served == 2:  # the first ones make what stays
                gc.collect()
                gc.disable()
            writer.write(post())
            assert (await read_reply(reader)).status == 200
        gateway.seen.clear()
        try:
            assert gc.collect() < 10 * 5  # a cycle for each of the ten would be dozens of objects each
        finally:
            gc.enable()


async def test_a_body_and_an_answer_leave_no_garbage() -> None:
    """Neither reading an object nor handing an answer on makes a cycle."""
    gc.collect()
    gc.disable()
    try:
        scanner = Scanner(BodyLimits())
        scanner.feed(b'{"prompt": "x", "n": 1}')
        assert len(read_object(scanner)) == 2
        relay = Relay()
        relay.open(200, [])
        outbound = await relay.head()
        del scanner, relay, outbound
        assert gc.collect() == 0
    finally:
        gc.enable()
