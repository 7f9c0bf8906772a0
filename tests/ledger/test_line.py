"""Lines: what was asked together is answered in its order, or not at all; on the gateway's event loop and Python's."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import RedisError, ResponseError

from gateway.domain.budget import Held
from gateway.ledger.embedded import embedded_store
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.script import Script
from gateway.ledger.script_batching import ScriptBatcher, ScriptCall
from gateway.ledger.store import Store
from gateway.ports import LedgerUnavailable
from tests.ledger.fake_server import OK, Command, Reply, fake_server
from tests.ledger.rules import ABOUT, budget, candidate, settlement
from tests.ledger.tallied import DONE, tallied

PATIENT = 30.0
LARGE = 8 * 1024 * 1024
"""Bytes, more than any socket takes at once."""
ADD = Script("return redis.call('INCRBY', KEYS[1], ARGV[1])", "0" * 40)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Awaitable[None]], None]:
    """Runs a test on an event loop of either kind."""

    async def ended(proof: Awaitable[None]) -> None:
        async with asyncio.timeout(PATIENT):
            await proof

    def on_loop(proof: Awaitable[None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(ended(proof))

    return on_loop


def echo(command: Command) -> bytes:
    """Say back what it was told."""
    word = command[1].encode()
    return b"$%d\r\n%s\r\n" % (len(word), word)


def test_replies_come_in_the_order_of_the_commands(run: Callable[[Awaitable[None]], None]) -> None:
    """Also those of the next question, on the same connection; an error is one of them."""

    def says(command: Command) -> bytes:
        return b"-ERR no\r\n" if command[1] == "bad" else echo(command)

    async def proof() -> None:
        async with fake_server(says) as fake:
            store = Store(fake.url)
            for turn in "123":
                first, bad, last = await store.execute_all(
                    [["ECHO", f"a{turn}"], ["ECHO", "bad"], ["ECHO", f"b{turn}"]]
                )
                assert (first, last) == (f"a{turn}", f"b{turn}")
                assert isinstance(bad, ResponseError)
            assert fake.connections == 1
            assert store.losses.count == 0
            await store.aclose()

    run(proof())


def test_a_question_larger_than_the_socket_arrives(run: Callable[[Awaitable[None]], None]) -> None:
    """What the socket does not take at once follows, in order."""

    async def proof() -> None:
        async with fake_server(lambda command: b":%d\r\n" % len(command[1])) as fake:
            store = Store(fake.url, deadline=PATIENT)
            assert await store.execute_all([["ECHO", "x" * LARGE], ["ECHO", "y"]]) == [LARGE, 1]
            await store.aclose()

    run(proof())


def test_a_late_reply_answers_nobody(run: Callable[[Awaitable[None]], None]) -> None:
    """Whose time is up hears so; the next question goes on another connection, and has its own reply."""

    async def proof() -> None:
        async with fake_server(lambda command: 0.4 if command[1] == "slow" else echo(command)) as fake:
            store = Store(fake.url, deadline=0.2, silence=0.2)
            with pytest.raises(LedgerUnavailable, match=r"no answer in 0\.2 s"):
                await store.execute_all([["ECHO", "slow"]])
            assert store.losses.count == 1
            assert await store.execute_all([["ECHO", "quick"]]) == ["quick"]
            await asyncio.sleep(0.4)
            assert await store.execute_all([["ECHO", "again"]]) == ["again"]
            assert fake.connections == 2
            await store.aclose()

    run(proof())


def test_whoever_leaves_leaves_the_connection_in_order(run: Callable[[Awaitable[None]], None]) -> None:
    """The reply that nobody waits for any more is nobody else's."""

    async def proof() -> None:
        async with fake_server(lambda command: 0.1 if command[1] == "slow" else echo(command)) as fake:
            store = Store(fake.url, deadline=PATIENT)
            await store.execute_all([["ECHO", "first"]])
            leaving = asyncio.create_task(store.execute_all([["ECHO", "slow"]]))
            await asyncio.sleep(0.01)
            leaving.cancel()
            assert await store.execute_all([["ECHO", "other"]]) == ["other"]
            await asyncio.sleep(0.2)
            assert await store.execute_all([["ECHO", "last"]]) == ["last"]
            await store.aclose()

    run(proof())


@pytest.mark.parametrize(
    "says", [None, b"+OK\r\n+OK\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"], ids=["nothing", "too much", "garbage"]
)
def test_a_server_that_does_otherwise_is_asked_no_more(run: Callable[[Awaitable[None]], None], says: Reply) -> None:
    """One that hangs up, says what nobody asked for or speaks something else loses its connection, which counts."""

    async def proof() -> None:
        async with fake_server(OK) as fake:
            store = Store(fake.url)
            assert await store.execute_all([["SET", "x"]]) == ["OK"]
            with fake.saying(says):
                [reply] = await store.execute_all([["SET", "x"]])
            assert isinstance(reply, RedisError)
            assert store.losses.count > 0
            assert await store.execute_all([["SET", "x"]]) == ["OK"]
            assert fake.connections == 2
            await store.aclose()

    run(proof())


