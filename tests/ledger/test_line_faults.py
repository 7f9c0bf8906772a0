"""Lines that cannot be opened, and lines to a server that has lost its place: whoever asks is answered all the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import uvloop

from gateway.ledger.errors import LedgerRefused
from gateway.ledger.script import Script
from gateway.ledger.script_batching import ScriptCall, SharedArguments
from gateway.ledger.store import Store
from tests.ledger.fake_server import OK, read_command
from tests.ledger.tallied import DONE, tallied

ADD = Script("return 1", "0" * 40)
PATIENT = 20.0

Says = Callable[[int, str], bytes]
"""What a server says to the client of a number (1 is the first) that named a command."""


@asynccontextmanager
async def serving(says: Says) -> AsyncIterator[Store]:
    """A store whose server answers as it is told to."""
    count = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        number = count
        try:
            while command := await read_command(reader):
                writer.write(says(number, command[0]))
        except ConnectionError:
            pass  # the client has left
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
        store = Store(f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}", deadline=5.0, silence=5.0)
        yield store
        await store.aclose()
        await asyncio.sleep(0.1)  # the server closes its ends


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_greeting_that_is_no_text(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Whoever asked hears of it, and the next question is asked, on another line."""

    def says(number: int, word: str) -> bytes:
        if number == 1:
            return b"+caf\xe9\r\n"
        return OK if word == "CLIENT" else DONE

    async def proof() -> None:
        async with asyncio.timeout(PATIENT), serving(says) as store:
            calls = tallied(store)
            for name in "ab":
                call = ScriptCall(ADD, ["k"], [name])
                calls.put(call)
                await asyncio.wait_for(call.reply, 5)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(proof())


@pytest.mark.parametrize(
    "reply", [b":1\r\n", b"$-1\r\n", b"$1\r\n0\r\n", b"*1\r\n$1\r\n0\r\n", b"$3\r\nx\nA\r\n"], ids=repr
)
async def test_a_reply_that_is_none_to_what_was_asked(reply: bytes) -> None:
    """Calls that went together are refused, each by itself, and what is asked afterwards is done."""
    faulty = asyncio.Event()
    faulty.set()

    def says(number: int, word: str) -> bytes:
        if word == "CLIENT":
            return OK
        return reply if faulty.is_set() else DONE

    async with asyncio.timeout(PATIENT), serving(says) as store:
        calls = tallied(store)
        both = SharedArguments(ADD, ("k",), ("a",))
        group = [ScriptCall(both, [f"k{number}"], ["a"]) for number in range(2)]
        for call in group:
            calls.put(call)
        for call in group:
            assert isinstance(await call.reply, LedgerRefused)
            with pytest.raises(LedgerRefused, match="none to what was asked"):
                await calls.by_itself(call)
        faulty.clear()
        calls.put(after := ScriptCall(ADD, ["k"], ["a"]))
        assert await after.reply == "OK"


async def test_a_line_to_a_former_primary_is_given_up() -> None:
    """Behind a balancer the first connection stays with the one that was it, later ones come to the new one."""
    demoted = asyncio.Event()

    def says(number: int, word: str) -> bytes:
        if word == "CLIENT":
            return OK
        return b"-READONLY no\r\n" if number == 1 and demoted.is_set() else DONE

    async with serving(says) as store:
        calls, refused = tallied(store), 0
        for _ in range(6):
            call = ScriptCall(ADD, ["igw:{main}:k"], ["a"])
            calls.put(call)
            if isinstance(await call.reply, Exception):
                refused += 1
                assert await calls.by_itself(call) == "OK"
            demoted.set()
    assert refused == 1
