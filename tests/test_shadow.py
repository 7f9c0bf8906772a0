"""Shadows: nobody waits for them, their money is their own, and they always end. Ledger and disk are real.

Only a provider that a test can stop between two steps shows that nobody waits, so one written for it stands behind the
port.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from gateway.assets.shadows import ShadowLimits, ShadowsOnDisk
from gateway.domain.budget import Budget, Scope, Window
from gateway.domain.policy import DegradeStep, JobType, Policy, Project, Shadow
from gateway.domain.settlement import Outcome
from gateway.domain.trial import SHADOW_SUFFIX, is_sampled
from gateway.ledger.entries import read_entries
from gateway.ledger.store import Store, store_url
from gateway.observe.event import HoldEnded, ShadowEnded, UpstreamFailed, UpstreamFinished
from gateway.ports import Inbound
from gateway.ports.provider import UpstreamFailure
from tests.builders import PROVIDER, policy, route
from tests.rig import BUDGET, PATIENCE, SMALL_BODY, Got, Painted, Painter, Rig

OWN = Budget(Scope(shadow="draft"), Window.TOTAL, 1_000_000)
BETA = route("beta", provider=replace(PROVIDER, name="beta"), lane="testing")


def rules(sample: int = 10_000, budget: Budget = OWN) -> Policy:
    """One job type whose requests are all repeated on a testing route that its project may not use."""
    kind = JobType("draft", (route("main"),), shadow=Shadow(BETA, sample, budget))
    return policy(*kind.routes, job_type=kind, project=Project("team", ("draft",), "draft", budgets=(BUDGET,)))


@dataclass
class Shadowed(Rig):
    """A gateway with shadows; `beta` is what they are sent to."""

    beta: Painter = field(default_factory=Painter)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.painter.go_on.set()
        self.others["beta"] = self.beta

    async def one(self) -> tuple[Inbound, Got]:
        """Ask once and read the answer."""
        inbound = self.inbound()
        return inbound, await self.ask(inbound)

    async def ended(self, number: int = 1) -> list[str]:
        """Wait for so many shadows to have ended, and return their results."""
        async with asyncio.timeout(PATIENCE):
            while len(found := self._results()) < number:  # noqa: ASYNC110 - events are kept, nobody is woken
                await asyncio.sleep(0.01)
        return found

    def _results(self) -> list[str]:
        return [event.result for event in self.events.seen if isinstance(event, ShadowEnded)]

    async def own(self) -> tuple[int, int]:
        """Micro-USD used and held on the shadow's budget."""
        [balance] = await self.ledger.balances([OWN])
        return balance.used, balance.held

    def paid(self, *, shadow: bool) -> list[HoldEnded]:
        """The holds that ended."""
        return [event for event in self.events.seen if isinstance(event, HoldEnded) and event.shadow is shadow]


@contextlib.asynccontextmanager
async def shadowed(directory: Path, made: Policy | None = None, at_once: int = 16) -> AsyncIterator[Shadowed]:
    """A gateway with an empty ledger."""
    with store_url("embedded:", directory) as url:
        store = Store(url, deadline=10.0, patience=30.0)
        rig = Shadowed(store, directory / "answers", Painter(), made or rules(), at_once=at_once)
        try:
            yield rig
            await rig.lifecycle.drain(5)
            await rig.shadows.aclose()
            await rig.ledger.aclose()
        finally:
            await store.aclose()


