"""Links of providers whose answers go on as they come: what they lead to is given in their place."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from typing import Any

import pytest

from gateway.domain.profile import Profile
from gateway.domain.settlement import Outcome
from gateway.ports.provider import ProviderServices, UpstreamFailure
from gateway.providers import linked_image
from gateway.providers.linked import MOST
from gateway.providers.normalised import MOST as MOST_FETCHED
from gateway.providers.registry import open_provider
from gateway.providers.task_images import TRIES
from tests.providers.calls import call, config, read_all
from tests.providers.pages import Pages
from tests.providers.raw_server import Connection, serving
from tests.providers.test_picture import file_of
from tests.providers.test_profiled import ENCODED, PNG, USAGE, answer_to

PLAIN, PROFILED = Profile(), Profile(drop=("style",))
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize("profile", [PLAIN, PROFILED], ids=["plain", "profiled"])
@pytest.mark.parametrize(
    "url", ["/pictures/1", "https://cdn.example.com/1.png", "/pictures/1?signature=" + "s" * 3000], ids=len
)
async def test_a_link_is_fetched_whatever_the_provider_is(profile: Profile, url: str) -> None:
    """On its own host or elsewhere, and however long a signature makes it; the answer is settled as it says."""
    body: dict[str, Any] = {"created": 7, "data": [{"url": url, "b64_json": None, "revised_prompt": "x"}]}
    document, reading, _ = await answer_to(
        body | {"usage": USAGE}, profile, services=ProviderServices(Pages({url: PNG}))
    )
    assert document["data"] == [{"revised_prompt": "x", "b64_json": ENCODED}]
    assert (document["created"], document["usage"]) == (7, USAGE)
    assert (reading.images, reading.complete, reading.output_format) == (1, True, "png")
    assert reading.usage is not None


@pytest.mark.parametrize("profile", [PLAIN, PROFILED], ids=["plain", "profiled"])
@pytest.mark.parametrize("bytes_more", [0, 300_000])
async def test_a_data_uri_becomes_plain_base64(profile: Profile, bytes_more: int) -> None:
    """Which is what clients decode, what is stored, and what is converted."""
    image = base64.b64encode(PNG + bytes(bytes_more)).decode()
    for member in ("b64_json", "url") if not bytes_more else ("b64_json",):
        document, reading, _ = await answer_to({"data": [{member: "data:image/png;base64," + image}]}, profile)
        assert (document["data"], reading.images) == ([{"b64_json": image}], 1)


async def test_what_cannot_be_fetched_stays_a_link() -> None:
    """Nothing that was paid for is lost."""
    document, reading, server = await answer_to({"data": [{"url": "/gone"}]}, PLAIN)
    assert (document["data"], reading.images) == ([{"url": f"{server.url}/gone"}], 1)


@pytest.mark.parametrize("host", ["xn--i-7iq.ws", "xn--a", "\u2603.example"])
async def test_a_link_of_no_readable_host_stays_as_it_was_written(host: str) -> None:
    """Somebody else may read it; the images beside it and the usage are not lost for it."""
    link = f"https://{host}/x.png"
    body = {"data": [{"url": link}, {"url": "/pictures/1"}], "usage": USAGE}
    document, reading, _ = await answer_to(body, PLAIN)
    assert document["data"] == [{"url": link}, {"b64_json": ENCODED}]
    assert (reading.images, reading.usage is not None) == (2, True)


@pytest.mark.parametrize("link", ["data:image/png;base64,", "javascript:alert(1)", "file:///etc/passwd"])
async def test_a_link_that_is_none_is_no_image(link: str) -> None:
    """Nor is a data URI with nothing in it."""
    for member in ("url", "b64_json") if link.startswith("data:") else ("url",):
        document, reading, _ = await answer_to({"data": [{member: link}]}, PLAIN)
        assert (document["data"], reading.images) == ([], 0)


@pytest.mark.parametrize("profile", [PLAIN, PROFILED], ids=["plain", "profiled"])
@pytest.mark.parametrize("there", [b"<html>", gzip.compress(PNG), b""], ids=["page", "packed", "nothing"])
async def test_what_is_no_image_is_not_given_for_one(profile: Profile, there: bytes) -> None:
    """The link stays, and with it whatever it may lead to for somebody else."""

    async def script(connection: Connection) -> None:
        while True:
            asked = await connection.request()
            body = there if asked.line.startswith("GET ") else b'{"data": [{"url": "/pictures/1"}]}'
            await connection.answer(body, headers="Content-Type: application/json\r\n")

    async with serving(script) as server:
        provider = open_provider(config(server.url, profile=profile))
        answer = await provider.send(call())
        document = json.loads(await read_all(answer))
        await answer.aclose()
        await provider.aclose()
    assert (document["data"], answer.reading().images) == ([{"url": f"{server.url}/pictures/1"}], 1)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
async def test_half_an_image_is_not_given_for_one(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no length was told, only the image itself says whether it is whole."""
    monkeypatch.setattr(linked_image, "PAUSE", 0.01)
    whole = file_of(kind)
    come = [whole, *[whole[: len(whole) // 2]] * TRIES]

    async def script(connection: Connection) -> None:
        asked = await connection.request()
        if asked.line.startswith("GET "):
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n" + come.pop(0))
        else:
            await connection.answer(b'{"data": [{"url": "/pictures/1"}]}')

    found = []
    async with serving(script) as server:
        provider = open_provider(config(server.url))
        for _ in range(2):
            answer = await provider.send(call())
            found += json.loads(await read_all(answer))["data"]
            await answer.aclose()
        await provider.aclose()
    assert found == [{"b64_json": base64.b64encode(whole).decode()}, {"url": f"{server.url}/pictures/1"}]
    assert come == []


HALF = {
    "of its length": HEAD + b"Content-Length: %d\r\n\r\n" % len(PNG) + PNG[:-9],
    "of its chunks": HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(PNG) + PNG[:-9],
    "without a length": HEAD + b"\r\n" + PNG[:-9],
    "not a byte": b"",
    "an error of its server": b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("broken", HALF.values(), ids=list(HALF))
async def test_an_image_whose_fetch_broke_off_is_fetched_again(broken: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link dies soon, and on the provider's own host it is of no use to anybody else."""
    monkeypatch.setattr(linked_image, "PAUSE", 0.01)
    come = [broken] * (TRIES - 1)

    async def script(connection: Connection) -> None:
        asked = await connection.request()
        if not asked.line.startswith("GET "):
            await connection.answer(b'{"data": [{"url": "/pictures/1"}]}')
        elif come:
            await connection.send(come.pop(0))
        else:
            await connection.answer(PNG, headers="Content-Type: image/png\r\n")

    async with serving(script) as server:
        provider = open_provider(config(server.url))
        answer = await provider.send(call())
        assert json.loads(await read_all(answer))["data"] == [{"b64_json": ENCODED}]
        await answer.aclose()
        await provider.aclose()
    assert len(server.requests) == 1 + TRIES


@pytest.mark.parametrize(("status", "fetches"), [(404, 1), (403, 1), (500, TRIES), (200, 1)])
async def test_what_will_not_change_is_not_fetched_again(
    status: int, fetches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link that leads nowhere, or to no image; what its server cannot do now is tried so often."""
    monkeypatch.setattr(linked_image, "PAUSE", 0.01)

    async def script(connection: Connection) -> None:
        while True:
            asked = await connection.request()
            if asked.line.startswith("GET "):
                await connection.answer(b"<html>", status=f"{status} So")
            else:
                await connection.answer(b'{"data": [{"url": "/pictures/1"}]}')

    async with serving(script) as server:
        provider = open_provider(config(server.url))
        answer = await provider.send(call())
        assert json.loads(await read_all(answer))["data"] == [{"url": f"{server.url}/pictures/1"}]
        await answer.aclose()
        await provider.aclose()
    assert len(server.requests) == 1 + fetches


@pytest.mark.parametrize(
    "body",
    [
        {"data": [{"b64_json": "eA=="}, {"url": "/pictures/1"}]},
        {"data": [{"b64_json": "A" * 200_000, "url": "/pictures/1"}]},
        {"data": [], "url": "/pictures/1"},
        {"error": {"code": "x", "url": "/pictures/1"}},
        {"data": [{"url": "/pictures/1"}], "more": "A" * MOST},
    ],
    ids=["beside an image", "of an image", "of nothing", "of an error", "in a long answer"],
)
async def test_all_else_goes_on_as_it_came(body: dict[str, object]) -> None:
    """Byte for byte, and nothing is fetched."""
    document, _, server = await answer_to(body, PLAIN)
    assert (document, len(server.requests)) == (body, 1)


@pytest.mark.parametrize("profile", [PLAIN, PROFILED], ids=["plain", "profiled"])
async def test_so_many_links_as_nobody_can_ask_for_are_not_all_followed(profile: Profile) -> None:
    """An answer of them would take every connection of the gateway, or call a stranger's host a thousand times."""
    links = [{"url": f"/pictures/{number}"} for number in range(300)]
    document, reading, server = await answer_to({"data": links, "usage": USAGE}, profile)
    assert document["data"][:MOST_FETCHED] == [{"b64_json": ENCODED}] * MOST_FETCHED
    assert document["data"][MOST_FETCHED:] == [
        {"url": f"{server.url}/pictures/{number}"} for number in range(MOST_FETCHED, 300)
    ]
    assert (len(server.requests) - 1, reading.images) == (MOST_FETCHED, 300)


async def test_links_that_come_in_pieces_are_fetched_and_images_are_passed_on_before_their_end() -> None:
    """How a network cuts an answer makes no difference; an image is not waited for."""
    go_on = asyncio.Event()

    async def script(connection: Connection) -> None:
        for first, rest in ((b'{"data": [{"u', b'rl": "/1"}]}'), (b'{"data": [{"b64_json": "' + b"A" * 400, b'"}]}')):
            await connection.request()
            await connection.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(first), first))
            await asyncio.sleep(0.05) if b"A" not in first else await go_on.wait()
            await connection.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(rest), rest))
            if b"A" not in first:
                await connection.request()
                await connection.answer(PNG, headers="Content-Type: image/png\r\n")

    async with serving(script) as server:
        provider = open_provider(config(server.url))
        linked = await provider.send(call())
        assert json.loads(await read_all(linked))["data"] == [{"b64_json": ENCODED}]
        inline = await provider.send(call())
        chunks = inline.chunks()
        assert (await anext(chunks)).endswith(b"A" * 400)
        go_on.set()
        assert b"".join([chunk async for chunk in chunks]) == b'"}]}'
        assert inline.reading().images == 1
        await provider.aclose()


async def test_an_answer_that_breaks_off_is_told_by_itself() -> None:
    """As any that does: it may have been billed."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(HEAD + b'Content-Length: 100\r\n\r\n{"data": [{"url": "/1"')

    async with serving(script) as server:
        provider = open_provider(config(server.url))
        answer = await provider.send(call())
        with pytest.raises(UpstreamFailure) as caught:
            await read_all(answer)
        assert caught.value.outcome is Outcome.UNKNOWN
        await answer.aclose()
        await provider.aclose()
