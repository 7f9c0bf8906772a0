"""Health of routes: what ejects one, how it comes back, and what is measured meanwhile; by a clock that tests turn."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.errors import Unavailable
from gateway.domain.settlement import Outcome, Reading
from gateway.observe.event import RouteEjected
from gateway.ports.provider import Answer, Call, UpstreamFailure
from gateway.ports.whole import WholeAnswer
from gateway.routing.capacity import Capacity
from gateway.routing.health import FAILURES, Circuit, Health, Times, Trial
from gateway.routing.watched import WatchedProvider
from gateway.steps.send import prepare
from tests.builders import PROVIDER, job, route
from tests.rig import Events, Painted
from tests.steps.test_classify import FieldsOnly

A, B = route("a"), route("b")
STEADY = Times()


def failure(reason: str = "status_5xx", *, pass_on: bool = False) -> UpstreamFailure:
    """A call that failed."""
    return UpstreamFailure(Outcome.UNKNOWN, reason, reason, pass_on=pass_on)


class Full(Capacity):
    """A capacity that says of routes what the test says."""

    def __init__(self, routes: Mapping[str, str]) -> None:
        super().__init__()
        self._full = routes

    def tight(self) -> Collection[str]:
        """Those that the test names."""
        return self._full.keys()

    def trouble(self, route: str) -> str | None:
        """What the test says."""
        return self._full.get(route)


@dataclass
class Lab:
    """A health with a clock and dice in the hands of the test; the dice show 0 at first: no jitter, no trouble."""

    now: float = 1000.0
    dice: float = 0.0
    full: dict[str, str] = field(default_factory=dict)
    events: Events = field(default_factory=Events)

    def __post_init__(self) -> None:
        self.health = Health(self.events, clock=lambda: self.now, draw=lambda: self.dice, capacity=Full(self.full))

    def fail(self, times: int = FAILURES, reason: str = "status_5xx", *, pass_on: bool = False) -> None:
        """Calls on A that fail, one after the other."""
        for _ in range(times):
            self.health.failed(self.health.begin(A, job()), failure(reason, pass_on=pass_on))

    def succeed(self, seconds: float = 1.0, trial: Trial | None = None) -> None:
        """A call on A that goes well."""
        self.health.succeeded(trial or self.health.begin(A, job()), seconds)

    def ejected(self) -> list[float]:
        """How long each ejection was to last."""
        return [event.seconds for event in self.events.seen if isinstance(event, RouteEjected)]

    def circuit(self) -> Circuit:
        """A's."""
        return self.health.of("a").circuit


@pytest.mark.parametrize("reason", ["connect", "timeout", "reset", "status_5xx", "garbage", "account", "account_quota"])
def test_five_failures_in_a_row_eject_a_route(reason: str) -> None:
    """The fifth failure ejects it for 30 s, says so once, and leaves other routes alone."""
    lab = Lab()
    lab.fail(FAILURES - 1, reason)
    assert lab.health.trouble("a") is None
    assert lab.ejected() == []
    lab.fail(1, reason)
    assert lab.health.trouble("a") == "kept failing and is left alone for 30 s"
    assert lab.ejected() == [30.0]
    assert (lab.circuit(), lab.health.of("a").weight, lab.health.of("a").in_service) == (Circuit.OPEN, 0.1, False)
    assert (lab.health.trouble("b"), lab.health.of("b").weight, lab.health.of("b").in_service) == (None, 1.0, True)


def test_a_success_begins_the_count_anew() -> None:
    """Four failures, a success and four failures are no five in a row."""
    lab = Lab()
    lab.fail(FAILURES - 1)
    lab.succeed()
    lab.fail(FAILURES - 1)
    assert lab.circuit() is Circuit.CLOSED
    lab.fail(1)
    assert lab.circuit() is Circuit.OPEN


@pytest.mark.parametrize(("reason", "pass_on"), [("status_4xx", True), ("status_429", False), ("no_room", False)])
def test_what_is_not_the_routes_fault_does_not_count(reason: str, pass_on: bool) -> None:
    """Moderation, a client's errors, a full account and our own full disk neither add to the failures nor end them."""
    lab = Lab()
    lab.fail(FAILURES - 1)
    lab.fail(50, reason, pass_on=pass_on)
    assert lab.circuit() is Circuit.CLOSED
    lab.fail(1)
    assert lab.circuit() is Circuit.OPEN