async def test_nobody_waits_for_a_shadow_and_its_money_is_its_own(tmp_path: Path) -> None:
    """The client is answered and booked while the shadow's provider still thinks; each pays on its own budget alone."""
    async with shadowed(tmp_path) as rig:
        inbound, got = await rig.one()
        async with asyncio.timeout(PATIENCE):
            await rig.beta.begun.wait()
        assert got.status == 200
        before = await rig.spent()
        assert before[0] > 0
        assert before[1] == 0
        assert (await rig.own())[1] > 0
        rig.beta.go_on.set()

        assert await rig.ended() == ["ok"]
        assert await rig.spent() == before
        used, held = await rig.own()
        [mine], [shadow] = rig.paid(shadow=False), rig.paid(shadow=True)
        assert (used * 1000, held) == (shadow.cost.route, 0)
        assert (shadow.route, shadow.project, mine.route) == ("beta", "team", "main")
        entries = {entry.request_id: entry async for entry in read_entries(rig.store)}
        booked = entries[inbound.request_id + SHADOW_SUFFIX]
        assert (booked.about["shadow"], booked.about["shadow_of"]) == (True, inbound.request_id)
        assert (booked.project, booked.job_type, booked.key, list(booked.lines)) == (
            "team",
            "draft",
            "key_1",
            [cell for cell in booked.lines if "shadow:draft" in cell],
        )
        assert booked.answer["seconds"] >= 0
        assert entries[inbound.request_id].answer["seconds"] >= 0


async def test_the_body_is_there_until_the_shadow_is_done(tmp_path: Path) -> None:
    """A request that is repeated keeps its body; it is freed with the shadow, and at once where none follows."""
    async with shadowed(tmp_path) as rig:
        inbound, _ = await rig.one()
        body = await inbound.read_body()
        await rig.settled()
        assert not getattr(body, "closed", True)
        rig.beta.go_on.set()
        await rig.ended()
        assert getattr(body, "closed", False)

        rig.rules = rules(sample=0)
        inbound, _ = await rig.one()
        await rig.settled()
        assert getattr(await inbound.read_body(), "closed", False)
        assert rig.beta.calls == 1


async def test_a_spent_budget_denies_shadows_and_nothing_else(tmp_path: Path) -> None:
    """No call is made, nothing is held, and the client notices nothing."""
    async with shadowed(tmp_path, rules(budget=replace(OWN, limit=10))) as rig:
        _, got = await rig.one()
        assert (got.status, await rig.ended()) == (200, ["denied"])
        assert (rig.beta.calls, await rig.own()) == (0, (0, 0))


async def test_what_comes_beyond_the_bound_is_dropped(tmp_path: Path) -> None:
    """With one at once the second is dropped and counted, its body freed; the first goes on."""
    async with shadowed(tmp_path, at_once=1) as rig:
        await rig.one()
        async with asyncio.timeout(PATIENCE):
            await rig.beta.begun.wait()
        inbound, got = await rig.one()
        assert (got.status, await rig.ended()) == (200, ["dropped"])
        assert getattr(await inbound.read_body(), "closed", False)
        rig.beta.go_on.set()
        assert await rig.ended(2) == ["dropped", "ok"]
        assert rig.beta.calls == 1


@pytest.mark.parametrize(
    ("outcome", "reason", "books"),
    [(Outcome.REJECTED, "status_429", 0), (Outcome.NOT_SENT, "connect", 0), (Outcome.UNKNOWN, "timeout", 1)],
)
async def test_a_shadow_is_tried_once(tmp_path: Path, outcome: Outcome, reason: str, books: int) -> None:
    """What was surely not billed is given back, what may have been is presumed; it is never repeated."""
    async with shadowed(tmp_path) as rig:
        rig.beta.go_on.set()
        rig.beta.script = [UpstreamFailure(outcome, reason, "no answer")]
        _, got = await rig.one()
        assert (got.status, await rig.ended(), rig.beta.calls) == (200, ["failed"], 1)
        used, held = await rig.own()
        assert (used > 0, held, len(rig.paid(shadow=True))) == (bool(books), 0, books)
        assert not list((tmp_path / "shadows").rglob("*.json"))


async def test_an_answer_that_breaks_off_is_presumed_and_not_stored(tmp_path: Path) -> None:
    """Half an answer is no comparison; its worst case is booked on the shadow's budget."""
    async with shadowed(tmp_path) as rig:
        rig.beta.go_on.set()
        rig.beta.script = [Painted(SMALL_BODY, broken=UpstreamFailure(Outcome.UNKNOWN, "reset", "it broke off"))]
        await rig.one()
        assert await rig.ended() == ["failed"]
        [ended] = rig.paid(shadow=True)
        assert ended.cost == ended.estimate
        assert (await rig.own())[1] == 0
        assert not [file for file in (tmp_path / "shadows").rglob("*") if file.is_file()]


