"""The URLs that providers call: unguessable, bounded, silent to everybody else."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import httpx
import pytest

from gateway.callbacks import hints
from gateway.callbacks.hints import HintBoard
from tests.web.recording import RecordingGateway, serving_gateway

UNKNOWN = "/v1/hints/" + "A" * 43


class Hinted(RecordingGateway):
    """A gateway that expects calls, at a URL of its own choice."""

    def __init__(self) -> None:
        super().__init__()
        self.board = HintBoard("https://images.example.com/")
        self.taken: list[tuple[str, bytes]] = []

    def hint(self, token: str) -> Callable[[Mapping[str, str], bytes], bool] | None:
        """Whoever waits."""
        return self.board.find(token)

    def take(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Keep the call; say of one that names itself forged that it is none."""
        self.taken.append((headers.get("x-signature", ""), body))
        return body != b"forged"


@pytest.fixture
async def gateway() -> Hinted:
    """A gateway that expects calls."""
    return Hinted()


async def test_a_call_is_passed_on_until_it_is_no_longer_expected(gateway: Hinted) -> None:
    """Headers and body reach who waits, the answer is 204, and once closed the URL is one that never was."""
    expected = gateway.board.expect(gateway.take)
    assert expected is not None
    assert expected.url.startswith("https://images.example.com/v1/hints/")
    path = expected.url.removeprefix("https://images.example.com")
    async with serving_gateway(gateway) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        first = await client.post(path, content=b'{"id": 1}', headers={"X-Signature": "s"})
        forged = await client.post(path, content=b"forged")
        expected.close()
        expected.close()
        late = await client.post(path, content=b"late")

    assert [answer.status_code for answer in (first, forged, late)] == [204, 404, 404]
    assert first.content == b""
    assert gateway.taken == [("s", b'{"id": 1}'), ("", b"forged")]


async def test_an_unknown_token_is_any_unknown_path(gateway: Hinted) -> None:
    """Nothing but the path itself tells a wrong token from a path that does not exist, and its body is not read."""
    async with serving_gateway(gateway) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        wrong = await client.post(UNKNOWN, content=b"x" * 1_000)
        other = await client.post("/v1/nothing", content=b"x" * 1_000)

    assert wrong.status_code == other.status_code == 404
    assert wrong.json()["error"]["message"].replace(UNKNOWN, "/v1/nothing") == other.json()["error"]["message"]
    assert {**wrong.headers, "x-request-id": "", "content-length": "", "date": ""} == {
        **other.headers,
        "x-request-id": "",
        "content-length": "",
        "date": "",
    }


async def test_a_body_beyond_256_kib_is_refused(gateway: Hinted) -> None:
    """Who knows a URL still cannot make the gateway take in more than a message."""
    expected = gateway.board.expect(gateway.take)
    assert expected is not None
    path = expected.url.removeprefix("https://images.example.com")
    async with serving_gateway(gateway) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        assert (await client.post(path, content=b"x" * 256 * 1024)).status_code == 204
        assert (await client.post(path, content=b"x" * (256 * 1024 + 1))).status_code == 413
    assert len(gateway.taken) == 1


def test_urls_are_unguessable_and_their_number_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each URL holds 24 random bytes and a mark; beyond the bound, or without a public address, none is opened."""
    monkeypatch.setattr(hints, "MOST", 100)
    board = HintBoard("https://images.example.com")
    opened = [board.expect(lambda _headers, _body: True) for _ in range(101)]
    urls = {each.url for each in opened[:100] if each is not None}

    assert len(urls) == 100
    assert {len(url.rpartition("/")[2]) for url in urls} == {64}
    assert opened[100] is None
    assert opened[0] is not None
    opened[0].close()
    assert board.expect(lambda _headers, _body: True) is not None
    assert HintBoard(None).expect(lambda _headers, _body: True) is None
