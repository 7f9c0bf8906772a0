"""Fetching from real sockets: redirects, limits, slowness, TLS, and what is never sent along."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import pytest

from gateway.egress import fetcher as fetching
from gateway.egress.fetcher import SafeFetcher
from gateway.ports.egress import Fetched, Unfetchable
from tests.egress.conftest import Target
from tests.egress.dns import UdpResolver, dns_server
from tests.egress.table import TableResolver
from tests.egress.test_urls import guarding
from tests.providers.raw_server import SELF_SIGNED, Connection, forever, serving

NAMES: Mapping[str, Sequence[str]] = {
    "here.example.com": ["127.0.0.1"],
    "there.example.com": ["127.0.0.1"],
    "inside.example.com": ["10.0.0.1"],
    "localhost": ["127.0.0.1"],
}
OPEN = ("here.example.com", "there.example.com")
"""Names that policy opens, so that tests may listen behind them; 127.0.0.1 by itself stays closed."""


@asynccontextmanager
async def fetching_by(*allowed: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[SafeFetcher]:
    """A fetcher under a policy, with names by the table."""
    fetcher = SafeFetcher(guarding(*allowed), resolver=TableResolver(NAMES), tls=tls)
    try:
        yield fetcher
    finally:
        await fetcher.aclose()


async def body_of(fetcher: SafeFetcher, url: str, *, limit: int = 10_000, seconds: float = 30) -> bytes:
    """Fetch a URL to its end."""
    fetched = await fetcher.get(url, seconds=seconds, limit=limit)
    try:
        return b"".join([chunk async for chunk in fetched.chunks()])
    finally:
        await fetched.aclose()


async def word_of(fetcher: SafeFetcher, url: str, *, limit: int = 10_000, seconds: float = 30) -> str:
    """The word with which a fetch fails."""
    with pytest.raises(Unfetchable) as caught:
        await body_of(fetcher, url, limit=limit, seconds=seconds)
    return caught.value.reason


async def test_a_body_comes_as_it_is_and_nothing_of_ours_is_sent_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes and headers come through; neither cookies, proxies of the environment, nor credentials take part."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")

    async def script(connection: Connection) -> None:
        for _ in range(2):
            await connection.request()
            await connection.answer(b"\x89PNG", headers="Set-Cookie: a=b\r\nContent-Type: image/png\r\n")

    async with serving(script) as server, fetching_by(*OPEN) as fetcher:
        url = f"http://here.example.com:{server.port}/a%2Fb?c=%26"
        fetched = await fetcher.get(url, seconds=30, limit=10)
        body = b"".join([chunk async for chunk in fetched.chunks()])
        await body_of(fetcher, url)

    assert (fetched.status, fetched.content_length, fetched.headers["content-type"]) == (200, 4, "image/png")
    assert body == b"\x89PNG"
    assert [request.line for request in server.requests] == ["GET /a%2Fb?c=%26 HTTP/1.1"] * 2
    assert [sorted(name for name, _ in request.headers) for request in server.requests] == [
        ["accept-encoding", "host", "user-agent"]
    ] * 2


@pytest.mark.parametrize(
    ("location", "word"),
    [
        ("http://127.0.0.1:{port}/", "address"),
        ("http://inside.example.com/", "address"),
        ("//inside.example.com/", "address"),
        ("http://169.254.169.254/latest/meta-data/", "address"),
        ("http://2130706433:{port}/", "host"),
        ("http://user@there.example.com:{port}/", "credentials"),
        ("file:///etc/passwd", "scheme"),
        ("http://nowhere.example.com/", "dns"),
        ("http://there.example.com\\@inside.example.com/", "url"),
        ("http://[::1", "host"),
        ("/again", "redirect"),
    ],
)
async def test_a_redirect_is_judged_like_any_url(connections: list[Target], location: str, word: str) -> None:
    """Where an answer leads inside, elsewhere than to a web server, or round in circles, nobody follows."""

    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            told = location.format(port=server.port)
            await connection.answer(b"moved", status="302 Found", headers=f"Location: {told}\r\n")

    async with serving(script) as server, fetching_by(*OPEN) as fetcher:
        assert await word_of(fetcher, f"http://here.example.com:{server.port}/") == word

    assert len(server.requests) == (4 if word == "redirect" else 1)
    assert set(connections) == {("127.0.0.1", server.port)}


@pytest.mark.parametrize(
    ("location", "path"), [("/\u00fc?\u00fc".encode(), "/%C3%BC?%C3%BC"), (b"/%fc\xfc", "/%fc%C3%BC")]
)
async def test_a_redirect_in_other_letters(location: bytes, path: str) -> None:
    """What a redirect names in UTF-8 is asked for so; in bytes that are none, no more is broken than the path."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: %s\r\n\r\n" % location)
        await connection.request()
        await connection.answer(b"arrived")

    async with serving(script) as server, fetching_by(*OPEN) as fetcher:
        assert await body_of(fetcher, f"http://here.example.com:{server.port}/") == b"arrived"

    assert server.requests[1].line == f"GET {path} HTTP/1.1"