async def test_shutting_down_cuts_shadows_off_and_books_them(tmp_path: Path) -> None:
    """A shadow under way is presumed spent, its body freed, and no other begins."""
    async with shadowed(tmp_path) as rig:
        inbound, _ = await rig.one()
        async with asyncio.timeout(PATIENCE):
            await rig.beta.begun.wait()
        await rig.lifecycle.drain(5)
        await rig.shadows.aclose()
        [ended] = rig.paid(shadow=True)
        used, held = await rig.own()
        assert (used * 1000, held) == (ended.estimate.route, 0)
        assert getattr(await inbound.read_body(), "closed", False)
        assert await rig.ended() == ["failed"]


@dataclass
class Faulty(Painter):
    """A provider with a fault of ours."""

    async def send(self, call: object) -> Painted:
        """Fail in a way that no provider is known to fail in."""
        self.calls += 1
        raise RuntimeError(f"sending {call!r:.20} failed")


async def test_a_fault_of_ours_in_a_shadow_is_booked_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody else would learn of it: the hold ends presumed, and the fault stands in the log."""
    async with shadowed(tmp_path) as rig:
        rig.others["beta"] = Faulty()
        _, got = await rig.one()
        assert (got.status, await rig.ended()) == (200, ["failed"])
        assert (await rig.own())[1] == 0
        assert len(rig.paid(shadow=True)) == 1
    assert "a shadow request failed" in caplog.text


async def test_a_request_that_failed_is_not_compared(tmp_path: Path) -> None:
    """There is nothing to lay a shadow beside where the client got an error."""
    async with shadowed(tmp_path) as rig:
        rig.beta.go_on.set()
        rig.painter.script = [UpstreamFailure(Outcome.REJECTED, "status_500", "no")] * 2
        inbound = rig.inbound()
        with pytest.raises(Exception, match="Every route failed"):
            await rig.ask(inbound)
        await rig.settled()
        assert (rig.beta.calls, getattr(await inbound.read_body(), "closed", False)) == (0, True)


async def test_a_degraded_request_is_not_compared(tmp_path: Path) -> None:
    """Once the ladder lowers the quality, a shadow of the full one would say nothing."""
    plain = rules()
    step = DegradeStep(1, {"quality": "low"})
    kind = replace(plain.job_types["draft"], degrade=(step,), defaults={"quality": "medium"})
    poorer = replace(BUDGET, limit=500_000)
    team = Project("team", ("draft",), "draft", budgets=(poorer,))
    async with shadowed(tmp_path, policy(*kind.routes, job_type=kind, project=team)) as rig:
        rig.beta.go_on.set()
        for number in range(2):
            asked = rig.inbound(fields={"prompt": "a cat", "size": "1024x1024"})
            assert (await rig.ask(asked)).status == 200
            await rig.ended(number + 1)
        assert await rig.ended(2) == ["ok", "unable"]


async def test_a_route_that_is_full_is_left_to_clients(tmp_path: Path) -> None:
    """The provider has said that its account is full: no shadow is sent, nothing is held."""
    async with shadowed(tmp_path) as rig:
        rig.admissions.capacity.refused("beta", 60.0)
        _, got = await rig.one()
        assert (got.status, await rig.ended(), rig.beta.calls) == (200, ["denied"], 0)
        assert await rig.own() == (0, 0)


async def test_both_answers_lie_beside_each_other_for_nobody_else_to_read(tmp_path: Path) -> None:
    """Bodies as they came, heads that say which route and what it cost; folders and files are the gateway's own."""
    async with shadowed(tmp_path) as rig:
        rig.beta.go_on.set()
        rig.beta.script = [Painted(b'{"data": [{"b64_json": "eHg="}]}')]
        inbound, got = await rig.one()
        await rig.ended()
        [folder] = (tmp_path / "shadows").glob(f"*/{inbound.request_id}")
        files = {file.name: file for file in folder.iterdir()}
        assert set(files) == {"primary.json", "primary.body", "shadow.json", "shadow.body"}
        assert files["primary.body"].read_bytes() == got.body
        assert files["shadow.body"].read_bytes() == b'{"data": [{"b64_json": "eHg="}]}'
        heads = {
            name: dict(json.loads(files[f"{name}.json"].read_bytes())["headers"]) for name in ("primary", "shadow")
        }
        assert heads["shadow"]["X-Gateway-Route"] == "beta"
        assert heads["shadow"]["X-Gateway-Shadow-Of"] == heads["primary"]["x-request-id"] == inbound.request_id
        assert heads["primary"]["X-Gateway-Cost"] == got.header("X-Gateway-Cost")
        assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
        assert (tmp_path / "shadows").stat().st_mode & 0o777 == 0o700


