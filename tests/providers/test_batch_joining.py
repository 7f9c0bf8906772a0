"""Joining a batch: a line is written once it is announced, and not at all if the work is another gateway's by then."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import Any

import pytest

from gateway.domain.batch import BatchLine, BatchTerms
from gateway.domain.route import Secret
from gateway.domain.settlement import Outcome
from gateway.ledger.batches import RedisBatches
from gateway.ledger.store import Store
from gateway.ports import LedgerUnavailable
from gateway.ports.provider import Call, ProviderServices, Submitted, UpstreamFailure
from gateway.providers import batch_following
from gateway.providers.batch import CUSTOM_ID, BatchProvider
from gateway.providers.batch_wire import FULL_REST, BatchWire, Seen
from gateway.sandbox.options import SandboxOptions
from gateway.sandbox.server import running_sandbox
from tests import builders
from tests.ledger.conftest import realm, server, store  # noqa: F401 - fixtures of a real server
from tests.providers.calls import MemoryBody, config, read_all
from tests.providers.task_vendor import Kept

TERMS = BatchTerms(poll=0.1)
MODEL = "gpt-image-2-2026-04-21"


@dataclass
class Refused(Kept):
    """What hears that its task is another's by now, or that the store is away; it is in no hurry to."""

    away: bool = False

    async def announce(self, number: int, submitted: Submitted) -> bool:  # noqa: ARG002 - the protocol's
        """Tell so."""
        await asyncio.sleep(0.5)
        if self.away:
            raise LedgerUnavailable("away")
        return False


def line(request_id: str, submissions: Kept) -> Call:
    """A call that goes by batch."""
    return Call(
        request_id=request_id,
        route=builders.route("acme/image", upstream_model=MODEL),
        job=builders.job(size="1024x1024", quality="low"),
        body=MemoryBody({"prompt": "a cat", "model": MODEL, "size": "1024x1024", "quality": "low"}),
        submissions=submissions,
        batch=BatchLine(TERMS),
    )


@pytest.mark.parametrize("away", [False, True])
async def test_what_cannot_be_announced_is_not_written(
    store: Store,  # noqa: F811 - the fixture
    realm: str,  # noqa: F811 - the fixture
    *,
    away: bool,
) -> None:
    """It was surely not sent; the line beside it is done, and is all that the provider bills."""
    kept, refused = Kept(), Refused(away=away)
    with running_sandbox(SandboxOptions(latency=0, batch_seconds=0)) as sandbox:
        account = config("http://unused", base_url=sandbox.openai_url, api_key=Secret(sandbox.api_key))
        account = replace(account, batch=TERMS)
        provider = BatchProvider(account, ProviderServices(batches=RedisBatches(store, realm)))
        answer, failure = await asyncio.gather(
            provider.send(line("req_1", kept)), provider.send(line("req_2", refused)), return_exceptions=True
        )
        assert not isinstance(answer, BaseException), answer
        await read_all(answer)
        await answer.aclose()
        await provider.aclose()
        billed = sandbox.bill()["lines"]
    assert isinstance(failure, UpstreamFailure)
    assert (failure.outcome, failure.reason) == (Outcome.NOT_SENT, "batch_not_created")
    assert [each.facts for each in kept.noted.values()] == [{CUSTOM_ID: "req_1"}]
    assert len(billed) == 1


async def test_a_line_waits_for_a_store_that_is_away(
    store: Store,  # noqa: F811 - the fixture
    realm: str,  # noqa: F811 - the fixture
) -> None:
    """A batch can wait: what could not be announced at first is told again, and then written."""

    class Back(Kept):
        tries = 0

        async def announce(self, number: int, submitted: Submitted) -> bool:
            self.tries += 1
            if self.tries == 1:
                raise LedgerUnavailable("away")
            return await super().announce(number, submitted)

    kept = Back()
    with running_sandbox(SandboxOptions(latency=0, batch_seconds=0)) as sandbox:
        account = config("http://unused", base_url=sandbox.openai_url, api_key=Secret(sandbox.api_key))
        provider = BatchProvider(replace(account, batch=TERMS), ProviderServices(batches=RedisBatches(store, realm)))
        answer = await provider.send(replace(line("req_1", kept), batch=BatchLine(TERMS, time.time() + 3600)))
        await read_all(answer)
        await answer.aclose()
        await provider.aclose()
        assert len(sandbox.bill()["lines"]) == 1
    assert (kept.tries, len(kept.noted)) == (2, 1)


