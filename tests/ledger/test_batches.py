"""What gateways on one store know of each other's batches: none is created after it was given up."""

from __future__ import annotations

import asyncio
import secrets
import time

import pytest

from gateway.domain.batch import BatchState
from gateway.ledger import calls
from gateway.ledger.batches import KEPT, RedisBatches
from gateway.ledger.names import Names
from gateway.ledger.store import Store

LONG = 60.0


@pytest.fixture
def batches(store: Store, realm: str) -> RedisBatches:
    """The batches of a realm."""
    return RedisBatches(store, realm)


@pytest.fixture
def key() -> str:
    """A batch's key."""
    return f"batch_{secrets.token_hex(16)}"


async def test_a_batch_goes_from_its_first_line_to_its_id(batches: RedisBatches, key: str) -> None:
    """Each step is found by whoever asks, with what the provider calls file and batch."""
    assert await batches.find(key) is None
    await batches.begin(key, LONG)
    assert await batches.still(key, LONG)
    assert await batches.creating(key, "file-1", LONG)
    assert await batches.created(key, "batch-1")
    found = await batches.find(key)
    assert found is not None
    assert (found.state, found.file, found.id) == (BatchState.CREATED, "file-1", "batch-1")


async def test_one_that_is_heard_of_cannot_be_given_up_by_others(batches: RedisBatches, key: str) -> None:
    """Only its maker, or somebody after its time, may close it."""
    await batches.begin(key, LONG)
    assert not await batches.abandon(key)
    assert await batches.creating(key, "file-1", LONG)
    assert not await batches.abandon(key)
    assert await batches.abandon(key, own=True)


@pytest.mark.parametrize("ahead", [-7200, 7200])
async def test_whether_one_is_overdue_does_not_go_by_the_gateways_own_clock(
    batches: RedisBatches, key: str, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    """Who looks would try to give up what the store does not let it, or wait for what nobody makes any more."""
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + ahead)
    await batches.begin(key, LONG)
    found = await batches.find(key)
    assert found is not None
    assert not found.overdue
    assert await batches.creating(key, "file-1", 0.0)
    await asyncio.sleep(0.05)
    found = await batches.find(key)
    assert found is not None
    assert found.overdue


async def test_one_that_was_given_up_is_never_created(batches: RedisBatches, key: str) -> None:
    """A maker that was silent for too long learns of it before it asks the provider, and after."""
    await batches.begin(key, 0.0)
    await asyncio.sleep(0.05)
    assert await batches.abandon(key)
    assert not await batches.still(key, LONG)
    assert not await batches.creating(key, "file-1", LONG)
    assert not await batches.created(key, "batch-1")


async def test_one_that_was_found_stays_found(batches: RedisBatches, key: str) -> None:
    """Who finds a created batch at the provider may note it, as may its maker; it is not given up any more."""
    await batches.begin(key, LONG)
    await batches.creating(key, "file-1", 0.0)
    assert await batches.created(key, "batch-1")
    assert await batches.created(key, "batch-1")
    assert not await batches.abandon(key)
    assert not await batches.abandon(key, own=True)


async def test_a_step_that_is_asked_for_again_was_made(
    batches: RedisBatches, key: str, store: Store, realm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its maker, who did not hear the answer, goes on; for anybody else it was made already. None is kept for ever."""
    await batches.begin(key, LONG)
    monkeypatch.setattr(calls, "token", lambda: "one_operation")
    assert [await batches.creating(key, "file-1", LONG) for _ in range(2)] == [True, True]
    monkeypatch.undo()
    assert not await batches.creating(key, "file-2", LONG)
    assert 0 < await store.execute("TTL", Names(realm).batch(key)) <= KEPT


async def test_what_is_no_key_is_refused(batches: RedisBatches) -> None:
    """A name that could be another's is an error."""
    with pytest.raises(ValueError, match="32 hex digits"):
        await batches.find("batch_}x")
