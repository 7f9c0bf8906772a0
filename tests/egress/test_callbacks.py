"""Callbacks delivered from a real store to real sockets: signatures, when they are tried again, and to whom."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from email.utils import formatdate
from itertools import pairwise

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from gateway.callbacks import sending
from gateway.callbacks.sending import CallbackSender
from gateway.domain.task import TaskStatus
from gateway.domain.webhook import PREFIX, RETRY_SECONDS, derived_secret, key_of, pause, signed_headers
from gateway.ledger.callbacks import RedisCallbacks
from gateway.ledger.names import Names
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from gateway.ledger.tasks import RedisTasks, message_of
from tests.egress.receivers import KEYS, NOW, Seen, sender_for
from tests.ledger.conftest import ledger, realm, server, store
from tests.ledger.work import queued
from tests.providers.raw_server import Connection, RawServer, forever, serving

__all__ = ["ledger", "realm", "server", "store"]

BODY = '{"status":"completed","é":1}'.encode()
NO_CONTENT = "204 No Content"


@pytest.fixture
def waiting(store: Store, realm: str) -> RedisCallbacks:
    """The messages of this realm."""
    return RedisCallbacks(store, realm)


@pytest.fixture
async def sender(waiting: RedisCallbacks) -> AsyncIterator[tuple[CallbackSender, Seen]]:
    """A sender whose clock stands still, and what it tells."""
    sender, fetcher, seen = sender_for(waiting)
    yield sender, seen
    await finished(sender)
    await fetcher.aclose()


async def finished(sender: CallbackSender) -> None:
    """Wait until nothing is under way."""
    while sender._sending:
        await asyncio.wait(sender._sending)


class Queue:
    """Makes messages that are due."""

    def __init__(self, ledger: RedisLedger, store: Store, realm: str) -> None:
        self._ledger, self._store, self._realm = ledger, store, realm
        self._tasks = RedisTasks(store, realm)

    async def message(self, url: str) -> str:
        """End a task that somebody wants to hear of; returns the message's id."""
        task_id = await queued(self._ledger, self._tasks, url=url)
        assert await self._tasks.end(task_id, None, TaskStatus.COMPLETED, callback_body=BODY)
        return message_of(task_id)

    async def due_in(self, message: str) -> float | None:
        """In how many seconds it is tried next, by the store's clock; None if it is not."""
        score = await self._store.execute("ZSCORE", Names(self._realm).callbacks_due, message)
        seconds, microseconds = await self._store.execute("TIME")
        return None if score is None else float(score) / 1000 - int(seconds) - int(microseconds) / 10**6

    async def now_due(self, message: str) -> None:
        """Let its time come."""
        await self._store.execute("ZADD", Names(self._realm).callbacks_due, "XX", 1, message)


@pytest.fixture
def queue(ledger: RedisLedger, store: Store, realm: str) -> Queue:
    """Where messages come from."""
    return Queue(ledger, store, realm)


def url_of(server: RawServer, host: str = "one.example.com", path: str = "/hook") -> str:
    """The URL of a receiver by a name."""
    return f"http://{host}:{server.port}{path}"


async def answer_204(connection: Connection) -> None:
    """Take every message."""
    while True:
        await connection.request()
        await connection.send(f"HTTP/1.1 {NO_CONTENT}\r\n\r\n".encode())


def test_signatures_verify_with_the_reference_library() -> None:
    """A library of Standard Webhooks takes what is signed here, with whichever of two secrets it knows."""
    now = int(time.time())
    signed = signed_headers(KEYS, "msg_1", now, BODY)
    for key in KEYS:
        assert Webhook(key).verify(BODY, signed) == {"status": "completed", "é": 1}
    as_text = Webhook(PREFIX + base64.b64encode(KEYS[0]).decode())
    as_text.verify(BODY, signed)

    for wrong in ({"webhook-id": "msg_2"}, {"webhook-timestamp": str(now - 1)}):
        with pytest.raises(WebhookVerificationError):
            as_text.verify(BODY, {**signed, **wrong})
    with pytest.raises(WebhookVerificationError):
        as_text.verify(BODY + b" ", signed)
    with pytest.raises(WebhookVerificationError):
        as_text.verify(BODY, signed_headers(KEYS, "msg_1", now - 3600, BODY))


def test_secrets_in_both_forms_and_derived_ones() -> None:
    """A secret stands for the bytes that the reference library takes it for, and each project has its own."""
    derived = derived_secret(b"p" * 32, "team")
    headers = signed_headers([key_of(derived)], "msg_1", int(time.time()), BODY)
    Webhook(derived).verify(BODY, headers)

    assert key_of("a text of at least 24 bytes") == b"a text of at least 24 bytes"
    assert derived_secret(b"p" * 32, "other") != derived != derived_secret(b"q" * 32, "team")
    for wrong in ("short", "whsec_c2hvcnQ=", "whsec_no base64"):
        with pytest.raises(ValueError, match=r"is too short|is no base64"):
            key_of(wrong)