def test_after_the_ejection_one_request_at_a_time_tries_the_route() -> None:
    """Half open, the first who asks may try and the others are told so, until the result is in."""
    lab = Lab()
    lab.fail()
    lab.now += 30
    assert lab.circuit() is Circuit.HALF_OPEN
    assert lab.health.trouble("a") is None
    trial = lab.health.begin(A, job())
    lab.now += 120  # an image takes its time
    assert [lab.health.trouble("a") for _ in range(3)] == ["kept failing and is being tried by one request"] * 3
    lab.succeed(trial=trial)
    assert (lab.circuit(), lab.health.trouble("a")) == (Circuit.SLOW_START, None)


def test_a_trial_that_nobody_makes_goes_to_the_next() -> None:
    """Who was let through and called another route, or was refused by it, does not keep the route from being tried."""
    lab = Lab()
    lab.fail()
    lab.now += 30
    assert lab.health.trouble("a") is None
    assert lab.health.trouble("a") is not None
    lab.now += STEADY.claim
    assert lab.health.trouble("a") is None
    trial = lab.health.begin(A, job())
    lab.health.failed(trial, failure("status_429"))
    assert lab.health.trouble("a") is None
    lab.health.dropped(lab.health.begin(A, job()))
    assert lab.health.trouble("a") is None
    lab.health.begin(A, job())
    lab.now += STEADY.probe
    assert lab.health.trouble("a") is None


def test_each_ejection_in_a_row_is_longer_up_to_five_minutes() -> None:
    """A failed trial ejects at once: 30 s, 60 s, …, 300 s, with at most a tenth more by chance."""
    lab = Lab()
    lab.fail()
    for _ in range(12):
        lab.now += lab.health.of("a").seconds
        lab.fail(1)
    assert lab.ejected() == [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300, 300]
    lab = Lab(dice=0.999)
    lab.fail()
    assert lab.ejected() == [pytest.approx(33, abs=0.1)]


def test_ejections_are_forgotten_with_time_in_service() -> None:
    """Soon after its return a route that fails again is ejected for longer; each 30 s in service take one off."""
    lab = Lab()
    lab.fail()
    for healthy, expected in [(29, 60), (31, 60), (65, 30), (10_000, 30)]:
        lab.now += lab.health.of("a").seconds
        lab.succeed()
        lab.now += healthy
        lab.fail()
        assert lab.ejected()[-1] == expected


def test_a_route_comes_back_slowly() -> None:
    """Its weight rises from 0.1 to 1 over 30 s, and it is in trouble by chance just as often as that leaves over."""
    lab = Lab()
    lab.fail()
    lab.now += 30
    lab.succeed()
    weights = []
    for _ in range(31):
        weight = lab.health.of("a").weight
        weights.append(weight)
        lab.dice = weight - 0.001
        assert lab.health.trouble("a") is None
        lab.dice = weight
        assert lab.health.trouble("a") == (None if weight == 1 else "is coming back slowly after failures")
        lab.now += 1
    assert weights[0] == 0.1
    assert weights[-1] == 1.0
    assert all(later > before for before, later in pairwise(weights))
    assert lab.circuit() is Circuit.CLOSED


def test_who_may_be_in_trouble() -> None:
    """A route is asked for from its ejection until it has all of its work again, and while it may have no room."""
    lab = Lab(dice=0.5)
    lab.succeed()
    for _ in range(2):
        assert not lab.health.suspects()
        lab.fail()
        assert set(lab.health.suspects()) == {"a"}
        lab.now += lab.health.of("a").seconds
        lab.succeed()
        assert (lab.health.trouble("a"), set(lab.health.suspects())) == ("is coming back slowly after failures", {"a"})
        lab.now += STEADY.slow_start
        assert lab.health.trouble("a") is None
    lab.full["b"] = "is full"
    assert set(lab.health.suspects()) == {"b"}
    lab.fail()
    assert set(lab.health.suspects()) == {"a", "b"}
    lab.health.adopt({"a": A}, {})
    assert set(lab.health.suspects()) == {"b"}


