"""Bodies in pieces of all sizes arrive as they were sent; and requests leave nothing that must be looked for."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import random

import pytest

from gateway.request.relay import Relay
from gateway.web.json_object import read_object
from gateway.web.json_scan import Scanner
from gateway.web.limits import BodyLimits
from tests.web.raw import HOST, connection, post, read_reply
from tests.web.recording import RecordingGateway, serving_gateway

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


NARROW = BodyLimits(total=900, json_text=600, long_string=300)
BODIES = {
    "short": b'{"prompt": "x"}',
    "empty": b"",
    "no JSON": b'{"prompt": }',
    "a longer string": b'{"prompt": "x", "user": "%s"}' % (b"u" * 400),
    "a longer prompt": b'{"prompt": "%s"}' % (b"u" * 400),
    "a longer text": b'{"prompt": "x", "a": "%s", "b": "%s", "c": "%s"}' % ((b"u" * 250,) * 3),
    "too long": b'{"prompt": "x", "user": "%s"}' % (b"u" * 1000),
}
JSON_TYPE = b"Content-Type: application/json\r\n"
TYPES = (JSON_TYPE, JSON_TYPE.replace(b"json", b"text"), JSON_TYPE[:-2] + b";charset=latin1\r\n", b"")
EXTRA = (b"", b"Idempotency-Key: one\r\n", b"Content-Encoding: identity\r\n", b"Content-Encoding: gzip\r\n")


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_a_body_that_comes_with_its_head_is_read_as_any_other(body: bytes) -> None:
    """It makes no difference to what is read or refused whether a body is waited for."""
    gateway = RecordingGateway()
    async with serving_gateway(gateway, NARROW) as port:
        for media_type, extra in itertools.product(TYPES, EXTRA):
            request, found = post(body=body, extra=extra).replace(JSON_TYPE, media_type), []
            for split in (len(request), len(request) - max(1, len(body))):
                async with connection(port) as (reader, writer):
                    writer.write(request[:split])
                    await asyncio.sleep(0.01 if split < len(request) else 0)
                    writer.write(request[split:])
                    reply = await read_reply(reader)
                told = [(seen.rendered, seen.fields, seen.fingerprint) for seen in gateway.seen]
                found.append((reply.status, reply.status >= 400 and reply.error, told))
                gateway.seen.clear()
            assert found[0] == found[1]


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
