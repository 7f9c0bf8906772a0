"""Making a batch: what became of one that others had given up decides whether its lines may have been billed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import pytest

from gateway.domain.batch import PATHS, BatchTerms
from gateway.domain.job import Operation
from gateway.domain.route import Secret
from gateway.domain.settlement import Outcome
from gateway.ledger.batches import RedisBatches
from gateway.ledger.store import Store
from gateway.ports.provider import UpstreamFailure
from gateway.providers import batch_making
from gateway.providers.batch_making import Making
from gateway.providers.batch_wire import BatchWire
from gateway.sandbox.options import SandboxOptions
from gateway.sandbox.server import running_sandbox
from tests.ledger.conftest import realm, server, store  # noqa: F401 - fixtures of a real server
from tests.providers.calls import MemoryBody, config

LINE = MemoryBody({"prompt": "a cat", "model": "gpt-image-2-2026-04-21", "size": "1024x1024", "quality": "low"})
PATIENCE = 30.0


@dataclass
class GivenUp:
    """The records as a gateway finds them that stood still while it created a batch, which others gave up meanwhile.

    With `over` the provider is done with the batch by then.
    """

    records: RedisBatches
    wire: BatchWire
    over: bool

    def __getattr__(self, name: str) -> object:
        return getattr(self.records, name)

    async def created(self, key: str, batch_id: str) -> bool:
        """Note it, too late."""
        async with asyncio.timeout(PATIENCE):
            while self.over and not (await self.wire.look(batch_id)).over:  # noqa: ASYNC110 - a provider tells nobody
                await asyncio.sleep(0.05)
        assert await self.records.abandon(key, own=True)
        return await self.records.created(key, batch_id)


@pytest.mark.parametrize(("over", "outcome"), [(False, Outcome.NOT_SENT), (True, Outcome.UNKNOWN)])
async def test_a_batch_that_was_given_up_is_cancelled_if_it_can_be(
    store: Store,  # noqa: F811 - the fixture
    realm: str,  # noqa: F811 - the fixture
    *,
    over: bool,
    outcome: Outcome,
) -> None:
    """One that the provider takes back costs nothing; of one that it has done its lines may have been billed."""
    with running_sandbox(SandboxOptions(latency=0, batch_seconds=0 if over else 600)) as sandbox:
        account = config("http://unused", base_url=sandbox.openai_url, api_key=Secret(sandbox.api_key))
        wire = BatchWire(account)
        records = GivenUp(RedisBatches(store, realm), wire, over)
        making = Making(wire, records, BatchTerms(), PATHS[Operation.GENERATE])  # type: ignore[arg-type]  # it has all of it
        await making.add("req_1", LINE.render({}), lambda: asyncio.sleep(0))
        making.closed = True
        with pytest.raises(UpstreamFailure) as caught:
            await making.run(lambda *_: None)
        await wire.aclose()
    assert caught.value.outcome is outcome
    assert not caught.value.pass_on


async def test_others_hear_of_a_batch_for_as_long_as_its_upload_takes_and_not_longer(
    store: Store,  # noqa: F811 - the fixture
    realm: str,  # noqa: F811 - the fixture
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A slow upload is nobody else's to give up; one whose gateway has died is, as soon as it falls silent."""
    monkeypatch.setattr(batch_making, "SILENCE", 0.5)
    monkeypatch.setattr(batch_making, "HEARD_EVERY", 0.05)

    class Slow(BatchWire):
        begun = asyncio.Event()

        async def upload(self, key: str, length: int, chunks: Callable[[], AsyncIterator[bytes]]) -> str:
            self.begun.set()
            await asyncio.sleep(PATIENCE)
            return await super().upload(key, length, chunks)

    wire, records = Slow(config("http://unused", timeout=300.0)), RedisBatches(store, realm)
    making = Making(wire, records, BatchTerms(), PATHS[Operation.GENERATE])
    await making.add("req_1", LINE.render({}), lambda: asyncio.sleep(0))
    making.closed = True
    run = asyncio.create_task(making.run(lambda *_: None))
    await wire.begun.wait()
    for _ in range(10):
        await asyncio.sleep(0.1)
        assert not await records.abandon(making.key)
    run.cancel()
    async with asyncio.timeout(PATIENCE):
        while not await records.abandon(making.key):  # noqa: ASYNC110 - silence tells nobody
            await asyncio.sleep(0.1)
    await wire.aclose()


async def test_a_file_that_is_not_wanted_for_long_is_not_waited_with(
    store: Store,  # noqa: F811 - the fixture
    realm: str,  # noqa: F811 - the fixture
) -> None:
    """Its tasks know how long they may wait; what makes the batch does not."""

    class Busy(BatchWire):
        asked = 0

        async def upload(self, *_: object) -> str:
            self.asked += 1
            raise UpstreamFailure(Outcome.REJECTED, "status_429", "busy", retry_after=1000.0)

    wire = Busy(config("http://unused"))
    making = Making(wire, RedisBatches(store, realm), BatchTerms(), PATHS[Operation.GENERATE])
    await making.add("req_1", LINE.render({}), lambda: asyncio.sleep(0))
    making.closed = True
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(UpstreamFailure, match="no batch could be created") as caught:
            await making.run(lambda *_: None)
    await wire.aclose()
    assert (wire.asked, caught.value.reason, caught.value.retry_after) == (1, "batch_full", 1000.0)
