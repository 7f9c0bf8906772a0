"""Calls of providers that arrive at another gateway than the one that waits, over a real store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from gateway.callbacks import hints
from gateway.callbacks.hints import HintBoard
from gateway.ledger.hints import MOST, RedisMailboxes
from gateway.ledger.names import Names
from gateway.ledger.store import Store

PUBLIC = "https://images.example.com"
SECRET = b"a secret that all gateways have in common"


class Calls:
    """What a gateway's work was told."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[tuple[Mapping[str, str], bytes]] = asyncio.Queue()

    def take(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Keep it."""
        self.told.put_nowait((headers, body))
        return True


@asynccontextmanager
async def running(store: Store, realm: str, secret: bytes = SECRET) -> AsyncIterator[HintBoard]:
    """A gateway's board at its work."""
    board = HintBoard(PUBLIC, secret, RedisMailboxes(store, realm))
    work = asyncio.create_task(board.run())
    yield board
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)


def token_of(board: HintBoard, calls: Calls) -> str:
    """The token of a URL that a board has opened."""
    expected = board.expect(calls.take)
    assert expected is not None
    return expected.url.rpartition("/")[2]


async def test_a_call_wakes_the_gateway_that_waits_wherever_it_arrives(store: Store, realm: str) -> None:
    """Headers and body reach the gateway that opened the URL, once, and no other; credentials stay behind."""
    calls, idle = Calls(), Calls()
    async with running(store, realm) as one, running(store, realm) as other, running(store, realm) as third:
        token = token_of(one, calls)
        token_of(third, idle)
        take = other.find(token)
        assert take is not None
        assert take({"webhook-id": "1", "authorization": "Bearer x"}, b"\x00done")
        told = await asyncio.wait_for(calls.told.get(), 60)
        assert take({"webhook-id": "2"}, b"again")
        again = await asyncio.wait_for(calls.told.get(), 60)

    assert told == ({"webhook-id": "1"}, b"\x00done")
    assert again == ({"webhook-id": "2"}, b"again")
    assert idle.told.empty()
    assert calls.told.empty()


async def test_nobody_else_can_make_a_gateway_pass_anything_on(store: Store, realm: str) -> None:
    """Tokens that are made up, changed, of another secret or closed at their own gateway are unknown everywhere."""
    calls = Calls()
    async with running(store, realm) as one, running(store, realm) as other, running(store, realm, b"else") as else_:
        token = token_of(one, calls)
        swapped = ("A" if token[0] != "A" else "B") + token[1:]
        for wrong in ("A" * 64, swapped, token[:-4], token + "AAAA", token[:40], "", "é" * 64, token_of(else_, calls)):
            assert other.find(wrong) is None, wrong
        expected = one.expect(calls.take)
        assert expected is not None
        expected.close()
        assert one.find(expected.url.rpartition("/")[2]) is None
        assert HintBoard(PUBLIC, SECRET).find(token) is None


async def test_what_is_passed_on_is_bounded(store: Store, realm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that is too large is not passed on, a crowd is cut off, and a mailbox that nobody empties goes away."""
    monkeypatch.setattr(hints, "MOST_PASSED", 5)
    one, calls = HintBoard(PUBLIC, SECRET, RedisMailboxes(store, realm)), Calls()
    token, mailboxes = token_of(one, calls), RedisMailboxes(store, realm)
    other = HintBoard(PUBLIC, SECRET, mailboxes)
    take = other.find(token)
    assert take is not None
    for body in [b"x" * hints.MOST_BYTES, *[b"small"] * 9]:
        assert take({}, body)
    work = asyncio.create_task(other.run())
    key = Names(realm).hints_for(one._own.hex())

    async def arrived() -> int:
        return int(await store.execute("LLEN", key))

    async with asyncio.timeout(60):
        while await arrived() < 5:  # noqa: ASYNC110 - the store tells nobody
            await asyncio.sleep(0.01)
    for _ in range(MOST + 10):
        await mailboxes.leave(one._own.hex(), "[]")
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)

    assert await arrived() == MOST
    assert 0 < int(await store.execute("TTL", key)) <= 60


async def test_a_gateway_that_waits_for_nobody_asks_nothing_of_the_store(realm: str, store: Store) -> None:
    """While no URL is open, and once the last is closed, a board sends the store no command."""
    asked: list[str] = []
    looked = asyncio.Event()

    class Listening(RedisMailboxes):
        """Mailboxes that tell of each look."""

        async def collect(self, owner: str) -> list[str]:
            """Look."""
            asked.append(owner)
            looked.set()
            return list(await super().collect(owner))

    board, calls = HintBoard(PUBLIC, SECRET, Listening(store, realm)), Calls()
    work = asyncio.create_task(board.run())
    await asyncio.sleep(3 * hints.PAUSE)
    assert not asked
    expected = board.expect(calls.take)
    assert expected is not None
    await asyncio.wait_for(looked.wait(), 60)
    expected.close()
    await asyncio.sleep(2 * hints.PAUSE)  # for the look that was under way
    looks = len(asked)
    await asyncio.sleep(3 * hints.PAUSE)
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)

    assert len(asked) == looks