def test_the_sample_is_a_share_and_the_same_for_every_process() -> None:
    """Two per cent of the requests, by a hash of their id."""
    shadow, ids = Shadow(BETA, 200, OWN), [f"req_{number:032x}" for number in range(20_000)]
    chosen = {request_id for request_id in ids if is_sampled(shadow, request_id)}

    assert len(chosen) / len(ids) == pytest.approx(0.02, abs=0.005)
    assert chosen == {request_id for request_id in ids if is_sampled(Shadow(BETA, 200, OWN), request_id)}


async def stored(store: ShadowsOnDisk, number: int, size: int = 1000) -> None:
    """Store one answer."""
    recording = store.record(f"req_{number}", "shadow")
    await recording.write(b"x" * size)
    await recording.commit(200, [])


async def test_the_oldest_comparisons_go_first(tmp_path: Path) -> None:
    """Beyond a number or a size the oldest are deleted, beyond an age all; what is left is untouched."""
    store = ShadowsOnDisk(tmp_path / "shadows")
    assert store.sweep(time.time()) == 0
    for number in range(6):
        await stored(store, number)
    [day] = (tmp_path / "shadows").iterdir()
    for number in range(6):
        moment = time.time() - (6 - number) * 3600
        os.utime(day / f"req_{number}", (moment, moment))

    def left() -> list[str]:
        return sorted(folder.name for folder in day.iterdir())

    assert ShadowsOnDisk(tmp_path / "shadows", ShadowLimits(comparisons=5)).sweep(time.time()) == 1
    assert left() == ["req_1", "req_2", "req_3", "req_4", "req_5"]
    assert ShadowsOnDisk(tmp_path / "shadows", ShadowLimits(size=3500)).sweep(time.time()) == 2
    assert left() == ["req_3", "req_4", "req_5"]
    assert ShadowsOnDisk(tmp_path / "shadows", ShadowLimits(seconds=2.5 * 3600)).sweep(time.time()) == 1
    assert left() == ["req_4", "req_5"]
    with pytest.raises(ValueError, match="not a request id"):
        store.record("../x", "shadow")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Painted(b"{}", images=0), "garbage"),
        (Painted(b"{}", broken=UpstreamFailure(Outcome.UNKNOWN, "reset", "the provider broke off")), "reset"),
        (UpstreamFailure(Outcome.REJECTED, "status_5xx", "the provider is broken"), "status_5xx"),
    ],
    ids=["no image", "broken off", "refused"],
)
async def test_a_shadows_call_that_fails_is_counted(
    tmp_path: Path, answer: Painted | UpstreamFailure, reason: str
) -> None:
    """Its route's calls are counted whoever makes them: the failure, and what stands beside it."""
    other = UpstreamFailure(Outcome.REJECTED, "status_429", "the provider is full")
    if isinstance(answer, UpstreamFailure):
        answer.others = [other]
    async with shadowed(tmp_path) as rig:
        rig.beta.script.append(answer)
        rig.beta.go_on.set()
        await rig.one()
        assert await rig.ended() == ["failed"]
        failed = [event.reason for event in rig.events.seen if isinstance(event, UpstreamFailed)]
        good = [event.route for event in rig.events.seen if isinstance(event, UpstreamFinished)]
    assert failed == [reason, *([other.reason] if isinstance(answer, UpstreamFailure) else [])]
    assert good == ["main"]
