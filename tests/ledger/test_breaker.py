"""The store answers with an error, late, or not at all: what is tried again, and when nothing is sent any more."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.cli.serve import serve
from gateway.ledger.embedded import embedded_store
from gateway.ledger.errors import LedgerRefused
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.script import Script
from gateway.ledger.store import Store
from gateway.ports import LedgerUnavailable
from gateway.process.app import Settings
from tests.conftest import AS_SHIPPED
from tests.ledger.fake_server import OK, Command, FakeServer, fake_server
from tests.ledger.rules import ABOUT, budget, candidate, hold
from tests.ledger.servers import server_pid

PATIENT = 30.0
FOREVER = 3600.0
RULE = budget(1000)


@pytest.fixture
async def fake() -> AsyncIterator[FakeServer]:
    """A server that says OK to everything."""
    async with fake_server(OK) as server:
        yield server


@contextmanager
def frozen(directory: Path) -> Iterator[None]:
    """The embedded server stands still meanwhile, its connections open."""
    pid = server_pid(directory)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def works_again(store: Store) -> None:
    """Wait until the store does."""
    async with asyncio.timeout(20):
        while True:
            try:
                await store.execute("PING")
            except LedgerUnavailable:
                await asyncio.sleep(0.01)
            else:
                return


def error(line: str) -> bytes:
    """An error reply."""
    return b"-" + line.encode() + b"\r\n"


@pytest.mark.parametrize(
    ("reply", "kind", "tries", "away"),
    [
        ("LOADING Redis is loading the dataset in memory", LedgerUnavailable, 1, True),
        ("BUSY Redis is busy running a script.", LedgerUnavailable, 1, True),
        ("CLUSTERDOWN The cluster is down", LedgerUnavailable, 3, True),
        ("MASTERDOWN Link with MASTER is down", LedgerUnavailable, 3, True),
        ("READONLY You can't write against a read only replica.", LedgerUnavailable, 3, False),
        ("TRYAGAIN Multiple keys request during rehashing of slot", LedgerUnavailable, 3, False),
        ("MOVED 1 127.0.0.1:1", LedgerUnavailable, 3, False),
        ("NOREPLICAS Not enough good replicas to write.", LedgerUnavailable, 1, False),
        ("MISCONF Errors writing to the AOF file", LedgerRefused, 1, False),
        ("OOM command not allowed when used memory > 'maxmemory'.", LedgerRefused, 1, False),
        ("NOAUTH Authentication required.", LedgerRefused, 1, False),
        ("WRONGPASS invalid username-password pair", LedgerRefused, 1, False),
        ("NOPERM this user has no permissions", LedgerRefused, 1, False),
        ("NOSCRIPT No matching script.", LedgerRefused, 1, False),
        ("CROSSSLOT Keys in request don't hash to the same slot", LedgerRefused, 1, False),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", LedgerRefused, 1, False),
        ("ERR unknown command", LedgerRefused, 1, False),
        ("ERR max number of clients reached", LedgerUnavailable, 1, False),
        ("NOVEL something nobody has heard of", LedgerRefused, 1, False),
    ],
)
async def test_each_error_reply_is_classed(
    fake: FakeServer, reply: str, kind: type[LedgerUnavailable], tries: int, *, away: bool
) -> None:
    """No error is success; what was not done is tried again twice, and only what concerns everybody stops everybody."""
    store = Store(fake.url)
    with fake.saying(error(reply)):
        with pytest.raises(LedgerUnavailable) as caught:
            await store.execute("SET", "x", "1")
        assert type(caught.value) is kind
        assert not str(caught.value).endswith(".")  # it becomes part of a sentence
        assert fake.names().count("SET") == tries
        with pytest.raises(LedgerUnavailable) as caught:
            await store.execute("SET", "y", "1")
        assert (fake.names().count("SET") == tries) == away
    await works_again(store)
    await store.aclose()


async def test_an_ask_redirection_is_followed_once(fake: FakeServer) -> None:
    """A key that is being moved is fetched from where it went, with the word that opens the door there."""
    async with fake_server(error(f"ASK 1 127.0.0.1:{fake.port}")) as moving:
        store = Store(moving.url)
        assert await store.execute("SET", "x", "1")
        assert (moving.names(), fake.names()) == (["SET"], ["ASKING", "SET"])
        await store.aclose()


async def test_a_forgotten_script_is_sent_whole_once(fake: FakeServer) -> None:
    """NOSCRIPT costs one more round trip, and the same again is an error."""
    script = Script("return 1", "0" * 40)
    store = Store(fake.url)
    with fake.saying(lambda command: OK if command[0] == "EVAL" else error("NOSCRIPT No matching script.")):
        assert await store.run(script, ["k"], []) == "OK"
    assert fake.names() == ["EVALSHA", "EVAL"]
    with fake.saying(error("NOSCRIPT No matching script.")), pytest.raises(LedgerRefused):
        await store.run(script, ["k"], [])
    await store.aclose()


@pytest.mark.parametrize(("repeatable", "tries"), [(True, 3), (False, 1)])
async def test_after_a_broken_connection_only_what_may_be_repeated_is(
    fake: FakeServer, *, repeatable: bool, tries: int
) -> None:
    """Nobody knows what a server did that hung up instead of answering."""
    store = Store(fake.url)
    with fake.saying(None), pytest.raises(LedgerUnavailable):
        await store.execute("INCR", "x", repeatable=repeatable)
    assert fake.names().count("INCR") == tries
    await works_again(store)
    await store.aclose()


async def test_a_connection_closed_while_idle_goes_unnoticed(fake: FakeServer) -> None:
    """What a server closed for being idle is not used, not even by a call that must not be repeated."""
    store = Store(fake.url)

    def leave(command: Command) -> bytes | None:
        return None if command[0] == "QUIT" else OK

    with fake.saying(leave):
        await store.execute("PING")
        with pytest.raises(LedgerUnavailable):
            await store.execute("QUIT")
        await store.execute("INCR", "x")
    assert fake.names() == ["PING", "QUIT", "INCR"]
    await store.aclose()


async def test_garbage_is_a_broken_connection(fake: FakeServer) -> None:
    """A server that speaks something else is an error, never a reply."""
    store = Store(fake.url)
    with fake.saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"), pytest.raises(LedgerUnavailable):
        await store.execute("PING", repeatable=True)
    await works_again(store)
    await store.aclose()


async def test_a_store_known_to_be_away_costs_nothing(fake: FakeServer) -> None:
    """Nothing is sent but probes, and refusals come without a turn of the event loop."""
    store = Store(fake.url)
    with fake.saying(error("LOADING Redis is loading the dataset in memory")):
        with pytest.raises(LedgerUnavailable, match="LOADING"):
            await store.execute("SET", "x", "1")
        connections = fake.connections
        for _ in range(10_000):
            refused = store.execute("SET", "x", "1")
            with pytest.raises(LedgerUnavailable, match="LOADING"):
                refused.send(None)  # it ends at its first step
        assert fake.names() == ["SET"]
        await asyncio.sleep(0.5)
        assert set(fake.names()) == {"SET", "PING"}
        assert fake.names().count("SET") == 1
        connected = 1  # a probe that has not asked yet
        assert fake.connections <= connections + fake.names().count("PING") + connected
    await works_again(store)
    await store.aclose()


async def test_a_frozen_store_is_noticed_by_its_silence(tmp_path: Path) -> None:
    """Long before the deadline of any call all of them end, those that wait too; and it works again once it moves."""
    with embedded_store(tmp_path) as url:
        store = Store(url, connections=2, deadline=FOREVER, patience=FOREVER, silence=0.5)
        ledger = RedisLedger(store)
        await hold(ledger, "before", candidate((RULE, 1)))
        with frozen(tmp_path):
            calls = [ledger.choose_and_hold(f"r{i}", [candidate((RULE, 1))], about=ABOUT) for i in range(100)]
            for result in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(result, LedgerUnavailable)
                assert "no answer on any connection for 0.5 s" in str(result)
            with pytest.raises(LedgerUnavailable, match="no answer on any connection"):
                await ledger.ping()
        await works_again(store)
        await ledger._leases.sweep()
        [balance] = await ledger.balances([RULE])
        assert (balance.used, balance.held) == (0, 1)
        await ledger.aclose()
        await store.aclose()


async def test_a_store_that_vanished_is_refused_and_found_again(tmp_path: Path) -> None:
    """After a crash calls fail at once, and succeed once the server is back, on the same object."""
    with embedded_store(tmp_path) as url:
        store = Store(url)
        await store.execute("PING")
        pid = server_pid(tmp_path)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(LedgerUnavailable):
            await store.execute("PING", repeatable=True)
        refused = store.execute("PING")
        with pytest.raises(LedgerUnavailable):
            refused.send(None)
        with embedded_store(tmp_path):
            await works_again(store)
        await store.aclose()


async def test_a_long_queue_at_a_slow_store_fails_nobody(fake: FakeServer) -> None:
    """Each waits for many times the silence allowed, but the store keeps answering."""
    store = Store(fake.url, connections=4, deadline=PATIENT, patience=PATIENT, silence=0.09)
    with fake.saying(0.02):
        results = await asyncio.gather(*(store.execute("SET", "x", str(i)) for i in range(150)))
    assert results == [True] * 150
    await store.aclose()


async def test_one_slow_call_is_no_silence(fake: FakeServer) -> None:
    """A call may take long while others are answered."""
    store = Store(fake.url, deadline=PATIENT, silence=0.09)

    def slowly(command: Command) -> float:
        return 0.5 if command[1] == "slow" else 0.01

    with fake.saying(slowly):
        slow = asyncio.create_task(store.execute("SET", "slow", "1"))
        while not slow.done():
            assert await store.execute("SET", "quick", "1")
        assert await slow
    await store.aclose()


async def test_a_store_that_nobody_asks_is_not_silent(fake: FakeServer) -> None:
    """Time in which nothing waits does not count."""
    store = Store(fake.url, deadline=PATIENT, silence=0.09)
    with fake.saying(0.04):
        for _ in range(5):
            await store.execute("SET", "x", "1")
            await asyncio.sleep(0.12)
    await store.aclose()


@pytest.mark.parametrize("pause", [0.1, 0.3])
async def test_an_own_pause_is_not_taken_for_silence(server: str, pause: float) -> None:
    """A process that stood still itself finds its replies before it blames the store."""
    store = Store(server, deadline=PATIENT, silence=0.09)
    for turns in (0, 1, 3, 7):
        calls = [asyncio.create_task(store.execute("PING")) for _ in range(20)]
        for _ in range(turns):
            await asyncio.sleep(0)
        time.sleep(pause)  # noqa: ASYNC251 - this is what is tested
        assert await asyncio.gather(*calls) == [True] * 20
    await store.aclose()


@pytest.mark.parametrize("silence", [0.09, 0.3], ids=["with a rule of silence", "with none"])
async def test_an_own_pause_uses_up_no_deadline(server: str, silence: float) -> None:
    """Calls whose time ran out while the process stood still have the rest of it when it goes on."""
    store = Store(server, deadline=0.3, silence=silence)
    for turns in (0, 1, 3, 7):
        calls = [asyncio.create_task(store.execute("PING")) for _ in range(20)]
        for _ in range(turns):
            await asyncio.sleep(0)
        time.sleep(0.5)  # noqa: ASYNC251 - this is what is tested
        assert await asyncio.gather(*calls) == [True] * 20
    await store.aclose()


async def test_a_pause_is_no_excuse_for_a_store_that_says_nothing(tmp_path: Path) -> None:
    """Once the process goes on, what was left of a call's time runs out as ever."""
    with embedded_store(tmp_path) as url:
        store = Store(url, deadline=0.3, silence=0.3)
        await store.execute("PING")
        with frozen(tmp_path):
            call = asyncio.create_task(store.execute("PING"))
            await asyncio.sleep(0.01)
            time.sleep(0.5)  # noqa: ASYNC251 - this is what is tested
            with pytest.raises(LedgerUnavailable, match="no answer"):
                await call
        await store.aclose()


async def test_long_reads_know_no_silence(fake: FakeServer) -> None:
    """Reports, which grant a call half a minute, get it."""
    store = Store(fake.url, deadline=PATIENT)
    with fake.saying(0.4):
        assert await store.execute("SET", "x", "1")
    await store.aclose()


async def test_closing_ends_the_probes(fake: FakeServer) -> None:
    """Nothing runs on after the store was closed while away."""
    store = Store(fake.url)
    with fake.saying(error("LOADING x")):
        with pytest.raises(LedgerUnavailable):
            await store.execute("SET", "x", "1")
        await store.aclose()
        asked = len(fake.asked)
        await asyncio.sleep(0.4)
        assert len(fake.asked) == asked


def test_the_silence_allowed_leaves_time_to_say_so(tmp_path: Path) -> None:
    """A request has its 503 within 100 ms of a store that went silent: a fifth of them are for all but the waiting."""
    [option] = [each for each in serve.params if each.name == "store_timeout"]
    assert option.default == Settings(data=tmp_path).store_timeout == AS_SHIPPED
    assert AS_SHIPPED <= 0.08