@pytest.mark.parametrize(
    ("reading", "failures", "seconds"),
    [
        (Reading(images=1, complete=True), 0, 3.0),
        (Reading(complete=True), 1, None),
        (Reading(images=1), 1, None),
        (Reading(images=1, complete=True, error="moderated"), 0, None),
    ],
)
async def test_an_answer_that_is_here_whole(reading: Reading, failures: int, seconds: float | None) -> None:
    """What it says of its route is told before anybody takes it."""
    lab = Lab()

    class Instant:
        async def send(self, _call: Call) -> Answer:
            """An answer after three seconds."""
            lab.now += 3.0
            return WholeAnswer(200, (), BODY, reading, rate_limits={"x-ratelimit-remaining-images": "0"})

        async def aclose(self) -> None:
            """Nothing is open."""

    capacity = Capacity(lambda: lab.now)
    provider = WatchedProvider(Instant(), lab.health, capacity, clock=lambda: lab.now)
    answer = await provider.send(Call("req_1", A, job(), FieldsOnly({})))
    assert (lab.health.of("a").failures, lab.health.latency("a", job())) == (failures, seconds)
    assert set(capacity.tight()) == {"a"}
    assert answer.at_once() == BODY
    assert answer.reading() is reading


def test_calls_from_before_say_nothing_of_now() -> None:
    """Calls begun before the ejection or the return neither prolong it, nor end it, nor eject again."""
    lab = Lab()
    old = [lab.health.begin(A, job()) for _ in range(4 * FAILURES)]
    lab.fail()
    for trial in old[:FAILURES]:
        lab.health.failed(trial, failure("timeout"))
    lab.succeed(trial=old[FAILURES])
    assert (lab.circuit(), lab.ejected()) == (Circuit.OPEN, [30.0])
    lab.now += 30
    lab.health.failed(old[FAILURES + 1], failure("timeout"))
    assert lab.circuit() is Circuit.HALF_OPEN
    lab.succeed()
    for trial in old[FAILURES + 2 :]:
        lab.health.failed(trial, failure("timeout"))
    assert (lab.circuit(), lab.ejected()) == (Circuit.SLOW_START, [30.0])


def test_a_storm_over_all_routes_ends_with_it() -> None:
    """An ejected route is still called where nothing else is left: failures make it no longer, one success ends it."""
    lab = Lab()
    lab.fail()
    lab.now += 10
    lab.fail(100)
    assert lab.ejected() == [30.0]
    assert lab.health.of("a").seconds == 20
    lab.succeed()
    assert lab.circuit() is Circuit.SLOW_START


def test_a_full_route_is_not_tried() -> None:
    """What capacity says comes first, and does not use up the half-open route's one trial."""
    lab = Lab(full={"a": "is at its limit", "b": "is full"})
    assert (lab.health.trouble("a"), lab.health.trouble("b")) == ("is at its limit", "is full")
    lab.fail()
    lab.now += 30
    assert lab.health.trouble("a") == "is at its limit"
    lab.full.clear()
    assert lab.health.trouble("a") is None


def test_an_end_counts_once() -> None:
    """A call that is told to have ended twice has ended once."""
    lab = Lab()
    trial = lab.health.begin(A, job())
    for _ in range(2 * FAILURES):
        lab.health.failed(trial, failure())
    assert lab.health.of("a").failures == 1
    lab.succeed(trial=trial)
    assert lab.health.of("a").failures == 1
    assert lab.health.latency("a", job()) is None


def test_state_survives_a_new_policy_for_routes_that_stay() -> None:
    """A route that calls the same model at the same account is known on; one that is gone or new elsewhere is not."""
    lab = Lab()
    lab.fail()
    lab.succeed(7.0)
    lab.fail()
    lab.health.adopt({"a": A, "b": B}, {"a": replace(A, lane="testing")})
    assert lab.circuit() is Circuit.OPEN
    assert lab.health.latency("a", job()) == 7.0
    lab.health.adopt({"a": A}, {"a": replace(A, provider=replace(PROVIDER, base_url="http://127.0.0.1:2"))})
    assert (lab.circuit(), lab.health.latency("a", job())) == (Circuit.CLOSED, None)


def test_latency_is_a_mean_in_which_what_is_old_counts_less() -> None:
    """Five minutes halve a measurement's weight, and after fifteen without any the latency is not known."""
    lab = Lab()
    assert lab.health.latency("a", job()) is None
    lab.succeed(10)
    assert lab.health.latency("a", job()) == 10
    lab.now += 300
    lab.succeed(40)
    assert lab.health.latency("a", job()) == pytest.approx((10 / 2 + 40) / 1.5)
    lab.now += 900
    assert lab.health.latency("a", job()) == pytest.approx((10 / 2 + 40) / 1.5)
    lab.now += 1
    assert lab.health.latency("a", job()) is None
    assert lab.health.latency("b", job()) is None


