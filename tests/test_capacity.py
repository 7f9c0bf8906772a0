"""Capacity: what is learned of accounts from headers and refusals, and when it is forgotten."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any

import pytest

from gateway.domain.budget import Counted, Quota, Scope
from gateway.domain.route import Route, RouteLimits
from gateway.domain.settlement import Outcome
from gateway.observe.fanout import Observers
from gateway.ports.provider import Answer, Call, UpstreamFailure
from gateway.routing.capacity import FORGOTTEN, Capacity, seconds
from gateway.routing.health import FAILURES, Health, RouteHealth
from gateway.routing.watched import WatchedProvider
from tests.builders import PROVIDER, job, route
from tests.rig import Painted, Painter
from tests.steps.test_classify import FieldsOnly


@dataclass
class Clock:
    """Seconds that pass when a test says so."""

    now: float = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def headers(what: str = "images", *, limit: int = 5, left: int = 0, reset: str = "12s") -> dict[str, str]:
    """What a provider says of one limit."""
    figures = {"limit": str(limit), "remaining": str(left), "reset": reset}
    return {f"x-ratelimit-{name}-{what}": value for name, value in figures.items()}


@pytest.fixture
def clock() -> Clock:
    """A clock."""
    return Clock()


@pytest.fixture
def capacity(clock: Clock) -> Capacity:
    """Nothing is known yet."""
    return Capacity(clock)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("120ms", 0.12),
        ("12s", 12),
        ("58.891s", 58.891),
        ("1m2.5s", 62.5),
        ("6m0s", 360),
        ("1h", 3600),
        ("2d3h", 183_600),
        ("7", 7),
        ("0.5", 0.5),
        ("", None),
        ("soon", None),
        ("-3s", None),
        ("1e9", None),
        ("nan", None),
        ("12s ago", None),
        ("9" * 400, None),
    ],
)
def test_spans_are_read_as_vendors_write_them(text: str, span: float | None) -> None:
    """Milliseconds to days, alone and put together; anything else is not guessed at."""
    assert seconds(text) == (None if span is None else pytest.approx(span))


@pytest.mark.parametrize("what", ["images", "input-images", "requests", "tokens"])
def test_a_route_rests_until_the_limit_that_is_used_up_is_reset(capacity: Capacity, clock: Clock, what: str) -> None:
    """Nothing left of any limit means trouble for as long as the provider says, for this route alone."""
    capacity.learn("a", headers(what))
    assert capacity.trouble("a") == "is at its provider's limit for 12 s"
    assert capacity.rest_until("a") == clock.now + 12
    assert capacity.trouble("b") is None
    clock.now += 12
    assert capacity.trouble("a") is None
    assert capacity.rest_until("a") == 0


@pytest.mark.parametrize(
    ("images", "inputs"), [({"left": 0, "reset": "30s"}, {"left": 250}), ({"left": 4}, {"left": 0, "reset": "30s"})]
)
def test_of_two_limits_on_images_the_stricter_counts(
    capacity: Capacity, clock: Clock, images: dict[str, Any], inputs: dict[str, Any]
) -> None:
    """Room by the one does not end the rest of the other, and of two rests the longer holds."""
    capacity.learn("a", headers("images", **images) | headers("input-images", limit=250, **inputs))
    assert capacity.rest_until("a") == clock.now + 30
    capacity.learn("a", headers("images", reset="40s") | headers("input-images", reset="20s"))
    assert capacity.rest_until("a") == clock.now + 40


def test_what_is_left_may_be_enough_for_some(capacity: Capacity, clock: Clock) -> None:
    """Three images left serve a request for three and not one for four; more than the whole limit is not waited for."""
    capacity.learn("a", headers(left=3))
    assert capacity.rest_until("a", images=3) == 0
    assert capacity.rest_until("a", images=4) == clock.now + 12
    capacity.learn("a", headers(left=5))
    assert capacity.rest_until("a", images=9) == 0


def test_a_newer_word_replaces_an_older_one(capacity: Capacity) -> None:
    """Room that has come back ends a rest."""
    capacity.learn("a", headers(left=0))
    capacity.learn("a", headers(left=2))
    assert capacity.trouble("a") is None


@pytest.mark.parametrize(("retry_after", "rest"), [(7.0, 7.0), (None, 1.0), (1e9, FORGOTTEN)])
def test_a_refusal_rests_its_route(capacity: Capacity, clock: Clock, retry_after: float | None, rest: float) -> None:
    """A 429 counts for as long as it says, for a moment if it does not say, and never for ever."""
    capacity.refused("a", retry_after)
    assert capacity.rest_until("a") == clock.now + rest


def test_a_long_rest_is_not_shortened_by_a_short_one(capacity: Capacity, clock: Clock) -> None:
    """Two refusals: the later end holds."""
    capacity.refused("a", 30)
    capacity.refused("a", 2)
    assert capacity.rest_until("a") == clock.now + 30


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"x-ratelimit-limit-images": "many", "x-ratelimit-remaining-images": "-1"},
        {"x-ratelimit-remaining-images": "0"},
        headers(reset="whenever"),
        headers("faces"),
    ],
)
def test_what_cannot_be_read_changes_nothing(capacity: Capacity, said: dict[str, str]) -> None:
    """Malformed headers, unknown limits and a reset that is not said put nobody to rest."""
    capacity.learn("a", said)
    assert capacity.trouble("a") is None


LIMITED = route("a", limits=RouteLimits(images_per_minute=20, concurrent=3))
OF_THE_ACCOUNT = route("a", provider=replace(PROVIDER, limits=RouteLimits(images_per_minute=20)))


def limit(capacity: Capacity, of: Route) -> list[int]:
    """Images per minute of the route itself."""
    scope = Scope(route="a")
    return [q.limit for q in capacity.limits(of) if q.scope == scope and q.counted is Counted.IMAGES]


def test_a_lower_limit_counts_in_place_of_policys(capacity: Capacity, clock: Clock) -> None:
    """5 by the provider's word, 20 by policy's: 5 counts, on the same meter, until nobody confirms it any more."""
    before = capacity.limits(LIMITED)
    capacity.learn("a", headers(limit=5, left=5))
    assert capacity.limits(LIMITED) == (Quota(Scope(route="a"), Counted.IMAGES, 5, 60), *before[1:])
    assert [quota.meter for quota in capacity.limits(LIMITED)] == [quota.meter for quota in before]
    clock.now += FORGOTTEN - 1
    capacity.learn("a", headers(limit=5, left=5))
    clock.now += FORGOTTEN
    assert limit(capacity, LIMITED) == [5]
    clock.now += 1
    assert capacity.limits(LIMITED) == before


def test_a_limit_of_the_account_is_lowered_for_the_route(capacity: Capacity) -> None:
    """Where policy limits the account alone, the route is limited besides: other models may have more."""
    capacity.learn("a", headers(limit=5, left=5))
    assert limit(capacity, OF_THE_ACCOUNT) == [5]
    assert set(capacity.limits(OF_THE_ACCOUNT)) > {Quota(Scope(provider="acme"), Counted.IMAGES, 20, 60)}


@pytest.mark.parametrize("inputs", [2, 250])
def test_a_limit_on_input_images_replaces_none_on_images(capacity: Capacity, inputs: int) -> None:
    """Whichever is lower, the limit on images is the one that counts; it alone stands where nothing else is said."""
    capacity.learn("a", headers(limit=5, left=5) | headers("input-images", limit=inputs, left=2))
    assert limit(capacity, LIMITED) == [5]
    capacity.adopt({}, {})
    capacity.learn("a", headers("input-images", limit=inputs, left=2))
    assert limit(capacity, LIMITED) == [min(inputs, 20)]


@pytest.mark.parametrize("said", [20, 1_000_000, 0])
def test_a_higher_limit_changes_nothing(capacity: Capacity, said: int) -> None:
    """Policy may want to use less than it could; a limit of nothing is no limit."""
    before = capacity.limits(LIMITED)
    capacity.learn("a", headers(limit=said, left=5))
    assert capacity.limits(LIMITED) == before


def test_without_a_limit_in_policy_none_is_added(capacity: Capacity) -> None:
    """What policy does not count costs no line in the ledger."""
    capacity.learn("a", headers(limit=5, left=5))
    assert capacity.limits(route("a")) == ()


def test_a_new_policy_forgets_who_was_replaced(capacity: Capacity) -> None:
    """Another account or model behind a name is not known; what else changes of a route does not matter."""
    was = {name: route(name) for name in ("same", "lane", "account", "model", "gone")}
    for name in was:
        capacity.refused(name, 9)
    capacity.adopt(
        was,
        {
            "same": was["same"],
            "lane": replace(was["lane"], lane="testing"),
            "account": replace(was["account"], provider=replace(PROVIDER, base_url="http://127.0.0.1:2/v1")),
            "model": replace(was["model"], upstream_model="another"),
        },
    )
    assert [name for name in was if capacity.trouble(name)] == ["same", "lane"]


def test_who_may_have_no_room(capacity: Capacity, clock: Clock) -> None:
    """A route is asked for from when its account says that nothing is left, or refuses, until that is over."""
    capacity.learn("a", {"x-ratelimit-remaining-images": "3", "x-ratelimit-reset-images": "12s"})
    assert not capacity.tight()
    for _ in range(2):
        capacity.learn("a", {"x-ratelimit-remaining-images": "0", "x-ratelimit-reset-images": "12s"})
        capacity.refused("b", 5.0)
        assert set(capacity.tight()) == {"a", "b"}
        assert all(capacity.trouble(name) is not None for name in "ab")
        clock.now += 6
        assert (capacity.trouble("a") is None, capacity.trouble("b")) == (False, None)
        assert set(capacity.tight()) == {"a"}
        clock.now += 6
        assert capacity.trouble("a") is None
        assert not capacity.tight()
    capacity.refused("b", 5.0)
    capacity.adopt({"b": route("b")}, {})
    assert not capacity.tight()


async def test_a_provider_teaches_by_answers_and_refusals(capacity: Capacity, clock: Clock) -> None:
    """Headers of a good answer, of a 429 and of another failure are all learned from; a 429 alone is a refusal."""
    painter = Painter(script=[])
    painter.go_on.set()
    provider = WatchedProvider(painter, Health(Observers([])), capacity)

    def failure(reason: str, said: dict[str, str]) -> UpstreamFailure:
        return UpstreamFailure(Outcome.REJECTED, reason, reason, retry_after=40, rate_limits=said)

    def call(name: str) -> Call:
        return Call("req_1", route(name), job(), FieldsOnly({}))

    painter.script += [Painted(b"{}", rate_limits=headers()), failure("status_429", {}), failure("status_5xx", {})]
    assert (await provider.send(call("answered"))).rate_limits == headers()
    for name in ("refused", "broken"):
        with pytest.raises(UpstreamFailure):
            await provider.send(call(name))
    rests = {name: capacity.rest_until(name) for name in ("answered", "refused", "broken")}
    assert rests == {"answered": clock.now + 12, "refused": clock.now + 40, "broken": 0}
    await provider.aclose()


async def test_what_a_former_account_says_late_is_no_word_of_the_one_after_it() -> None:
    """Calls under way when a route is moved tell nothing of its new account; that one's own calls do."""
    capacity, painter = Capacity(), Painter()
    health = Health(Observers([]), capacity=capacity)
    provider = WatchedProvider(painter, health, capacity)
    former, moved = route("a"), route("a", provider=replace(PROVIDER, base_url="http://127.0.0.1:2/v1"))

    def calls(to: Route, number: int) -> list[asyncio.Task[Answer]]:
        return [asyncio.create_task(provider.send(Call("req_1", to, job(), FieldsOnly({})))) for _ in range(number)]

    def failure(reason: str) -> UpstreamFailure:
        return UpstreamFailure(Outcome.REJECTED, reason, reason, retry_after=300, rate_limits=headers())

    under_way = calls(former, FAILURES + 2)
    await painter.begun.wait()
    health.adopt({"a": former}, {"a": moved})
    capacity.adopt({"a": former}, {"a": moved})
    health.succeeded(health.begin(moved, job()), 1.0)
    answered = Painted(b"{}", rate_limits=headers())
    painter.script += [answered, failure("status_429"), *(failure("status_5xx") for _ in range(2 * FAILURES))]
    painter.go_on.set()
    await asyncio.gather(*under_way, *calls(former, FAILURES), return_exceptions=True)
    assert (health.of("a"), capacity.knows("a")) == (RouteHealth(), False)
    painter.script += [failure("status_429"), *(failure("status_5xx") for _ in range(FAILURES))]
    await asyncio.gather(*calls(moved, FAILURES + 1), return_exceptions=True)
    assert (health.of("a").ejections, capacity.knows("a")) == (1, True)
