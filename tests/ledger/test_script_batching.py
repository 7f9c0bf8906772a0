"""Scripts that go to the store together: what one has to do with another is the round trip, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from gateway.ledger.errors import LedgerRefused
from gateway.ledger.line import Told
from gateway.ledger.script import Script
from gateway.ledger.script_batching import MOST_AT_ONCE, MOST_BYTES, ScriptBatcher, ScriptCall
from gateway.ledger.store import Store
from gateway.ports import LedgerUnavailable
from tests.ledger.fake_server import Command, FakeServer, bulk, fake_server
from tests.ledger.tallied import DONE, tallied

SOURCE = "return {'0', redis.call('INCRBY', KEYS[2], ARGV[3])}"
ADD = Script(SOURCE, "3a5ae8ae9a4a2a3d9a1f0d1e9f7a2c1b4d5e6f70")
"""Its digest is not its own, so that the server knows it only by its source."""
PATIENT = 30.0
NAMED = len(["EVALSHA", "digest", "2", "instances", "k", "instance", "number"])
"""Where a command has what its script adds."""


async def run(together: ScriptBatcher, script: Script, keys: list[str], args: list[str]) -> object:
    """Run a script as the ledger does: with others, and where that comes to nothing by itself."""
    call = ScriptCall(script, keys, args)
    together.put(call)
    reply = await call.reply
    return await together.by_itself(call) if isinstance(reply, Exception) else reply


@pytest.fixture
async def fake() -> AsyncIterator[FakeServer]:
    """A server that says of everything that it is done."""
    async with fake_server(DONE, usual=DONE) as server:
        yield server


async def test_what_comes_meanwhile_goes_at_once(fake: FakeServer) -> None:
    """While a call is under way others gather, and go next, in the order in which they came and bounded in number."""
    store = Store(fake.url, deadline=PATIENT, silence=PATIENT)
    together = tallied(store)
    writes: list[int] = []
    begun = asyncio.Event()
    ask = store.ask

    def counted(commands: Sequence[Sequence[str | int]], told: Told) -> None:
        writes.append(len(commands))
        begun.set()
        ask(commands, told)

    store.ask = counted  # type: ignore[method-assign]  # only looked at, and passed on
    count = 2 * MOST_AT_ONCE
    first = asyncio.create_task(run(together, ADD, ["k"], ["first"]))
    await begun.wait()
    calls = [run(together, ADD, ["k"], [str(i)]) for i in range(count)]
    assert await asyncio.gather(first, *calls) == ["OK"] * (count + 1)
    assert writes == [1, MOST_AT_ONCE, MOST_AT_ONCE]
    assert [command[NAMED] for command in fake.asked] == ["first", *map(str, range(count))]
    await store.aclose()


async def test_large_ones_do_not_go_together(fake: FakeServer) -> None:
    """No reply comes before all were run, so that what goes at once is bounded in size too; one alone always goes."""
    store = Store(fake.url, deadline=PATIENT, silence=PATIENT)
    together = tallied(store)
    large = "x" * (MOST_BYTES + 1)
    calls = [run(together, ADD, ["k"], [large]) for _ in range(3)]
    assert await asyncio.gather(*calls) == ["OK"] * 3
    await store.aclose()


async def test_the_error_of_one_is_no_matter_to_the_others(server: str) -> None:
    """Each gets the reply to its own script; one that fails does so with its own error."""
    store = Store(server, deadline=PATIENT, silence=PATIENT)
    together = tallied(store)
    calls = [run(together, ADD, ["together:n"], [amount]) for amount in ("1", "no number", "2", "3", "1.5")]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [int, LedgerRefused, int, int, LedgerRefused]
    assert await store.execute("GET", "together:n") == "6"
    await store.aclose()


async def test_what_cannot_be_written_is_no_matter_to_the_others(server: str) -> None:
    """Half of a character cannot be sent: whoever asked for that hears so, and the others get their replies."""
    store = Store(server, deadline=PATIENT, silence=PATIENT)
    together = tallied(store)
    calls = [run(together, ADD, ["together:text"], [amount]) for amount in ("1", "\ud800", "2")]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [int, UnicodeEncodeError, int]
    assert await run(together, ADD, ["together:text"], ["3"]) == 6
    await store.aclose()


async def test_whoever_leaves_takes_nobody_along(fake: FakeServer) -> None:
    """One that is cancelled before or after it is sent leaves the others their own replies."""
    store = Store(fake.url, deadline=PATIENT, silence=PATIENT)
    together = tallied(store)

    begun = asyncio.Event()

    def slowly(_command: Command) -> float:
        begun.set()
        return 0.05

    with fake.saying(slowly):
        tasks = [asyncio.create_task(run(together, ADD, ["k"], [str(i)])) for i in range(9)]
        tasks[1].cancel()
        await begun.wait()
        tasks[2].cancel()
        tasks[5].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    left = [at for at, result in enumerate(results) if isinstance(result, asyncio.CancelledError)]
    assert left == [1, 2, 5]
    assert all(results[at] for at in range(9) if at not in left)
    await store.aclose()


async def test_a_broken_connection_is_tried_again_one_by_one(fake: FakeServer) -> None:
    """What nobody knows the fate of is run again by itself, since it may be repeated."""
    store = Store(fake.url, deadline=PATIENT, silence=PATIENT)
    together = tallied(store)
    failed: list[Command] = []

    def once(command: Command) -> bytes | None:
        failed.append(command)
        return None if len(failed) == 1 else DONE

    with fake.saying(once):
        assert await asyncio.gather(*(run(together, ADD, ["k"], [str(i)]) for i in range(5))) == ["OK"] * 5
    assert {command[NAMED] for command in fake.asked} == {"0", "1", "2", "3", "4"}
    await store.aclose()


async def test_a_store_that_is_away_refuses_all_of_them(fake: FakeServer) -> None:
    """Each hears why, by an error of its own, and the next ones are refused at once."""
    store = Store(fake.url, deadline=PATIENT, silence=0.09)
    together = tallied(store)
    with fake.saying(5.0):
        results = await asyncio.gather(
            *(run(together, ADD, ["k"], [str(i)]) for i in range(80)), return_exceptions=True
        )
    assert all(isinstance(result, LedgerUnavailable) and "no answer" in str(result) for result in results)
    assert len({id(result) for result in results}) == 80
    await store.aclose()


async def test_they_wait_for_no_connection_of_others(fake: FakeServer) -> None:
    """What goes together has a connection of its own, though all that others may have are in use."""
    store = Store(fake.url, connections=1, deadline=PATIENT, patience=PATIENT, silence=PATIENT)
    together, begun = tallied(store), asyncio.Event()

    def slowly(command: Command) -> float | bytes:
        if command[0] != "SET":
            return DONE
        begun.set()
        return PATIENT

    with fake.saying(slowly):
        slow = asyncio.create_task(store.execute("SET", "x", "1"))
        await begun.wait()
        assert await asyncio.gather(*(run(together, ADD, ["k"], [str(i)]) for i in range(3))) == ["OK"] * 3
        assert not slow.done()
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)
    assert fake.connections == 2
    await store.aclose()


async def test_a_store_that_has_noted_less_than_was_done_is_doubted(fake: FakeServer) -> None:
    """What goes together counts as one operation each time; whoever has its reply finds the doubt told already."""
    doubts: list[bool] = []
    store = Store(fake.url, deadline=PATIENT, silence=PATIENT)
    together = tallied(store, doubts)
    assert await asyncio.gather(*(run(together, ADD, ["k"], [str(i)]) for i in range(3))) == ["OK"] * 3
    assert doubts == []  # none was done when these were asked for
    assert [command[NAMED - 1] for command in fake.asked] == ["1", "2", "3"]
    with fake.saying(bulk("3", "OK")):
        await run(together, ADD, ["k"], ["3"])
    assert doubts == []
    assert await run(together, ADD, ["k"], ["4"]) == "OK"
    assert doubts == [True]
    await store.aclose()