@pytest.mark.parametrize(
    ("fault", "how"),
    [
        ("batch_not_taken", {"status": 429}),
        ("batch_refused", {}),
        ("batch_lines_fail", {"status": 429, "percent": 99}),
    ],
)
async def test_where_the_account_has_no_room_for_a_line_it_is_not_asked_again_soon(
    store: Store,  # noqa: F811 - the fixture
    realm: str,  # noqa: F811 - the fixture
    fault: str,
    how: Any,
) -> None:
    """Room comes as other batches end, in minutes or hours, and says nothing of what goes by itself."""
    with running_sandbox(SandboxOptions(latency=0, batch_seconds=0)) as sandbox:
        account = config("http://unused", base_url=sandbox.openai_url, api_key=Secret(sandbox.api_key))
        provider = BatchProvider(replace(account, batch=TERMS), ProviderServices(batches=RedisBatches(store, realm)))
        sandbox.fault(fault, **how)
        with pytest.raises(UpstreamFailure) as caught:
            await provider.send(line("req_1", Kept()))
        await provider.aclose()
    failure = caught.value
    assert (failure.reason, failure.retry_after, failure.pass_on) == ("batch_full", FULL_REST, False)
    assert failure.outcome in (Outcome.NOT_SENT, Outcome.REJECTED)


class Blind(BatchWire):
    """An account whose batches cannot be looked at until they are cancelled; with `deaf` that cannot be either."""

    deaf = False
    cancelled: list[str]

    async def look(self, batch_id: str) -> Seen:
        """Fail for long."""
        if self.deaf or not self.cancelled:
            raise UpstreamFailure(Outcome.REJECTED, "status_4xx", f"No such batch: {batch_id}")
        return await super().look(batch_id)

    async def cancel(self, batch_id: str) -> Seen:
        """Ask for it as ever."""
        self.cancelled.append(batch_id)
        return await (self.look if self.deaf else super().cancel)(batch_id)


@pytest.mark.parametrize(
    ("deaf", "outcome", "reason"), [(False, Outcome.REJECTED, "batch_cancelled"), (True, Outcome.UNKNOWN, "timeout")]
)
async def test_a_batch_that_cannot_be_looked_at_is_cancelled_once_it_is_late(
    store: Store,  # noqa: F811 - the fixture
    realm: str,  # noqa: F811 - the fixture
    monkeypatch: pytest.MonkeyPatch,
    *,
    deaf: bool,
    outcome: Outcome,
    reason: str,
) -> None:
    """What the answer to that tells counts; where there is none either, nobody knows what became of its lines."""
    monkeypatch.setattr(batch_following, "UNHEARD", 1.0)
    monkeypatch.setattr(Blind, "deaf", deaf)
    monkeypatch.setattr(Blind, "cancelled", [], raising=False)
    monkeypatch.setattr("gateway.providers.batch.BatchWire", Blind)
    terms = replace(TERMS, spare=0.5)
    with running_sandbox(SandboxOptions(latency=0, batch_seconds=600)) as sandbox:
        account = config("http://unused", base_url=sandbox.openai_url, api_key=Secret(sandbox.api_key))
        provider = BatchProvider(replace(account, batch=terms), ProviderServices(batches=RedisBatches(store, realm)))
        async with asyncio.timeout(30):
            with pytest.raises(UpstreamFailure) as caught:
                await provider.send(replace(line("req_1", Kept()), batch=BatchLine(terms, time.time() + 5)))
        await provider.aclose()
    assert (caught.value.outcome, caught.value.reason) == (outcome, reason)
    assert len(set(Blind.cancelled)) == 1