def test_latencies_are_kept_by_size_class_and_quality() -> None:
    """1.2 and 2.5 megapixels part the classes, `auto` and what is no size are one of their own."""
    lab = Lab()
    sizes = [("1024x1024", 1.0), ("1536x1024", 2.0), ("3840x2160", 3.0), ("auto", 4.0)]
    for size, seconds in sizes:
        for quality, factor in [("low", 1), ("high", 10)]:
            lab.health.succeeded(lab.health.begin(A, job(size=size, quality=quality)), seconds * factor)
    for size, seconds in [*sizes, ("1200x1000", 1.0), ("1201x1000", 2.0), ("2500x1000", 2.0), ("2501x1000", 3.0)]:
        assert lab.health.latency("a", job(size=size, quality="low")) == seconds
        assert lab.health.latency("a", job(size=size, quality="high")) == seconds * 10
        assert lab.health.latency("a", job(size=size, quality="medium")) is None


def test_words_of_clients_take_no_room() -> None:
    """Qualities that the route does not know are not kept, however many clients think up."""
    lab = Lab()
    for number in range(1000):
        lab.health.succeeded(lab.health.begin(A, job(quality=f"q{number}")), 1.0)
    assert lab.health.latency("a", job(quality="q1")) is None
    assert len(lab.health._latencies) == 0


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), st.integers(0, 0)),
        st.tuples(st.sampled_from(["succeed", "fail", "full", "drop"]), st.integers(0, 5)),
        st.tuples(st.just("wait"), st.integers(0, 400)),
        st.tuples(st.just("ask"), st.integers(0, 0)),
    ),
    max_size=60,
)


@given(STEPS)
def test_no_history_leaves_a_route_out_for_good(steps: list[tuple[str, int]]) -> None:
    """Whatever happened, a route is let through within the longest ejection and trial, and one success brings it back.

    Meanwhile its weight stays above 0 and at most 1, and no ejection is longer than 330 s.
    """
    lab, trials = Lab(), list[Trial]()
    for what, number in steps:
        if what == "begin":
            trials.append(lab.health.begin(A, job()))
        elif what == "wait":
            lab.now += number
        elif what == "ask":
            lab.health.trouble("a")
        elif trials:
            trial = trials[number % len(trials)]
            if what == "succeed":
                lab.succeed(trial=trial)
            elif what == "drop":
                lab.health.dropped(trial)
            else:
                lab.health.failed(trial, failure("status_429" if what == "full" else "reset"))
        assert 0.1 <= lab.health.of("a").weight <= 1
    lab.now += STEADY.longest * 1.1 + STEADY.probe
    assert lab.health.trouble("a") is None
    lab.succeed()
    assert lab.health.of("a").in_service
    assert all(seconds <= 330 for seconds in lab.ejected())


@dataclass
class Scripted:
    """A provider that does what it is told: only so can a call end in each of its ways, and a clock run in between."""

    lab: Lab
    ends: Painted | UpstreamFailure | BaseException

    async def send(self, call: Call) -> Answer:
        """Answer after a second."""
        assert call.route == A
        self.lab.now += 1
        if isinstance(self.ends, BaseException):
            raise self.ends
        return self.ends

    async def aclose(self) -> None:
        """Nothing is open."""


class Bare(Painted):
    """An answer without an image."""

    def reading(self) -> Reading:
        """What it says of itself."""
        return Reading(images=0, complete=self.status != 206, error="moderation_blocked" if self.images > 1 else None)


BODY = b"x" * 120_000
ENDS: list[tuple[str, Painted | UpstreamFailure | BaseException, int]] = [
    ("refused", failure(), 1),
    ("moderation", failure("status_4xx", pass_on=True), 0),
    ("given up", failure("cancelled"), 0),
    ("torn", Painted(BODY, broken=failure("reset")), 1),
    ("no image", Bare(BODY), 1),
    ("half", Bare(BODY, event_stream=True, status=206), 1),
    ("error event", Bare(BODY, event_stream=True, images=2), 0),
    ("cancelled", asyncio.CancelledError(), 0),
]


@pytest.mark.parametrize(("name", "ends", "failures"), ENDS, ids=[name for name, _, _ in ENDS])
async def test_how_a_call_ends_is_told(
    name: str, ends: Painted | UpstreamFailure | BaseException, failures: int
) -> None:
    """A failure counts wherever it shows: before the answer, in its middle, or in what it says."""
    lab = Lab()
    provider = WatchedProvider(Scripted(lab, ends), lab.health, Capacity(), clock=lambda: lab.now)
    expected = (UpstreamFailure, asyncio.CancelledError) if isinstance(ends, BaseException) or ends.broken else ()
    caught: BaseException | None = None
    try:
        answer = await provider.send(Call("req_1", A, job(), FieldsOnly({})))
        async for _ in answer.chunks():
            pass
        await answer.aclose()
    except expected as error:
        caught = error
    assert (caught is not None) == bool(expected)
    assert lab.health.of("a").failures == failures
    assert lab.health.latency("a", job()) is None