@pytest.mark.parametrize("url", ["http://here.example.com/\ud800", "http://here.example.com/?\udfff", "http://\ud800/"])
async def test_half_a_character(url: str) -> None:
    """What JSON can escape and UTF-8 cannot say is refused like any URL that is none."""
    async with fetching_by(*OPEN) as fetcher:
        assert await word_of(fetcher, url) == "url"


async def test_headers_stay_with_the_origin_that_they_were_meant_for() -> None:
    """Three redirects are followed, headers given by the caller go along on one origin and are dropped on the next."""

    async def script(connection: Connection) -> None:
        while True:
            request = await connection.request()
            at = int(request.line.split("/")[1].split()[0])
            hosts = ("here.example.com", "here.example.com", "there.example.com", "here.example.com")
            if at == 3:
                await connection.answer(b"arrived")
            else:
                told = f"http://{hosts[at + 1]}:{server.port}/{at + 1}"
                await connection.answer(b"", status="307 Temporary Redirect", headers=f"Location: {told}\r\n")

    async with serving(script) as server, fetching_by(*OPEN) as fetcher:
        url = f"http://here.example.com:{server.port}/0"
        fetched = await fetcher.get(url, seconds=30, limit=100, headers={"authorization": "Bearer secret"})
        body = b"".join([chunk async for chunk in fetched.chunks()])

    assert body == b"arrived"
    assert [request.header("authorization") for request in server.requests] == ["Bearer secret"] * 2 + [None] * 2


async def test_limits_hold_for_what_is_declared_and_for_what_comes() -> None:
    """A body that says it is too long is not read; one that goes on for ever is cut off at the limit."""

    async def script(connection: Connection) -> None:
        request = await connection.request()
        if "declared" in request.line:
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
            await forever(connection)
        await connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await connection.send(b"x" * 65_536)

    async with serving(script) as server, fetching_by(*OPEN) as fetcher:
        url = f"http://here.example.com:{server.port}"
        with pytest.raises(Unfetchable) as caught:
            await fetcher.get(f"{url}/declared", seconds=30, limit=1_000_000)
        endless = await fetcher.get(f"{url}/endless", seconds=30, limit=1_000_000)
        pieces: list[int] = []
        with pytest.raises(Unfetchable) as cut:
            await count(endless, pieces)

    assert (caught.value.reason, cut.value.reason) == ("too_large", "too_large")
    assert 0 < sum(pieces) <= 1_000_000


async def count(fetched: Fetched, pieces: list[int]) -> None:
    """Read a body, noting the length of each piece."""
    chunks = fetched.chunks()
    while True:
        try:
            pieces.append(len(await anext(chunks)))
        except StopAsyncIteration:
            return


async def test_a_compressed_answer_is_refused_unread() -> None:
    """A small body that would unpack to a large one is not unpacked, since nobody asked for it."""
    bomb = gzip.compress(bytes(50_000_000))

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.answer(bomb, headers="Content-Encoding: gzip\r\n")

    async with serving(script) as server, fetching_by(*OPEN) as fetcher:
        assert await word_of(fetcher, f"http://here.example.com:{server.port}/", limit=100_000) == "encoding"


