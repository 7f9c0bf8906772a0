"""Requests that wait while the policy changes: they are decided anew at once, and keep nothing of the former policy."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from gateway.domain.budget import Budget, Counted, Scope, Window
from gateway.domain.policy import ImageRules, Policy, Shadow, Store, Throttled
from gateway.observe.event import ShadowEnded
from gateway.ports.provider import Answer, Call
from gateway.request.wait_reason import WaitReason
from gateway.request.waiting import Room, Turn
from tests.builders import route
from tests.rig import PATIENCE, Painter
from tests.test_waiting import MAIN, Small, Stand, queued, quote, rules, standing, turn

BETA = route("beta")
HOUR = 3600
Limits = Mapping[str, tuple[Counted, int, int]]
FULL: Limits = {"main": (Counted.IMAGES, 1, HOUR)}
ROOM: Limits = {"main": (Counted.IMAGES, 100, HOUR)}
WAIT = 2.0 * HOUR
"""Seconds; far longer than a test takes."""


def reload(stand: Stand, policy: Policy, limits: Limits) -> None:
    """Serve by another policy, whose routes have these limits."""
    before, stand.rig.rules = stand.rig.rules, policy
    assert isinstance(stand.capacity, Small)
    stand.capacity.quotas = limits
    stand.rig.admissions.adopt(before.routes, policy.routes)


def with_images(policy: Policy, images: ImageRules) -> Policy:
    """A policy by which the projects' images are kept so."""
    return replace(policy, projects={name: replace(each, images=images) for name, each in policy.projects.items()})


def with_shadow(policy: Policy) -> Policy:
    """A policy whose requests are all repeated by a shadow."""
    shadow = Shadow(BETA, 10_000, Budget(Scope(shadow="draft"), Window.TOTAL, 1_000_000))
    draft = replace(policy.job_types["draft"], shadow=shadow)
    return replace(policy, job_types={**policy.job_types, "draft": draft})


async def test_a_new_policy_leaves_no_queue_behind() -> None:
    """Whoever comes then need not wait for what the former one said, though those who waited have not left yet."""
    room, never = Room(), 1e12
    with queued(room, "a", MAIN, due=never) as first, queued(room, "b", MAIN, due=never) as second:
        room.changed()
        assert room.ahead(quote(MAIN)) is None
        assert [await turn(each) for each in (first, second)] == [Turn.CHANGED, Turn.CHANGED]
        with queued(room, "c", MAIN) as later:
            assert await turn(later) is Turn.ASK
    assert not room.queues
    assert room.waiting() == 0


async def test_those_who_leave_a_former_queue_take_nobody_with_them() -> None:
    """One that is decided anew queues up for the same routes before another has left: its queue stays."""
    room, never = Room(), 1e12
    with queued(room, "a", MAIN, due=never):
        room.changed()
        anew = queued(room, "a", MAIN, due=never)
    assert room.ahead(quote(MAIN)) is not None
    room.leave(anew, served=False)
    assert not room.queues


@pytest.mark.parametrize("patience", [1e12, 30.0])
async def test_whoever_asks_while_the_policy_changes_is_told_of_it_once_denied(patience: float) -> None:
    """Neither does it wait for a slot of the former policy, nor is it sent away for one."""
    room, never = Room(), 1e9
    with queued(room, "a", MAIN, bound=room.clock() + patience) as place:
        assert await turn(place) is Turn.ASK
        room.changed()
        place.denied(WaitReason(never, never, frozenset({"route main"})))
        assert await turn(place) is Turn.CHANGED


@pytest.mark.parametrize(("wait", "limits"), [(WAIT, ROOM), (20.0, ROOM), (WAIT, {})], ids=["raised", "hasty", "gone"])
async def test_all_who_wait_for_a_limit_that_is_raised_are_served_at_once(
    tmp_path: Path, wait: float, limits: Limits
) -> None:
    """So is whoever comes with them, however many they are, and nobody is sent away for a limit that is no more."""
    async with standing(tmp_path, rules(Throttled(WAIT)), FULL) as stand:
        await stand.ask()
        waiting = [stand.ask(project=project) for project in ("team", "other", "team")]
        await stand.until_waiting(3)
        reload(stand, rules(Throttled(WAIT)), FULL)
        await asyncio.sleep(0)
        await stand.until_waiting(3)
        reload(stand, rules(Throttled(wait)), limits)
        async with asyncio.timeout(PATIENCE):
            got = await asyncio.gather(*waiting, stand.ask())
        assert [each.status for each in got] == [200] * 4
        assert not stand.room.queues


@dataclass
class Kept(Painter):
    """A provider that writes down of which calls the images are to be kept."""

    archived: list[bool] = field(default_factory=list)

    async def send(self, call: Call) -> Answer:
        """Take the call."""
        self.archived.append(call.archive is not None)
        return await super().send(call)


@pytest.mark.parametrize(("before", "after"), [(Store.ALWAYS, Store.NEVER), (Store.NEVER, Store.ALWAYS)])
async def test_images_are_stored_by_the_policy_of_now(tmp_path: Path, before: Store, after: Store) -> None:
    """Of a request that waited under another one as well."""
    made = rules(Throttled(WAIT))
    async with standing(tmp_path, with_images(made, ImageRules(store=before)), FULL) as stand:
        stand.rig.painter = kept = Kept()
        kept.go_on.set()
        await stand.ask()
        waiting = stand.ask()
        await stand.until_waiting(1)
        reload(stand, with_images(made, ImageRules(store=after)), ROOM)
        async with asyncio.timeout(PATIENCE):
            assert (await waiting).status == 200
        assert kept.archived == [before is Store.ALWAYS, after is Store.ALWAYS]


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize("added", [True, False], ids=["added", "removed"])
async def test_a_shadow_is_that_of_the_policy_of_now(tmp_path: Path, key: str | None, *, added: bool) -> None:
    """One that is paid has an answer beside it to be compared with; for one that is no more, no answer is kept."""
    plain = rules(Throttled(WAIT))
    before, after = (plain, with_shadow(plain)) if added else (with_shadow(plain), plain)
    async with standing(tmp_path, plain, FULL) as stand:
        await stand.ask()
        stand.rig.rules = before
        waiting = stand.ask(key=key)
        await stand.until_waiting(1)
        reload(stand, after, ROOM)
        async with asyncio.timeout(PATIENCE):
            assert (await waiting).status == 200
        await stand.rig.lifecycle.drain(PATIENCE)
        while stand.rig.shadows._running:
            await asyncio.wait(stand.rig.shadows._running, timeout=PATIENCE)
        ended = [event.result for event in stand.rig.events.seen if isinstance(event, ShadowEnded)]
        assert ended == (["ok"] if added else [])
        stored = {file.name for file in (tmp_path / "shadows").rglob("*.json")}
        assert stored == ({"primary.json", "shadow.json"} if added else set())
        kept = [name for name in stand.rig.files() if not name.startswith(".")]
        assert bool(kept) is (added or key is not None)
