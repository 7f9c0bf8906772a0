"""A client that hangs up while the gateway works: the wait for it ends, and nothing is said to nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from gateway.ports import Inbound, Outbound
from tests.web.raw import connection, post, read_reply
from tests.web.recording import RecordingGateway, answer_images, serving_gateway

PATIENCE = 20.0


@dataclass
class Pondering(RecordingGateway):
    """A gateway that takes its time once the body is in."""

    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, inbound: Inbound) -> Outbound:
        """Read the body, wait, answer."""
        body = await inbound.read_body()
        await body.aclose()
        self.waiting.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return answer_images()


async def test_the_wait_ends_when_the_client_hangs_up(caplog: pytest.LogCaptureFixture) -> None:
    """The gateway learns at once that nobody waits any more, and the server complains of nothing."""
    gateway = Pondering()
    async with serving_gateway(gateway) as port:
        async with connection(port) as (_, writer):
            writer.write(post())
            await asyncio.wait_for(gateway.waiting.wait(), PATIENCE)
        await asyncio.wait_for(gateway.cancelled.wait(), PATIENCE)
        async with connection(port) as (reader, writer):
            gateway.go_on.set()
            writer.write(post())
            assert (await read_reply(reader)).status == 200
    assert [line for line in caplog.records if line.levelname in ("WARNING", "ERROR")] == []


async def test_a_client_that_stays_is_answered_and_its_connection_kept() -> None:
    """Watching takes nothing from the connection: several requests follow each other on it."""
    gateway = Pondering()
    async with serving_gateway(gateway) as port, connection(port) as (reader, writer):
        for _ in range(3):
            gateway.waiting.clear()
            gateway.go_on.clear()
            writer.write(post())
            await asyncio.wait_for(gateway.waiting.wait(), PATIENCE)
            await asyncio.sleep(0.01)
            gateway.go_on.set()
            assert (await read_reply(reader)).status == 200
    assert not gateway.cancelled.is_set()


async def test_a_request_that_follows_too_early_waits_its_turn() -> None:
    """A second request sent before the first is answered is neither lost nor taken for the client's leaving."""
    gateway = Pondering()
    async with serving_gateway(gateway) as port, connection(port) as (reader, writer):
        writer.write(post() + post())
        await asyncio.wait_for(gateway.waiting.wait(), PATIENCE)
        await asyncio.sleep(0.01)
        gateway.go_on.set()
        for _ in range(2):
            assert (await read_reply(reader)).status == 200
    assert not gateway.cancelled.is_set()


async def test_the_wait_ends_for_a_client_that_had_asked_for_more() -> None:
    """With a second request behind the first the client's leaving is noticed too, and the second is never begun."""
    gateway = Pondering()
    async with serving_gateway(gateway) as port:
        async with connection(port) as (_, writer):
            writer.write(post() + post())
            await asyncio.wait_for(gateway.waiting.wait(), PATIENCE)
        await asyncio.wait_for(gateway.cancelled.wait(), PATIENCE)
        gateway.waiting.clear()
        await asyncio.sleep(0.05)
        assert not gateway.waiting.is_set()


async def test_a_spared_request_hears_of_it_instead() -> None:
    """What asked to be spared is told that the client left, goes on, and its answer is closed unread."""
    told, closed = asyncio.Event(), asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        try:
            yield b"nobody reads this"
        finally:
            closed.set()

    class Spared(Pondering):
        async def handle(self, inbound: Inbound) -> Outbound:
            await (await inbound.read_body()).aclose()
            inbound.spare(told.set)
            self.waiting.set()
            await self.go_on.wait()
            answer = chunks()
            await anext(answer)
            return Outbound(200, [], answer)

    gateway = Spared()
    async with serving_gateway(gateway) as port:
        async with connection(port) as (_, writer):
            writer.write(post())
            await asyncio.wait_for(gateway.waiting.wait(), PATIENCE)
        await asyncio.wait_for(told.wait(), PATIENCE)
        gateway.go_on.set()
        await asyncio.wait_for(closed.wait(), PATIENCE)
