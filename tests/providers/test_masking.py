"""An account that repeats its own secret in an answer: no client sees it, wherever it stands and however it is cut."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.job import Operation
from gateway.domain.profile import Profile
from gateway.http1.message import Incoming
from gateway.ports.provider import Call
from gateway.ports.responses import PassthroughRequest
from gateway.providers.masking import SHORTEST, Mask
from gateway.providers.passthrough import AccountPassthrough
from tests.providers.accounts import answering, provider_of
from tests.providers.calls import SECRET, call, config, read_all
from tests.providers.raw_server import Connection, serving

WORDS = f"Incorrect API key provided: {SECRET}."
ERROR = {"message": WORDS, "type": "invalid_request_error", "param": None, "code": "invalid_api_key"}
RESPONSE = {"id": "resp_1", "object": "response", "status": "failed", "error": {"code": "x", "message": WORDS}}
STREAM, PLAIN = call(stream=True), call()
TALK, TALKING = call(operation=Operation.RESPOND), call(operation=Operation.RESPOND, stream=True)
OTHER = Profile(drop=("style",))


def event(document: dict[str, object]) -> bytes:
    """A server-sent event."""
    return f"event: {document['type']}\ndata: {json.dumps(document)}\n\n".encode()


class Pieces(Incoming):
    """A body in these pieces."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = list(pieces)
        self.status_code, self.said, self.named = 200, [], {}

    async def read(self) -> bytes:
        """The next one."""
        return self._pieces.pop(0) if self._pieces else b""


async def masked(body: bytes, cuts: Sequence[int], secret: str = SECRET) -> bytes:
    """What goes on of a body that comes in pieces of these sizes, over and over."""
    pieces, at, turn = list[bytes](), 0, 0
    while at < len(body):
        size = cuts[turn % len(cuts)]
        pieces.append(body[at : at + size])
        at, turn = at + size, turn + 1
    return b"".join([chunk async for chunk in Mask(secret).over(Pieces(pieces))])


@given(
    cuts=st.lists(st.integers(1, 60), min_size=1),
    parts=st.lists(
        st.sampled_from([SECRET, SECRET[:-1], SECRET[1:], SECRET[:4], "s", "sk", "-", "\n\n", '{"b64_json": "']),
        max_size=12,
    ),
)
async def test_the_secret_goes_and_all_else_stays(cuts: list[int], parts: list[str]) -> None:
    """Byte for byte, and as long as it was: its length may be told already."""
    body = "".join(parts)
    assert await masked(body.encode(), cuts) == body.replace(SECRET, "*" * len(SECRET)).encode()


@pytest.mark.parametrize("secret", ['quote"and\\slash', "slash/within/it", "plain-and-long-enough"])
@pytest.mark.parametrize("size", [1, 5, 1000])
async def test_a_secret_as_json_writes_it_goes_too(secret: str, size: int) -> None:
    """Escaped or not."""
    written = json.dumps({"message": secret})
    for text in (written, written.replace("/", "\\/")):
        told = json.loads(await masked(text.encode(), [size], secret))["message"]
        assert told.strip("*") == "", told


@pytest.mark.parametrize("secret", [None, "", "x" * (SHORTEST - 1)])
def test_a_secret_that_an_image_may_hold_by_chance_is_not_looked_for(secret: str | None) -> None:
    """Nor is one that there is not: the answer is not looked through."""
    response = Pieces([])
    assert Mask(secret).over(response) is response
    assert Mask(secret).whole(b"x" * 100) == b"x" * 100


async def test_what_does_not_hold_it_is_passed_on_as_it_is() -> None:
    """No byte is copied."""
    chunk = b"A" * 65_536
    assert await Mask(SECRET).over(Pieces([chunk])).read() is chunk
    assert Mask(SECRET).whole(chunk) is chunk


@pytest.mark.parametrize(
    ("profile", "job", "body"),
    [
        (Profile(), STREAM, event({"type": "error", "error": ERROR})),
        (Profile(), STREAM, event({"type": "error", **ERROR})),
        (OTHER, STREAM, b"data: {}\n\n" * 40_000 + event({"type": "error", "error": ERROR})),
        (Profile(), TALK, json.dumps(RESPONSE).encode()),
        (Profile(), TALK, json.dumps(RESPONSE | {"instructions": "x" * 300_000}).encode()),
        (Profile(), TALKING, event({"type": "response.failed", "response": RESPONSE})),
        (Profile(), PLAIN, json.dumps({"data": [{"b64_json": "A" * 400_000, "revised_prompt": WORDS}]}).encode()),
        (OTHER, PLAIN, json.dumps({"data": [{"b64_json": "AAAA", "revised_prompt": WORDS}]}).encode()),
    ],
    ids=["event", "flat", "late", "response", "long response", "response event", "long image", "image"],
)
async def test_no_answer_tells_the_secret(profile: Profile, job: Call, body: bytes) -> None:
    """Whatever form it has; its length, where one was told, stays right."""
    kind = "Content-Type: text/event-stream\r\n" if job.job.stream else ""
    async with provider_of(answering(body, headers=kind), profile=profile) as (provider, _):
        answer = await provider.send(job)
        got = await read_all(answer)
        await answer.aclose()
    assert SECRET.encode() not in got
    assert got == body.replace(SECRET.encode(), b"*" * len(SECRET))


async def test_what_goes_through_does_not_tell_it() -> None:
    """Nor does it where the secret comes in two pieces."""
    body, read = json.dumps({"error": {"message": WORDS}}).encode(), asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        half = body.index(SECRET.encode()) + 5
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:half])
        await read.wait()
        await connection.send(body[half:])

    async with serving(script) as server:
        passages = AccountPassthrough({"acme": config(server.url)})
        answer = await passages.send("acme", PassthroughRequest(method="GET", path="/files", request_id="req_1"))
        chunks = answer.chunks()
        got = await anext(chunks)
        read.set()
        got += b"".join([chunk async for chunk in chunks])
        await answer.aclose()
        await passages.aclose()
    assert got == body.replace(SECRET.encode(), b"*" * len(SECRET))