def test_ten_tries_take_some_three_days() -> None:
    """The pauses are those of the specification, a tenth longer at most, and the tenth failure is the last."""
    pauses = [pause(tries, 0) for tries in range(1, 11)]

    assert pauses == [*map(float, RETRY_SECONDS), None]
    assert 75 * 3600 < sum(RETRY_SECONDS) < 76 * 3600
    assert pause(1, 1) == pytest.approx(5.5)


async def test_a_message_is_delivered_signed_and_forgotten(
    queue: Queue, waiting: RedisCallbacks, sender: tuple[CallbackSender, Seen]
) -> None:
    """The receiver gets the bytes as they are, with an id, the time, and a signature by every key; then it is over."""
    async with serving(answer_204) as server:
        message = await queue.message(url_of(server))
        assert await sender[0].deliver_due() == 1
        await finished(sender[0])
        [request] = server.requests

    assert (request.line, request.body) == ("POST /hook HTTP/1.1", BODY)
    assert request.header("content-type") == "application/json"
    assert {name: request.header(name) for name in ("webhook-id", "webhook-timestamp", "webhook-signature")} == (
        signed_headers(KEYS, message, int(NOW), BODY)
    )
    assert len((request.header("webhook-signature") or "").split()) == len(KEYS)
    assert sender[1].results == ["delivered"]
    assert await waiting.callback_counts() == {"waiting": 0, "dead": 0}


async def test_a_receiver_that_is_down_is_tried_ten_times(queue: Queue, waiting: RedisCallbacks) -> None:
    """Each try comes after the scheduled pause, under the same id; after the tenth it lies with the dead."""
    now = [NOW]

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.answer(b"no", status="503 Service Unavailable")

    sender, fetcher, seen = sender_for(waiting, clock=lambda: now[0])
    async with serving(script) as server:
        message = await queue.message(url_of(server))
        tried: list[float] = []
        while (pause := await queue.due_in(message)) is not None:
            now[0] += pause
            await queue.now_due(message)
            tried.append(now[0])
            assert await sender.deliver_due() == 1
            await finished(sender)
        requests = server.requests
    await fetcher.aclose()

    gaps = [after - before for before, after in pairwise(tried)]
    assert gaps == pytest.approx([seconds * 1.05 for seconds in RETRY_SECONDS], abs=1)
    assert {request.header("webhook-id") for request in requests} == {message}
    assert [request.header("webhook-timestamp") for request in requests] == [str(int(moment)) for moment in tried]
    assert seen.results == ["failed"] * 9 + ["dead"]
    [dead] = await waiting.dead()
    assert (dead.id, dead.tries, dead.error) == (message, 10, "status 503")


async def test_a_dead_message_can_be_sent_again(
    queue: Queue, waiting: RedisCallbacks, sender: tuple[CallbackSender, Seen]
) -> None:
    """410 ends it at once; sent again by the operator it begins with its first try, and is delivered."""
    gone = [True]

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.answer(b"", status="410 Gone" if gone[0] else "200 OK")

    async with serving(script) as server:
        message = await queue.message(url_of(server))
        await sender[0].deliver_due()
        await finished(sender[0])
        [dead] = await waiting.dead("p")
        gone[0] = False
        assert await waiting.revive(message)
        await sender[0].deliver_due()
        await finished(sender[0])

    assert (dead.id, dead.tries, dead.error) == (message, 1, "status 410")
    assert sender[1].results == ["dead", "delivered"]
    assert not await waiting.revive(message)