@pytest.mark.parametrize("slow", ["headers", "body", "drops"])
async def test_slowness_ends_at_the_deadline(slow: str) -> None:
    """Whether the headers, the body, or each byte of it come too slowly, the whole of it ends in time."""

    async def script(connection: Connection) -> None:
        await connection.request()
        if slow != "headers":
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while slow == "drops":
            await connection.send(b"x")
            await asyncio.sleep(0.05)
        await forever(connection)

    async with serving(script) as server, fetching_by(*OPEN) as fetcher:
        assert await word_of(fetcher, f"http://here.example.com:{server.port}/", seconds=0.5) == "timeout"


async def test_a_stall_ends_before_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that says nothing for a while is given up, however much time the caller gave."""
    monkeypatch.setattr(fetching, "STALL_SECONDS", 0.2)

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx")
        await forever(connection)

    async with serving(script) as server, fetching_by(*OPEN) as fetcher:
        assert await word_of(fetcher, f"http://here.example.com:{server.port}/", seconds=3600) == "timeout"


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", "broken"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "broken"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"a" * 20_000 + b"\r\n\r\n", "broken"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 300 + b"\r\n", "broken"),
        (b"", "broken"),
    ],
)
async def test_what_is_no_whole_answer_has_its_word(answer: bytes, word: str) -> None:
    """Answers that break off, are no HTTP, or have headers without end are failures, not crashes."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(answer)

    async with serving(script) as server, fetching_by(*OPEN) as fetcher:
        assert await word_of(fetcher, f"http://here.example.com:{server.port}/") == word


async def test_certificates_are_checked_against_the_name_in_the_url() -> None:
    """A certificate that is good for another name, or that nobody vouches for, is refused before anything is sent."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.answer(b"ok")

    known = ssl.create_default_context(cafile=str(SELF_SIGNED))
    allowed = (*OPEN, "localhost")
    async with serving(script, tls=True) as server:
        async with fetching_by(*allowed, tls=known) as fetcher:
            assert await body_of(fetcher, f"https://localhost:{server.port}/") == b"ok"
            assert await word_of(fetcher, f"https://here.example.com:{server.port}/") == "tls"
        async with fetching_by(*allowed) as fetcher:
            assert await word_of(fetcher, f"https://localhost:{server.port}/") == "tls"

    assert len(server.requests) == 1


async def test_https_never_leads_to_http() -> None:
    """A redirect from a secured origin to an open one is not followed."""

    async def script(connection: Connection) -> None:
        await connection.request()
        headers = f"Location: http://here.example.com:{server.port}/\r\n"
        await connection.answer(b"", status="301 Moved Permanently", headers=headers)

    known = ssl.create_default_context(cafile=str(SELF_SIGNED))
    async with serving(script, tls=True) as server, fetching_by(*OPEN, "localhost", tls=known) as fetcher:
        assert await word_of(fetcher, f"https://localhost:{server.port}/") == "redirect"


async def test_a_post_follows_nothing_and_tells_the_status() -> None:
    """A post answers with the status it met, a redirect's too, and reads no more of an endless answer."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 302 Found\r\nLocation: http://there.example.com/\r\n\r\n")
        while True:
            await connection.send(b"x" * 65_536)

    async with serving(script) as server, fetching_by(*OPEN) as fetcher:
        url = f"http://here.example.com:{server.port}/hook"
        posted = await fetcher.post(url, b'{"a": 1}', {"content-type": "application/json"}, seconds=30)

    assert (posted.status, posted.headers["location"]) == (302, "http://there.example.com/")
    assert [request.body for request in server.requests] == [b'{"a": 1}']


async def test_a_failure_tells_whether_anything_was_sent() -> None:
    """Nothing was sent where nobody listens; something was where the receiver hung up or said nothing."""

    async def script(connection: Connection) -> None:
        request = await connection.request()
        if "silent" in request.line:
            await forever(connection)

    async with fetching_by(*OPEN) as fetcher:
        async with serving(script) as server:
            url = f"http://here.example.com:{server.port}"
            outcomes = [await posted(fetcher, f"{url}/hangs-up"), await posted(fetcher, f"{url}/silent", seconds=0.5)]
        outcomes.append(await posted(fetcher, url))

    assert outcomes == ["broken", "timeout", "connect"]