async def test_a_provider_that_makes_calls_ready_does_so_while_it_is_watched() -> None:
    """What it made ready is in the call that is sent; of a kind that does not, nothing is asked."""
    lab = Lab()

    class Preparing(Scripted):
        """One that does."""

        def prepare(self, call: Call) -> None:
            """Write down that it did."""
            object.__setattr__(call, "prepared", self)

    plain, ready = Scripted(lab, Painted(BODY)), Preparing(lab, Painted(BODY))
    call = Call("req_1", A, job(), FieldsOnly({}))
    prepare({A.provider.name: WatchedProvider(plain, lab.health, Capacity())}, call)
    assert call.prepared is None
    prepare({A.provider.name: WatchedProvider(ready, lab.health, Capacity())}, call)
    assert call.prepared is ready


async def test_the_time_that_a_client_takes_is_not_the_routes() -> None:
    """Seconds are those of waiting for the provider, to the last byte; an answer left half read measures nothing."""
    lab = Lab()
    provider = WatchedProvider(Scripted(lab, Painted(BODY)), lab.health, Capacity(), clock=lambda: lab.now)
    call = Call("req_1", A, job(), FieldsOnly({}))
    left = await provider.send(call)
    await anext(left.chunks())
    await left.aclose()
    assert lab.health.latency("a", job()) is None
    answer = await provider.send(call)
    read = b""
    async for chunk in answer.chunks():
        read += chunk
        lab.now += 60  # a slow client
    assert read == BODY
    assert lab.health.latency("a", job()) == 1.0


@pytest.mark.parametrize(
    ("ends", "away", "failures"),
    [
        (Painted(BODY, broken=failure("reset")), 60, 0),
        (Painted(BODY, broken=failure("timeout")), 60, 0),
        (Bare(BODY, event_stream=True, status=206), 60, 0),
        (Painted(BODY, broken=failure("reset")), 1, 1),
        (Painted(BODY, broken=failure("garbage")), 60, 1),
        (Bare(BODY, event_stream=True, status=206), 1, 1),
    ],
    ids=["reset", "timeout", "cut", "reset at once", "garbage", "cut at once"],
)
async def test_a_provider_that_was_kept_waiting_may_hang_up(ends: Painted, away: float, failures: int) -> None:
    """How long its reader was away counts, also of one that left for good before somebody else read on."""
    lab = Lab()
    provider = WatchedProvider(Scripted(lab, ends), lab.health, Capacity(), clock=lambda: lab.now)
    answer = await provider.send(Call("req_1", A, job(), FieldsOnly({})))
    await anext(answer.chunks())
    lab.now += away
    with suppress(UpstreamFailure):
        async for _ in answer.chunks():
            pass
    await answer.aclose()
    assert lab.health.of("a").failures == failures


async def test_a_fault_in_an_adapter_is_an_unknown_outcome(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged as what it is; the route is not blamed for what any request may have brought about."""
    lab = Lab()
    fault = UnicodeEncodeError("utf-8", "\ud83d", 0, 1, "surrogates not allowed")
    provider = WatchedProvider(Scripted(lab, fault), lab.health, Capacity(), clock=lambda: lab.now)
    with pytest.raises(UpstreamFailure) as caught:
        await provider.send(Call("req_1", A, job(), FieldsOnly({})))
    assert (caught.value.outcome, caught.value.reason, caught.value.pass_on) == (Outcome.UNKNOWN, "garbage", False)
    assert caught.value.__cause__ is fault
    assert [(record.levelname, record.exc_info is not None) for record in caplog.records] == [("ERROR", True)]
    assert "req_1" in caplog.text
    assert lab.health.of("a").failures == 0


async def test_an_error_that_is_the_gateways_own_word_stays_one() -> None:
    """A disk that is full is told as that, not as an answer of the provider's."""
    lab = Lab()
    provider = WatchedProvider(Scripted(lab, Unavailable("full")), lab.health, Capacity(), clock=lambda: lab.now)
    with pytest.raises(Unavailable):
        await provider.send(Call("req_1", A, job(), FieldsOnly({})))
