"""Images of an answer are kept elsewhere, and the answer names their links."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.base64_stream import decoded
from tests.providers.accounts import provider_of
from tests.providers.calls import read_all
from tests.providers.test_elide import CUTS, cut
from tests.providers.test_fanout import by_turns, good, job, lost

ENCODINGS = st.sampled_from(["plain", "slashes", "codes", "lines", "unpadded"])


class Shelf:
    """Keeps images in memory, under the numbers in which they came."""

    def __init__(self, *, full: bool = False) -> None:
        self.kept: list[bytes] = []
        self._full = full

    async def keep(self, content: AsyncIterator[bytes]) -> str:
        """Keep one."""
        if self._full:
            raise OSError("no space left on device")
        image = b"".join([batch async for batch in content])
        self.kept.append(image)
        return f"http://here/{image.decode()}?a=1&b=2"


def b64(text: str) -> str:
    """As a provider writes an image."""
    return base64.b64encode(text.encode()).decode()


async def answer_of(shelf: Shelf, *replies: Any, calls: int = 1, n: int = 1, stream: bool = False) -> Any:
    """What becomes of a job whose images go to the shelf."""
    async with provider_of(by_turns(*replies)) as (provider, _):
        answer = await provider.send(replace(job(n, calls, 10 if calls == 1 else 1, stream=stream), links=shelf))
        body = await read_all(answer)
        assert answer.content_length in (None, len(body))
        await answer.aclose()
    return body if stream else json.loads(body)


async def test_every_image_is_named_by_its_link() -> None:
    """All else stays as it was, within the image and around it."""
    shelf = Shelf()
    reply = good(b64("one"), b64("two"), indent=1)
    document = await answer_of(shelf, reply, n=2)
    assert shelf.kept == [b"one", b"two"]
    assert document["data"] == [{"url": "http://here/one?a=1&b=2"}, {"url": "http://here/two?a=1&b=2"}]
    assert document["usage"]["total_tokens"] == 208
    assert document["size"] == "1024x1024"


async def test_what_stands_beside_an_image_stays() -> None:
    """A revised prompt, however long, before or after it."""

    async def reply(connection: Any, _: Any) -> None:
        element = {"revised_prompt": 'a "cat" ' * 500, "b64_json": b64("one"), "more": {"b64_json": "x"}}
        await connection.answer(json.dumps({"created": 1, "data": [element]}).encode())

    shelf = Shelf()
    document = await answer_of(shelf, reply)
    assert document["data"] == [
        {"revised_prompt": 'a "cat" ' * 500, "url": "http://here/one?a=1&b=2", "more": {"b64_json": "x"}}
    ]


@pytest.mark.parametrize("own", [None, "http://there/1", "", 5, {"b64_json": "x"}], ids=str)
@pytest.mark.parametrize("order", [0, 1, 2], ids=["first", "between", "last"])
async def test_a_link_that_came_beside_an_image_gives_way(own: object, order: int) -> None:
    """An answer may have the member for it whatever it holds; named twice, the last one would count."""
    members = [("b64_json", b64("one")), ("revised_prompt", None)]
    element = dict([*members[:order], ("url", own), *members[order:]])

    async def reply(connection: Any, _: Any) -> None:
        await connection.answer(json.dumps({"created": 1, "data": [element]}).encode())

    async with provider_of(by_turns(reply)) as (provider, _):
        answer = await provider.send(replace(job(1, 1, 10), links=Shelf()))
        body = await read_all(answer)
        await answer.aclose()
    assert json.loads(body)["data"] == [{"url": "http://here/one?a=1&b=2", "revised_prompt": None}]
    assert body.count(b'"url"') == 1


async def test_links_of_several_calls() -> None:
    """What succeeded is kept, in the order of the answer."""
    shelf = Shelf()
    document = await answer_of(shelf, good(b64("one")), lost, good(b64("two")), calls=3, n=3)
    assert sorted(item["url"] for item in document["data"]) == ["http://here/one?a=1&b=2", "http://here/two?a=1&b=2"]


@pytest.mark.parametrize(("shelf", "content"), [(Shelf(full=True), b64("one")), (Shelf(), "not base64!")])
async def test_an_image_that_cannot_be_kept_is_not_lost(shelf: Shelf, content: str) -> None:
    """It was paid for: it stays in the answer as it came."""
    document = await answer_of(shelf, good(content))
    assert document["data"] == [{"b64_json": content}]


async def test_a_provider_s_own_link_stays() -> None:
    """There is nothing to be kept."""

    async def reply(connection: Any, _: Any) -> None:
        await connection.answer(b'{"created": 1, "data": [{"url": "http://there/1"}]}')

    shelf = Shelf()
    assert (await answer_of(shelf, reply))["data"] == [{"url": "http://there/1"}]
    assert shelf.kept == []


async def test_a_stream_holds_images_and_no_links() -> None:
    """Its events have no place for one."""
    shelf = Shelf()
    body = await answer_of(shelf, good(b64("one")), stream=True)
    assert json.dumps(b64("one")).encode() in body
    assert shelf.kept == []


@given(image=st.binary(min_size=1, max_size=200), how=ENCODINGS, cuts=CUTS)
async def test_base64_however_it_is_written_and_cut(image: bytes, how: str, cuts: list[int]) -> None:
    """Escaped slashes, code points, line breaks and missing padding are what encoders do."""
    text = base64.b64encode(image).decode()
    written = {
        "plain": text,
        "slashes": text.replace("/", "\\/"),
        "codes": text.replace("+", "\\u002B").replace("/", "\\u002f").replace("=", "\\u003d"),
        "lines": "\\r\\n".join(text[at : at + 7] for at in range(0, len(text), 7)),
        "unpadded": text.rstrip("="),
    }[how]

    async def chunks() -> AsyncIterator[bytes]:
        for piece in cut(written.encode(), cuts):
            yield piece

    assert b"".join([batch async for batch in decoded(chunks())]) == image


@given(garbage=st.binary(min_size=1, max_size=60))
async def test_what_is_no_base64_is_refused(garbage: bytes) -> None:
    """Nothing but ValueError is raised, whatever comes."""

    async def chunks() -> AsyncIterator[bytes]:
        yield b"!" + garbage

    with pytest.raises(ValueError):
        async for _ in decoded(chunks()):
            pass