@pytest.mark.parametrize(
    ("status", "asked", "seconds"),
    [
        ("429 Too Many Requests", "600", 600),
        ("503 Service Unavailable", formatdate(NOW + 1_200, usegmt=True), 1_200),
        ("503 Service Unavailable", "2", 5),
        ("503 Service Unavailable", formatdate(NOW - 60, usegmt=True), 5),
        ("429 Too Many Requests", "1000000000", 24 * 3600),
        ("429 Too Many Requests", "soon", 5),
        ("500 Internal Server Error", "600", 5),
    ],
)
async def test_a_receiver_that_is_busy_says_when_to_come_back(
    queue: Queue, sender: tuple[CallbackSender, Seen], status: str, asked: str, seconds: float
) -> None:
    """`Retry-After` of a 429 or 503 puts the next try off, a day at most; it never brings one forward."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.answer(b"", status=status, headers=f"Retry-After: {asked}\r\n")

    async with serving(script) as server:
        message = await queue.message(url_of(server))
        await sender[0].deliver_due()
        await finished(sender[0])

    assert sender[1].results == ["failed"]
    assert await queue.due_in(message) == pytest.approx(seconds * 1.05, abs=1)


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("{here}/moved", "status 302"),
        ("{here}/hangs-up", "broken"),
        ("http://127.0.0.1:{port}/", "address"),
        ("http://nowhere.example.com/", "dns"),
        ("not a url", "url"),
    ],
)
async def test_what_is_no_success_is_tried_again(
    queue: Queue, sender: tuple[CallbackSender, Seen], url: str, error: str
) -> None:
    """A redirect is followed nowhere; that, a broken connection and a refused address count as a failed try."""

    async def script(connection: Connection) -> None:
        request = await connection.request()
        if "moved" in request.line:
            headers = f"Location: {url_of(connection.server, 'two.example.com')}\r\n"
            await connection.answer(b"", status="302 Found", headers=headers)

    async with serving(script) as server:
        message = await queue.message(url.format(here=url_of(server, path=""), port=server.port))
        await sender[0].deliver_due()
        await finished(sender[0])
        arrived = len(server.requests)

    assert sender[1].results == ["failed"]
    assert sender[1].errors[0].startswith(error)
    assert arrived == (1 if "{here}" in url else 0)
    assert await queue.due_in(message) == pytest.approx(5 * 1.05, abs=1)


async def test_a_slow_receiver_holds_up_nobody_else(queue: Queue, waiting: RedisCallbacks) -> None:
    """Of many messages to a silent receiver four are under way and the rest waits untried; others arrive."""

    async def script(connection: Connection) -> None:
        request = await connection.request()
        if (request.header("host") or "").startswith("one."):
            await forever(connection)
        await connection.answer(b"")

    sender, fetcher, seen = sender_for(waiting, clock=time.time)
    async with serving(script) as server:
        slow = [await queue.message(url_of(server)) for _ in range(100)]
        quick = [await queue.message(url_of(server, "two.example.com")) for _ in range(10)]
        running = asyncio.create_task(sender.run())
        await seen.so_many(len(quick))
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        hosts = [request.header("host") or "" for request in server.requests]
    await fetcher.aclose()

    assert sum(host.startswith("one.") for host in hosts) == sending.AT_ONCE_PER_HOST
    assert sum(host.startswith("two.") for host in hosts) == len(quick)
    assert seen.results == ["delivered"] * len(quick)
    for message in slow:
        await queue.now_due(message)
    assert {each.tries for each in await waiting.due(200)} == {0}


async def test_a_message_that_finds_no_room_is_put_off_before_another_takes_it(
    queue: Queue, waiting: RedisCallbacks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While silent receivers hold all the room, a message for another one is given back, and not kept past its time."""
    monkeypatch.setattr(sending, "AT_ONCE", 1)
    monkeypatch.setattr(sending, "PATIENCE_SECONDS", 0.1)
    sender, fetcher, seen = sender_for(waiting, clock=time.time)

    async def script(connection: Connection) -> None:
        await connection.request()
        await forever(connection)

    async def given_back(message: str) -> bool:
        return sending.BUSY_SECONDS - 1 < (await queue.due_in(message) or 0) < 3 * sending.BUSY_SECONDS

    async with serving(script) as server:
        messages = [await queue.message(url_of(server, host)) for host in ("one.example.com", "two.example.com")]
        running = asyncio.create_task(sender.run())
        async with asyncio.timeout(10):
            while not any([await given_back(message) for message in messages]):  # noqa: ASYNC110 - the store tells nobody
                await asyncio.sleep(0.05)
        requests = len(server.requests)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    await fetcher.aclose()

    assert (requests, seen.results) == (1, [])


async def test_a_message_that_waited_long_is_not_looked_at_all_the_time(
    queue: Queue, waiting: RedisCallbacks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is put off for its receiver waits a tenth of its age, so that many such messages are little work."""
    monkeypatch.setattr(sending, "IN_HAND_PER_HOST", 0)
    now = time.time() + 3600
    sender, fetcher, _ = sender_for(waiting, clock=lambda: now)
    message = await queue.message("http://one.example.com/hook")
    assert await sender.deliver_due() == 1
    await fetcher.aclose()
    assert await queue.due_in(message) == pytest.approx(1.5 * 360, abs=30)


@pytest.mark.parametrize("ahead", [-3 * 24 * 3600, 3 * 24 * 3600])
async def test_when_a_message_comes_again_does_not_go_by_the_gateways_own_clock(
    queue: Queue, waiting: RedisCallbacks, ahead: int
) -> None:
    """Two gateways disagree about the time; the store's decides, and no receiver is called without a pause or never."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.answer(b"", status="500 Internal Server Error")

    sender, fetcher, seen = sender_for(waiting, clock=lambda: time.time() + ahead)
    async with serving(script) as server:
        message = await queue.message(url_of(server))
        assert await sender.deliver_due() == 1
        await finished(sender)
        assert await sender.deliver_due() == 0
    await fetcher.aclose()

    assert seen.results == ["failed"]
    assert await queue.due_in(message) == pytest.approx(RETRY_SECONDS[0] * 1.05, abs=1)


async def test_what_was_under_way_when_a_process_stops_is_left_to_others_at_once(
    queue: Queue, waiting: RedisCallbacks
) -> None:
    """A sender that is cancelled gives back what it had begun, untried, so that nobody has to wait for it."""
    sender, fetcher, _ = sender_for(waiting, clock=time.time)
    began = asyncio.Event()

    async def script(connection: Connection) -> None:
        await connection.request()
        began.set()
        await forever(connection)

    async with serving(script) as server:
        message = await queue.message(url_of(server))
        running = asyncio.create_task(sender.run())
        await began.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    await fetcher.aclose()

    [again] = await waiting.due(9)
    assert (again.id, again.tries) == (message, 0)