def test_a_connection_that_ends_while_idle_is_not_used_again(run: Callable[[Awaitable[None]], None]) -> None:
    """The next question meets no error, and the loss is counted before it is answered."""

    async def proof() -> None:
        async with fake_server(OK) as fake:
            store = Store(fake.url)

            for lost in range(3):
                assert await store.execute_all([["SET", "x"]]) == ["OK"]
                assert store.losses.count == lost
                fake.hang_up()
                await asyncio.sleep(0.05)
                assert store.losses.count == lost + 1
            await store.aclose()

    run(proof())


def test_an_own_pause_uses_up_no_deadline(run: Callable[[Awaitable[None]], None], tmp_path: Path) -> None:
    """A question whose time ran out while this process stood still has the rest of it when it goes on."""

    async def proof(url: str) -> None:
        store = Store(url, deadline=0.3, silence=0.3)
        for turns in (0, 1, 3, 7):
            asking = asyncio.create_task(store.execute_all([["PING"]]))
            for _ in range(turns):
                await asyncio.sleep(0)
            time.sleep(0.5)  # noqa: ASYNC251 - this is what is tested
            assert await asking == ["PONG"]
        await store.aclose()

    with embedded_store(tmp_path) as url:
        run(proof(url))


def test_dropped_lines_end_after_their_question(run: Callable[[Awaitable[None]], None]) -> None:
    """One in use is answered first; none is used again."""

    async def proof() -> None:
        async with fake_server(OK) as fake:
            store = Store(fake.url, deadline=PATIENT)
            await store.execute_all([["SET", "x"]])
            with fake.saying(0.1):
                asking = asyncio.create_task(store.execute_all([["SET", "x"]]))
                await asyncio.sleep(0.01)
                await store._servers.drop()
                assert await asking == ["OK"]
            assert await store.execute_all([["SET", "x"]]) == ["OK"]
            assert fake.connections == 2
            await store._servers.drop()
            assert await store.execute_all([["SET", "x"]]) == ["OK"]
            assert fake.connections == 3
            await store.aclose()

    run(proof())


def certified(directory: Path) -> ssl.SSLContext:
    """Return what a server shows that nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "store")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    file = directory / "both.pem"
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(*form))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def test_lines_go_through_tls(run: Callable[[Awaitable[None]], None], tmp_path: Path) -> None:
    """What is asked and said is encrypted, large or small, and the end of the connection is noticed."""

    async def proof() -> None:
        async with fake_server(echo, tls=certified(tmp_path)) as fake:
            url = fake.url.replace("redis:", "rediss:") + "?ssl_cert_reqs=none&ssl_check_hostname=false"
            store = Store(url, deadline=PATIENT)
            for word in ("small", "x" * LARGE, "again"):
                assert await store.execute_all([["ECHO", word], ["ECHO", "y"]]) == [word, "y"]
            assert fake.connections == 1
            with fake.saying(None):
                [reply] = await store.execute_all([["ECHO", "x"]])
                assert isinstance(reply, StoreConnectionError)
            assert await store.execute_all([["ECHO", "x"]]) == ["x"]
            await store.aclose()

    run(proof())


@asynccontextmanager
async def together(says: Callable[[Command], Reply]) -> AsyncIterator[ScriptBatcher]:
    """Calls that go to a server which says what it is told to."""
    async with fake_server(says, usual=DONE) as fake:
        store = Store(fake.url, deadline=PATIENT, silence=PATIENT)
        yield tallied(store)
        await store.aclose()


async def test_meanwhile_something_else_is_done() -> None:
    """While the store is at work each call's `meanwhile` is called, once, in the order of the calls."""
    told: list[str] = []
    async with together(lambda _: 0.05) as calls:
        for _ in range(2):  # the first opens the connection
            told.clear()
            asked = [ScriptCall(ADD, ["k"], [name], meanwhile=partial(told.append, name)) for name in "ab"]
            for call in (*asked, plain := ScriptCall(ADD, ["k"], ["c"])):
                call.reply.add_done_callback(lambda _: told.append("reply"))
                calls.put(call)
            assert told == []
            await plain.reply
            await asyncio.sleep(0)
            assert told == ["a", "b", "reply", "reply", "reply"]


async def test_meanwhile_comes_once_however_often_a_hold_asks(ledger: RedisLedger) -> None:
    """A hold on many candidates may take several calls, and what can be done besides is done once."""
    full, other = budget(0), budget(10)
    told: list[str] = []
    offers = [*[candidate((full, 1))] * 6, candidate((other, 1))]
    held = await ledger.choose_and_hold("r", offers, about=ABOUT, meanwhile=lambda: told.append("hold"))
    assert isinstance(held, Held)
    await ledger.settle(settlement("r", 1), meanwhile=lambda: told.append("settlement"))
    assert told == ["hold", "settlement"]
