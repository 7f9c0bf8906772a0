"""Waiting for a route: who is served in which order, who is sent away, and what is never waited for."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.assets.blobs import BlobsOnDisk
from gateway.domain.budget import Budget, Counted, Denied, Held, Quota, Scope, Window
from gateway.domain.caller import Caller
from gateway.domain.errors import BudgetExceeded, GatewayError, RateLimited, Unavailable, UpstreamError
from gateway.domain.idempotency import Bound
from gateway.domain.policy import DegradeStep, JobType, Policy, Project, Retry, Throttled, WhenFull
from gateway.domain.route import Quote, Route, Views
from gateway.domain.settlement import Outcome
from gateway.domain.task import TaskStatus, task_of
from gateway.ledger.deferred import DeferredSettlements
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from gateway.ledger.tasks import RedisTasks
from gateway.lifecycle import Setup
from gateway.ports.provider import Answer, Call, UpstreamFailure
from gateway.request.admission import AdmissionState
from gateway.request.exchange import Exchange
from gateway.request.wait_reason import WaitReason, soonest
from gateway.request.waiting import Place, Room, Turn
from gateway.routing.capacity import Capacity
from gateway.tasks.context import TaskContext
from gateway.tasks.promise import promised
from gateway.tasks.run import TaskRun
from gateway.tasks.service import body_name
from gateway.web.body import read_kept
from tests.builders import GPT_IMAGE_2, TODAY, job, policy, rates, route
from tests.ledger.rules import candidate
from tests.ledger.work import held_ahead, new_request, order
from tests.rig import BUDGET, PATIENCE, Got, Painter, Rig, cut_off, rigged
from tests.steps.test_classify import FieldsOnly

MAIN, SPARE = route("main"), route("spare")


def quote(of: Route) -> Quote:
    """A quote of a route."""
    price, worst = GPT_IMAGE_2.prices[0], Views(1, 1, 1)
    return Quote(of, job(), {}, worst, price, price)


# The queues themselves. Nothing here depends on time: slots are due at once, or never.


async def turn(place: Place) -> Turn:
    """What comes next, which is sure to come."""
    async with asyncio.timeout(PATIENCE):
        return await place.turn()


def queued(room: Room, project: str, *routes: Route, due: float = 0.0, bound: float = 1e9, late: bool = False) -> Place:
    """A place in the queue for these routes."""
    gates = frozenset(Scope(route=each.name).label() for each in routes)
    return room.place(map(quote, routes), project, "draft", WaitReason(due, due, gates), bound, late=late)


async def test_projects_take_turns_and_each_is_served_in_order() -> None:
    """Of two projects, one of which sends three times as much, both get every other slot while both wait."""
    room, served = Room(), []
    waiting = [queued(room, project, MAIN) for project in "aaaabaaabb"]

    async def wait(number: int, place: Place) -> None:
        with place:
            assert await turn(place) is Turn.ASK
            place.served()
            served.append(f"{place.project}{number}")

    await asyncio.gather(*(wait(number, place) for number, place in enumerate(waiting)))
    assert served == ["a0", "b4", "a1", "b8", "a2", "b9", "a3", "a5", "a6", "a7"]
    assert not room.queues
    assert room.waiting() == 0


async def test_tasks_come_after_all_whose_clients_wait_and_take_turns_too() -> None:
    """Whoever queues up late is served last, however early it came, and projects alternate among the late as well."""
    room, served = Room(), []
    waiting = [queued(room, project, MAIN, late=project.isupper()) for project in "AABbaa"]

    async def wait(place: Place) -> None:
        with place:
            assert await turn(place) is Turn.ASK
            place.served()
            served.append(place.project)

    await asyncio.gather(*map(wait, waiting))
    assert served == ["b", "a", "a", "A", "B", "A"]
    assert not room.queues


async def test_a_request_overtakes_tasks_that_wait_and_they_take_nobodys_place() -> None:
    """Where only tasks wait a request need not queue up, a task must; and tasks do not count among those who wait."""
    room = Room(most=1)
    with queued(room, "a", MAIN, due=1e12, late=True), queued(room, "a", MAIN, due=1e12, late=True):
        assert room.ahead(quote(MAIN)) is None
        assert room.ahead(quote(MAIN), late=True) is not None
        assert room.waiting() == 0
        with queued(room, "a", MAIN, due=1e12):
            assert room.ahead(quote(MAIN)) is not None
            assert room.waiting() == 1
    assert not room.queues


async def test_room_that_comes_while_the_head_asks_is_not_missed() -> None:
    """Whoever is denied by what was so before a request in flight ended asks once more, and nobody is sent away."""
    room, one = Room(), quote(MAIN)
    full = WaitReason(1e12, 1e12, frozenset((Scope(route="main").label(),)), live=True)
    bound = room.clock() + PATIENCE
    with queued(room, "a", MAIN, bound=bound) as place:
        assert await turn(place) is Turn.ASK
        room.ended(one)
        place.denied(full)
        assert await turn(place) is Turn.ASK
        place.denied(full)
        assert await turn(place) is Turn.TOO_LATE


async def test_only_the_head_asks_and_keeps_its_place_when_denied() -> None:
    """A slot that was taken elsewhere costs one question, and nobody their place."""
    room = Room()
    with queued(room, "a", MAIN) as first, queued(room, "a", MAIN) as second:
        asked = asyncio.create_task(second.turn())
        for _ in range(3):
            assert await turn(first) is Turn.ASK
            assert not asked.done()
            first.denied(WaitReason(0, 0, frozenset()))
        asked.cancel()


async def test_all_whose_time_is_up_before_the_next_slot_are_told_at_once() -> None:
    """A denial that puts the next slot later than somebody waits sends that one away, wherever in the queue."""
    room = Room()
    soon = room.clock() + PATIENCE
    with queued(room, "a", MAIN) as head, queued(room, "a", MAIN, bound=soon) as hasty:
        assert await turn(head) is Turn.ASK
        head.denied(WaitReason(soon + 1, soon + 1, frozenset()))
        assert await turn(hasty) is Turn.TOO_LATE


async def test_a_place_that_is_left_goes_to_the_next() -> None:
    """Whoever leaves, with the turn or without it, keeps nobody from asking."""
    room = Room()
    first, second, third = (queued(room, "a", MAIN) for _ in range(3))
    assert await turn(first) is Turn.ASK
    second.__exit__()
    first.__exit__()
    with third:
        assert await turn(third) is Turn.ASK
    assert not room.queues


async def test_a_client_that_leaves_is_noticed() -> None:
    """Whatever comes next, a client that is gone comes first."""
    room = Room()
    with queued(room, "a", MAIN, due=1e12) as place:
        assert await place.turn(asyncio.create_task(asyncio.sleep(0))) is Turn.LEFT


async def test_the_end_of_a_request_wakes_those_who_wait_for_it_alone() -> None:
    """Where requests in flight fill a route its end is a slot; elsewhere only time makes one."""
    room = Room()
    never = 1e12
    live = WaitReason(never, never, frozenset({"route:main"}), live=True)
    by_the_minute = WaitReason(never, never, frozenset({"route:spare"}))
    with (
        room.place([quote(MAIN)], "a", "draft", live, never) as one,
        room.place([quote(SPARE)], "a", "draft", by_the_minute, never) as other,
    ):
        asked = asyncio.create_task(other.turn())
        room.ended(quote(SPARE))
        room.ended(quote(MAIN))
        assert await turn(one) is Turn.ASK
        assert not asked.done()
        asked.cancel()


async def test_a_room_that_closes_sends_everybody_away() -> None:
    """Those who wait are told, and nobody may begin to."""
    room = Room()
    with queued(room, "a", MAIN, due=1e12) as place:
        room.close()
        assert await turn(place) is Turn.CLOSED
        with pytest.raises(Unavailable):
            queued(room, "b", MAIN)


async def test_a_room_that_closes_sends_away_whoever_asks_as_well() -> None:
    """The head was asking when the gateway began to stop: denied, it is not asked again; nor is one just called."""
    room = Room()
    with queued(room, "a", MAIN) as head, queued(room, "b", SPARE) as called:
        assert await turn(head) is Turn.ASK
        await asyncio.sleep(0.01)
        room.close()
        head.denied(WaitReason(0, 0, frozenset()))
        assert await turn(head) is Turn.CLOSED
        assert await turn(called) is Turn.CLOSED


async def test_a_room_holds_so_many() -> None:
    """Beyond the bound of a job type a request is sent away at once, and told when to come again."""
    room = Room(most=2)
    due = room.clock() + 30
    with queued(room, "a", MAIN, due=due), queued(room, "b", SPARE, due=due):
        with pytest.raises(RateLimited) as caught:
            queued(room, "c", MAIN, due=due)
        assert caught.value.retry_after == pytest.approx(30, abs=PATIENCE)
        room.place([quote(MAIN)], "c", "hero", WaitReason(due, due, frozenset()), 1e9).__exit__()


async def test_who_would_be_overtaken_is_known_by_route_and_account() -> None:
    """A route of the same account is in the way too, another one is not."""
    room = Room()
    assert room.ahead(quote(MAIN)) is None
    account = WaitReason(5, 7, frozenset({"provider:acme"}))
    elsewhere = route("elsewhere", provider=replace(MAIN.provider, name="other"))
    with room.place([quote(MAIN)], "a", "draft", account, 1e9):
        assert room.ahead(quote(SPARE)) == account
        assert room.ahead(quote(elsewhere)) is None


def test_several_hindrances_are_one() -> None:
    """The first slot of any counts, and all that is full is in the way."""
    one, other = WaitReason(5, 9, frozenset("a")), WaitReason(6, 7, frozenset("b"), live=True)
    assert soonest([one, other]) == WaitReason(5, 7, frozenset("ab"), live=True)
    assert soonest([]) is None


# Whole requests, on a real ledger; the limits of routes are by seconds rather than minutes.


@dataclass
class Small(Capacity):
    """Limits of routes by name, in place of policy's."""

    quotas: Mapping[str, tuple[Counted, int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()

    def limits(self, route: Route) -> tuple[Quota, ...]:
        """The limit of a route."""
        if route.name not in self.quotas:
            return ()
        counted, limit, seconds = self.quotas[route.name]
        return (Quota(Scope(route=route.name), counted, limit, seconds),)


@dataclass
class Book(Painter):
    """A provider that writes down who came, and on which route."""

    came: list[tuple[str, str]] = field(default_factory=list)

    async def send(self, call: Call) -> Answer:
        """Take the call."""
        self.came.append((call.request_id, call.route.name))
        return await super().send(call)

    def routes(self) -> list[str]:
        """The routes, in order."""
        return [name for _, name in self.came]


class Asked(RedisLedger):
    """A ledger that counts how often it is asked for a hold, and which requests were left behind."""

    times = 0

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.left: list[str] = []

    async def choose_and_hold(self, *arguments: Any, **options: Any) -> Held | Denied | Bound:
        """Hold, and count."""
        self.times += 1
        return await super().choose_and_hold(*arguments, **options)

    async def orphan(self, name: str, request_id: str) -> None:
        """Note that a client has left, and write it down."""
        self.left.append(request_id)
        await super().orphan(name, request_id)


class Looking(RedisLedger):
    """A ledger that tells once somebody has looked how a request does."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.looked = asyncio.Event()

    async def request(self, request_id: str) -> dict[str, Any] | None:
        """Return what is known of it, and tell."""
        found = await super().request(request_id)
        self.looked.set()
        return found


class Hearing(Room):
    """Queues that write down on which routes they heard of an end."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[str] = []

    def ended(self, quote: Quote) -> None:
        """Hear of it."""
        self.heard.append(quote.route.name)
        super().ended(quote)


@dataclass
class Stand:
    """A gateway under test."""

    rig: Rig
    book: Book
    ledger: Asked
    room: Hearing
    capacity: Capacity

    def ask(
        self, *, project: str = "team", key: str | None = None, n: int = 1, quality: str = "low", **headers: Any
    ) -> asyncio.Task[Got]:
        """One request, under way."""
        fields = {"prompt": "a cat", "size": "1024x1024", "quality": quality, "n": n}
        inbound = self.rig.inbound(key, caller=f"{project}/key_1", fields=fields, fingerprint=key or "f", **headers)
        return asyncio.create_task(self.rig.ask(inbound))

    async def until_waiting(self, number: int) -> None:
        """Wait until so many wait."""
        async with asyncio.timeout(PATIENCE):
            while self.room.waiting() != number:  # noqa: ASYNC110 - the room tells nobody
                await asyncio.sleep(0.01)


PER_SECOND = {"main": (Counted.IMAGES, 1, 1)}
PER_MINUTE = {"main": (Counted.IMAGES, 1, 60)}


def rules(throttled: Throttled, *routes: Route, quotas: tuple[Quota, ...] = (), attempts: int = 1) -> Policy:
    """Two projects that share the routes, and a job type `hasty` besides whose requests do not wait."""
    offered = routes or (MAIN,)
    patient = JobType("draft", offered, retry=Retry(attempts=attempts), throttled=throttled)
    hasty = replace(patient, name="hasty", throttled=Throttled())
    made = policy(*offered, job_type=patient)
    both = ("draft", "hasty")
    projects = {name: Project(name, both, "draft", budgets=(BUDGET,), quotas=quotas) for name in ("team", "other")}
    return replace(made, job_types={"draft": patient, "hasty": hasty}, projects=projects)


@contextlib.asynccontextmanager
async def standing(
    directory: Path, policy: Policy, quotas: Mapping[str, tuple[Counted, int, int]] = PER_MINUTE
) -> AsyncIterator[Stand]:
    """A gateway with an empty ledger, whose provider answers at once."""
    async with rigged(directory, policy) as rig:
        room = Hearing()
        rig.admissions = AdmissionState(room, Small(quotas))
        ledger, book = Asked(rig.store), Book()
        rig.ledger, rig.painter = ledger, book
        book.go_on.set()
        rig.lifecycle = rig.open(DeferredSettlements(ledger))
        yield Stand(rig, book, ledger, room, rig.admissions.capacity)


async def refused(asking: asyncio.Task[Got], kind: type[GatewayError] = RateLimited) -> GatewayError:
    """The error that a request ends in."""
    with pytest.raises(kind) as caught:
        await asking
    return caught.value


async def test_a_crowd_is_served_by_two_routes_in_fair_order(tmp_path: Path) -> None:
    """Two routes of 5 in 2 s, 33 at once, of which one project sends ten times more: all are served, in turns.

    The ledger is asked once by each that comes, once for each slot, and a few times besides.
    """
    quotas = dict.fromkeys(("main", "spare"), (Counted.IMAGES, 5, 2))
    async with standing(tmp_path, rules(Throttled(60.0), MAIN, SPARE), quotas) as stand:
        asking = [stand.ask() for _ in range(30)] + [stand.ask(project="other") for _ in range(3)]
        got = await asyncio.gather(*asking)
        assert {each.status for each in got} == {200}
        assert Counter(stand.book.routes()).total() == 33
        few = {each.header("x-request-id") for each in got[30:]}
        places = [place for place, (request_id, _) in enumerate(stand.book.came) if request_id in few]
        assert len(places) == 3
        assert max(places) <= 10 + 2 * 3  # ten at once, then every other one
        assert stand.ledger.times <= 33 + 23 + 20


@pytest.mark.parametrize(("then", "served_by"), [(WhenFull.REJECT, "main"), (WhenFull.NEXT_ROUTE, "spare")])
async def test_a_full_route_is_waited_for_or_left_as_policy_says(
    tmp_path: Path, then: WhenFull, served_by: str
) -> None:
    """`reject` waits for the first choice although another route is free, `next_route` takes that one."""
    async with standing(tmp_path, rules(Throttled(60.0, then), MAIN, SPARE), PER_SECOND) as stand:
        await stand.ask()
        assert (await stand.ask()).header("X-Gateway-Route") == served_by
        assert stand.book.routes() == ["main", served_by]


async def test_reject_without_waiting_is_a_429(tmp_path: Path) -> None:
    """A job type that may neither wait nor go elsewhere is told when to come again."""
    async with standing(tmp_path, rules(Throttled(0.0, WhenFull.REJECT), MAIN, SPARE)) as stand:
        await stand.ask()
        error = await refused(stand.ask())
        assert error.retry_after is not None
        assert error.retry_after > 30
        assert stand.book.routes() == ["main"]


async def test_reject_goes_on_for_any_other_reason(tmp_path: Path) -> None:
    """More images than the first choice could ever make go to the next route, as without a limit on it."""
    async with standing(tmp_path, rules(Throttled(60.0, WhenFull.REJECT), MAIN, SPARE)) as stand:
        assert (await stand.ask(n=2)).header("X-Gateway-Route") == "spare"


HALF_PRICE = replace(
    GPT_IMAGE_2, name="half", prices=(replace(GPT_IMAGE_2.prices[0], tokens=rates("2.5", "0.6", "4", "1", "15")),)
)


def laddered(limit: int) -> Policy:
    """Two routes that are not left for being full, of which the spare costs half; from 50 % on pictures get worse.

    At worst a good picture costs 211 065 micro-USD on the first route and half of it on the spare; `limit` is for all.
    """
    made = rules(Throttled(60.0, WhenFull.REJECT), MAIN, route("spare", HALF_PRICE))
    draft = replace(made.job_types["draft"], degrade=(DegradeStep(5000, {"quality": "low"}),))
    budgets = (Budget(Scope(), Window.TOTAL, limit),)
    projects = {name: replace(project, budgets=budgets) for name, project in made.projects.items()}
    models = {**made.models, HALF_PRICE.name: HALF_PRICE}
    return replace(made, models=models, job_types={**made.job_types, "draft": draft}, projects=projects)


def made_by(got: Got) -> tuple[str, bool]:
    """The route that made a picture, and whether it is a worse one than was asked for."""
    return got.header("X-Gateway-Route"), "X-Gateway-Degraded" in dict(got.headers)


async def test_reject_makes_no_picture_worse_that_another_route_can_make(tmp_path: Path) -> None:
    """Money stands in the way of the first route alone: the spare makes the picture, and is waited for if it is full.

    Each route refused costs one more question.
    """
    async with standing(tmp_path, laddered(150_000), {"spare": (Counted.IMAGES, 1, 1)}) as stand:
        assert made_by(await stand.ask(quality="high")) == ("spare", False)
        assert stand.ledger.times == 2
        assert made_by(await stand.ask(quality="high")) == ("spare", False)


async def test_reject_makes_a_picture_worse_where_policy_says_so(tmp_path: Path) -> None:
    """Once the budget is used so far, and also where it is not but no route can make a good one for what is left."""
    (used := tmp_path / "used").mkdir()
    async with standing(used, laddered(150_000), {}) as stand:
        stand.book.go_on.clear()
        first = stand.ask(quality="high")
        await stand.book.begun.wait()
        stand.book.begun.clear()
        second = stand.ask(quality="high")
        await stand.book.begun.wait()
        stand.book.go_on.set()
        assert [made_by(got) for got in await asyncio.gather(first, second)] == [("spare", False), ("main", True)]
    (poor := tmp_path / "poor").mkdir()
    async with standing(poor, laddered(100_000), {}) as stand:
        assert made_by(await stand.ask(quality="high")) == ("main", True)


@pytest.mark.parametrize(
    ("wait", "headers"),
    [(5.0, {}), (200.0, {"x_stainless_read_timeout": "5"}), (200.0, {"x_stainless_timeout": "5"}), (0.0, {})],
)
async def test_what_comes_too_late_is_not_waited_for(tmp_path: Path, wait: float, headers: dict[str, Any]) -> None:
    """A slot beyond policy's time or the client's own is a 429 at once, which says when there is one."""
    async with standing(tmp_path, rules(Throttled(wait))) as stand:
        await stand.ask()
        error = await refused(stand.ask(**headers))
        assert error.retry_after is not None
        assert 30 < error.retry_after <= 60
        assert error.should_retry
        assert (stand.ledger.times, stand.room.waiting()) == (2, 0)


async def test_a_wait_that_is_lowered_counts_for_those_who_wait_already(tmp_path: Path) -> None:
    """From when they began to wait: who would be served only after it is told so at once."""
    async with standing(tmp_path, rules(Throttled(90.0))) as stand:
        await stand.ask()
        waiting = stand.ask()
        await stand.until_waiting(1)
        stand.rig.rules = rules(Throttled(5.0))
        stand.rig.admissions.adopt({}, {})
        async with asyncio.timeout(PATIENCE):
            await refused(waiting)


async def test_whoever_waited_in_vain_is_told_of_the_next_slot(tmp_path: Path) -> None:
    """One of two gets the only slot in time; the other is told at that moment when the one after it comes."""
    async with standing(tmp_path, rules(Throttled(3.5)), {"main": (Counted.IMAGES, 1, 2)}) as stand:
        await stand.ask()
        served, late = stand.ask(), stand.ask()
        assert (await served).status == 200
        error = await refused(late)
        assert error.retry_after is not None
        assert 0.5 < error.retry_after <= 2.1


async def test_a_projects_own_quota_is_not_waited_for(tmp_path: Path) -> None:
    """However long a request may wait for a route, its project's images per minute are a 429 at once."""
    own = Quota(Scope(project="team"), Counted.IMAGES, 1, 60)
    async with standing(tmp_path, rules(Throttled(60.0), quotas=(own,)), {}) as stand:
        await stand.ask()
        assert "project:team" in (await refused(stand.ask())).message
        assert stand.ledger.times == 2


async def test_waiting_is_no_overhead(tmp_path: Path) -> None:
    """The time in the queue counts as the provider's, in the event that metrics are made of."""
    async with standing(tmp_path, rules(Throttled(60.0)), PER_SECOND) as stand:
        await stand.ask()
        await stand.ask()
        await stand.rig.settled()
        waited = stand.rig.events.finished()[1]
        assert waited.waited > 0.5
        assert waited.duration - waited.overhead >= waited.waited


async def test_a_client_that_leaves_frees_its_place(tmp_path: Path) -> None:
    """Nothing is sent, held or spent for it, and its end is told as a client's that is gone."""
    async with standing(tmp_path, rules(Throttled(90.0))) as stand:
        await stand.ask()
        spent = await stand.rig.spent()
        waiting = stand.ask()
        await stand.until_waiting(1)
        await cut_off(waiting)
        await stand.rig.settled()
        assert (stand.room.waiting(), stand.book.calls, await stand.rig.spent()) == (0, 1, spent)
        last = stand.rig.events.finished()[-1]
        assert (last.status, last.code, last.client_gone) == (499, "client_gone", True)


async def test_a_retry_does_not_look_for_a_request_that_left_the_queue(tmp_path: Path) -> None:
    """Nothing was held for it, so there is nothing to find: the retry queues up as if it were the first."""
    async with standing(tmp_path, rules(Throttled(60.0)), {"main": (Counted.IMAGES, 1, 2)}) as stand:
        await stand.ask()
        waiting = stand.ask(retries=0)
        await stand.until_waiting(1)
        await cut_off(waiting)
        await stand.rig.settled()
        assert stand.ledger.left == []
        assert not (await stand.ask(retries=1)).replayed
        assert stand.book.calls == 2


async def test_a_request_with_a_key_waits_on_without_its_client(tmp_path: Path) -> None:
    """Others may have joined it: it is served all the same, and whoever repeats it gets the answer."""
    async with standing(tmp_path, rules(Throttled(60.0)), {"main": (Counted.IMAGES, 1, 2)}) as stand:
        await stand.ask()
        waiting = stand.ask(key="k")
        await stand.until_waiting(1)
        await cut_off(waiting)
        assert (await stand.ask(key="k")).replayed
        assert stand.book.calls == 2


async def test_a_gateway_that_stops_sends_those_away_who_wait(tmp_path: Path) -> None:
    """They get a 503 at once and nothing of theirs is left; the shutdown does not wait for them."""
    async with standing(tmp_path, rules(Throttled(90.0))) as stand:
        await stand.ask()
        waiting = stand.ask()
        await stand.until_waiting(1)
        assert await stand.rig.lifecycle.drain(PATIENCE) == 0
        assert (await refused(waiting, Unavailable)).code == "shutting_down"
        assert (stand.room.waiting(), stand.book.calls) == (0, 1)


async def test_the_end_of_a_request_makes_room_for_the_next(tmp_path: Path) -> None:
    """With one request at a time on a route, three are served one after another, in the order in which they came."""
    async with standing(tmp_path, rules(Throttled(60.0)), {"main": (Counted.CONCURRENT, 1, 0)}) as stand:
        stand.book.go_on.clear()
        first = stand.ask()
        await stand.book.begun.wait()
        others = []
        for number in (1, 2):
            others.append(stand.ask())
            await stand.until_waiting(number)
        stand.book.go_on.set()
        got = await asyncio.gather(first, *others)
        assert [each.header("x-request-id") for each in got] == [request_id for request_id, _ in stand.book.came]


BUSY = UpstreamFailure(Outcome.REJECTED, "status_5xx", "busy")


async def test_a_request_that_goes_elsewhere_makes_room_for_the_next(tmp_path: Path) -> None:
    """The slot that a failed call had is given back in the step that takes one elsewhere, and used at once."""
    only_one = {"main": (Counted.CONCURRENT, 1, 0)}
    async with standing(tmp_path, rules(Throttled(60.0, WhenFull.REJECT), MAIN, SPARE, attempts=2), only_one) as stand:
        stand.book.go_on.clear()
        stand.book.script.append(BUSY)
        first = stand.ask()
        await stand.book.begun.wait()
        second = stand.ask()
        await stand.until_waiting(1)
        stand.book.go_on.set()
        stand.book.go_on.clear()  # lets the first call fail, and holds up those after it
        await stand.until_waiting(0)
        assert stand.room.heard == ["main"]
        stand.book.go_on.set()
        got = await asyncio.gather(first, second)
        assert [each.header("X-Gateway-Route") for each in got] == ["spare", "main"]
        assert stand.book.routes() == ["main", "spare", "main"]


TOMORROW = TODAY + timedelta(days=1)
DEARER_TOMORROW = replace(
    GPT_IMAGE_2,
    prices=(
        GPT_IMAGE_2.prices[0],
        replace(GPT_IMAGE_2.prices[0], valid_from=TOMORROW, tokens=rates("10", "2.5", "16", "4", "60")),
    ),
)


@contextlib.asynccontextmanager
async def full_until_tomorrow(directory: Path) -> AsyncIterator[tuple[Stand, asyncio.Task[Got]]]:
    """A gateway whose one route takes one request at a time costs twice as much tomorrow, and who has it."""
    made = rules(Throttled(60.0), route("main", DEARER_TOMORROW))
    async with standing(directory, made, {"main": (Counted.CONCURRENT, 1, 0)}) as stand:
        stand.book.go_on.clear()
        first = stand.ask()
        await stand.book.begun.wait()
        yield stand, first


async def test_what_waits_past_midnight_is_priced_anew(tmp_path: Path) -> None:
    """It is sent at the prices of the day on which it is, or refused where they pass what it may cost."""
    async with full_until_tomorrow(tmp_path) as (stand, first):
        waiting = stand.ask()
        await stand.until_waiting(1)
        thrifty = stand.ask(x_gateway_max_cost="0.01")
        await stand.until_waiting(2)
        stand.rig.day = TOMORROW
        stand.book.go_on.set()
        told, paid = (await first).header("X-Gateway-Cost-Estimate"), (await waiting).header("X-Gateway-Cost-Estimate")
        assert 0 < 2 * float(told) == pytest.approx(float(paid))
        assert float(told) < 0.01 < float(paid)
        await refused(thrifty, BudgetExceeded)
        assert stand.book.calls == 2


async def test_who_waits_past_midnight_keeps_the_place(tmp_path: Path) -> None:
    """Priced anew it comes first still, before all who came after midnight."""
    async with full_until_tomorrow(tmp_path) as (stand, first):
        asked = []
        for day, number in ((TODAY, 3), (TOMORROW, 2)):
            stand.rig.day = day
            for _ in range(number):
                asked.append(stand.ask())
                await stand.until_waiting(len(asked))
        stand.book.go_on.set()
        _, *answers = await asyncio.gather(first, *asked)
        came = [request_id for request_id, _ in stand.book.came[1:]]
        assert came == [each.header("x-request-id") for each in answers]


async def test_who_waits_for_its_twin_past_midnight_is_priced_anew(tmp_path: Path) -> None:
    """A request repeats another gateway's, which comes to nothing on the next day: it is held at that one's prices."""
    made = rules(Throttled(60.0), route("main", DEARER_TOMORROW))
    async with standing(tmp_path, made, {}) as stand:
        stand.book.go_on.clear()
        stand.book.script.append(BUSY)
        first = stand.ask(key="k")
        await stand.book.begun.wait()
        beside, fields = stand.rig.beside(), {"prompt": "a cat", "size": "1024x1024", "quality": "low", "n": 1}
        beside.ledger = ledger = Looking(beside.store)
        beside.lifecycle = beside.open(DeferredSettlements(ledger))
        second = asyncio.create_task(beside.ask(beside.inbound("k", fields=fields, fingerprint="k")))
        await ledger.looked.wait()
        stand.rig.day = beside.day = TOMORROW
        stand.book.go_on.set()
        await refused(first, UpstreamError)
        told = (await second).header("X-Gateway-Cost-Estimate")
        assert told == (await stand.ask()).header("X-Gateway-Cost-Estimate")


async def test_a_task_that_waits_past_midnight_costs_no_more_than_was_held_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its route has become dearer by the date of a price: it fails, and nothing is sent."""
    monkeypatch.setattr("gateway.tasks.run.STORE_PAUSE", 0.0)  # it is decided anew by another try
    monkeypatch.setattr("gateway.tasks.run.random.uniform", lambda *_: 0.0)
    async with full_until_tomorrow(tmp_path / "gateway") as (stand, first):
        rig, blobs, tasks, request = stand.rig, BlobsOnDisk(tmp_path), RedisTasks(stand.rig.store), new_request()
        planner, fields = rig.lifecycle.planner, {"prompt": "a cat", "size": "1024x1024", "quality": "low"}
        exchange, caller, project = Exchange(rig.inbound()), Caller("key_1", "team"), rig.rules.projects["team"]
        planned, _ = planner.admitted(exchange, caller, project, rig.rules, FieldsOnly(fields))

        async def body() -> AsyncIterator[bytes]:
            yield json.dumps(fields).encode()

        await blobs.put(body_name(request), body())
        hold = await held_ahead(rig.ledger, request, candidate((BUDGET, 100)))
        await tasks.add(replace(order(request, "team", hold=hold), most=promised(planned.ranked.quotes)))
        [taken] = await tasks.take(1)
        setup, flights = Setup(rig.rules, {"acme": rig.painter}), rig.lifecycle.flight_context
        context = TaskContext(tasks, blobs, read_kept, planner, lambda: setup, flights)
        running = asyncio.create_task(TaskRun(context, taken).run())
        async with asyncio.timeout(PATIENCE):
            while not stand.room.queues:  # noqa: ASYNC110 - the room tells nobody
                await asyncio.sleep(0.01)
        rig.day = TOMORROW
        stand.book.go_on.set()
        await asyncio.gather(first, running)
        ended = await tasks.find(task_of(request))
        assert ended is not None
        assert ended.error is not None
        assert (ended.status, ended.error["code"]) == (TaskStatus.FAILED, "price_changed")
        assert stand.book.calls == 1


async def test_a_failed_request_does_not_wait_for_another_route(tmp_path: Path) -> None:
    """It is repeated where it failed, or fails: while it waited, its token of a retry budget would be no one's."""
    full = {"spare": (Counted.IMAGES, 1, 60)}
    async with standing(tmp_path, rules(Throttled(90.0), MAIN, SPARE, attempts=2), full) as stand:
        stand.book.script.append(BUSY)
        await stand.ask()
        stand.book.script.append(BUSY)
        assert (await stand.ask()).header("X-Gateway-Route") == "main"
        assert stand.book.routes() == ["main", "spare", "main", "main"]
        stand.book.script.append(BUSY)
        assert "busy" in (await refused(stand.ask(retries=0), UpstreamError)).message
        assert [event.waited for event in stand.rig.events.finished()] == [0.0, 0.0, 0.0]


async def test_nobody_overtakes_those_who_wait(tmp_path: Path) -> None:
    """One image would fit where two are waited for: it comes after them; who may not wait is told to come again."""
    async with standing(tmp_path, rules(Throttled(60.0)), {"main": (Counted.IMAGES, 2, 2)}) as stand:
        await stand.ask()
        large = stand.ask(n=2)
        await stand.until_waiting(1)
        small = stand.ask(project="other")
        await stand.until_waiting(2)
        asked = stand.ledger.times
        error = await refused(stand.ask(x_gateway_job_type="hasty"))
        assert error.retry_after is not None
        assert stand.ledger.times == asked
        got = await asyncio.gather(large, small)
        assert [each.header("x-request-id") for each in got] == [request_id for request_id, _ in stand.book.came[1:]]


async def test_a_route_that_nobody_waits_for_is_open(tmp_path: Path) -> None:
    """While the first choice is waited for, a request that may go elsewhere does so at once."""
    async with standing(tmp_path, rules(Throttled(90.0, WhenFull.REJECT), MAIN, SPARE)) as stand:
        await stand.ask()
        waiting = stand.ask(project="other")
        await stand.until_waiting(1)
        assert (await stand.ask(x_gateway_job_type="hasty")).header("X-Gateway-Route") == "spare"
        await cut_off(waiting)


async def test_a_route_that_its_provider_puts_to_rest_is_left_alone(tmp_path: Path) -> None:
    """By the provider's word one route has no room: the other is taken; then neither has, and the first is awaited."""
    async with standing(tmp_path, rules(Throttled(60.0), MAIN, SPARE), {}) as stand:
        stand.capacity.refused("main", 2.0)
        assert (await stand.ask()).header("X-Gateway-Route") == "spare"
        stand.capacity.refused("main", 1.0)
        stand.capacity.refused("spare", 100.0)
        assert (await stand.ask()).header("X-Gateway-Route") == "main"
        stand.capacity.refused("main", 100.0)
        error = await refused(stand.ask())
        assert error.retry_after == 60.0