@pytest.mark.parametrize("value", ["a\r\nX-Other: b", "a\nX-Other: b", "a\r\n\r\nGET /b HTTP/1.1", "\0", "\N{SNOWMAN}"])
async def test_a_header_begins_no_other(connections: list[Target], value: str) -> None:
    """A header with a line break in it is refused before anything is connected to."""
    async with fetching_by(*OPEN) as fetcher:
        with pytest.raises(Unfetchable) as caught:
            await fetcher.post("http://here.example.com:9999/", b"{}", {"webhook-id": value}, seconds=30)

    assert caught.value.reason == "url"
    assert connections == []


@pytest.mark.parametrize("at", ["handshake", "headers", "body"])
async def test_a_fetch_that_is_given_up_leaves_no_connection(at: str) -> None:
    """Whoever cancels a fetch hangs up with it, wherever it was."""
    reached, gone = asyncio.Event(), asyncio.Event()

    async def script(connection: Connection) -> None:
        if at != "handshake":
            await connection.request()
        if at == "body":
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx")
        reached.set()
        with suppress(ConnectionError):
            await connection.reader.read()  # what is left of a handshake, and the end
        gone.set()

    async with serving(script) as server, fetching_by(*OPEN) as fetcher:
        scheme = "https" if at == "handshake" else "http"
        task = asyncio.create_task(body_of(fetcher, f"{scheme}://here.example.com:{server.port}/"))
        async with asyncio.timeout(60):
            await reached.wait()
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            await gone.wait()


async def posted(fetcher: SafeFetcher, url: str, seconds: float = 30) -> str:
    """The word of a post that fails."""
    with pytest.raises(Unfetchable) as caught:
        await fetcher.post(url, b"{}", {}, seconds=seconds)
    return caught.value.reason


async def test_a_trusted_connection_serves_no_other_url() -> None:
    """A connection that trust opened is not used for the same URL without trust, which is refused as ever."""

    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            await connection.answer(b"secret")

    async with serving(script) as server, fetching_by() as fetcher:
        url = f"http://here.example.com:{server.port}/"
        fetched = await fetcher.get(url, seconds=30, limit=100, trusted={f"http://here.example.com:{server.port}"})
        assert b"".join([chunk async for chunk in fetched.chunks()]) == b"secret"
        assert await word_of(fetcher, url) == "address"

    assert len(server.requests) == 1


async def test_a_name_that_changes_its_address_leads_nowhere_else(connections: list[Target]) -> None:
    """A real DNS server answers an open address first and a closed one after: what was judged is connected to."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.answer(b"judged", headers="Connection: close\r\n")

    async with dns_server({"flips.example.com": ["127.0.0.1", "127.0.0.2"]}) as (names, port):
        fetcher = SafeFetcher(guarding("127.0.0.1"), resolver=UdpResolver(port))
        async with serving(script) as server:
            url = f"http://flips.example.com:{server.port}/"
            assert await body_of(fetcher, url) == b"judged"
            assert names.asked["flips.example.com"] == 1
            assert await word_of(fetcher, url) == "address"
            assert await word_of(fetcher, "http://missing.example.com/") == "dns"
        await fetcher.aclose()

    assert ("127.0.0.1", server.port) in connections
    assert "127.0.0.2" not in {address for address, _ in connections}


async def test_two_hundred_at_once_each_get_their_own() -> None:
    """Many fetches at once, over connections that are used again, get what belongs to each."""

    async def script(connection: Connection) -> None:
        while True:
            request = await connection.request()
            await connection.answer(request.line.split()[1].encode())

    async with serving(script) as server, fetching_by(*OPEN) as fetcher:
        url = f"http://here.example.com:{server.port}"
        found = await asyncio.gather(*(body_of(fetcher, f"{url}/{at}") for at in range(200)))

    assert found == [f"/{at}".encode() for at in range(200)]
