"""Offers, remembered decisions, and how quotes of them are made."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from gateway.domain import pricing
from gateway.domain.caller import Caller
from gateway.domain.job import Job, Wishes
from gateway.domain.policy import JobType, Order, Project
from gateway.domain.price import PixelTier, Price
from gateway.domain.weighted_cache import WeightedCache
from gateway.routing.decision import Asked, decide
from gateway.steps.price import price
from gateway.steps.rank import Ranked
from tests.builders import GPT_IMAGE_2, GPT_IMAGE_15, GPT_IMAGE_25, TODAY, job, policy, route

SINGLE = replace(GPT_IMAGE_2.capabilities, n=1)
KIND = JobType(
    "draft",
    (route("main"), route("flare", GPT_IMAGE_25), route("old", GPT_IMAGE_15), route("one", capabilities=SINGLE)),
    order=Order.CHEAPEST,
)
TEAM = Project("team", ("draft",), "draft", multiplier=Fraction(115, 100))
RULES = policy(*KIND.routes, job_type=KIND, project=TEAM)


def decided(wanted: Job, wishes: Wishes | None = None, project: Project = TEAM, day: int = 20) -> Ranked:
    """What is decided under the policy above, which remembers."""
    today = TODAY.replace(day=day)
    return decide(Asked(wanted, wishes or Wishes(), Caller("key", project.name), project, RULES, today), KIND)


@given(length=st.integers(1, 32_000), n=st.integers(1, 10), images=st.integers(0, 4))
def test_a_remembered_decision_prices_each_prompt_exactly(length: int, n: int, images: int) -> None:
    """The worst case is that of the pricing rules for this very prompt, and what is expected never more."""
    wanted = job(prompt_chars=length, prompt_bytes=length, n=n, references=images, size="1024x1024", quality="low")
    ranked = decided(wanted)

    for quote in ranked.quotes:
        model, can = quote.route.model, quote.route.capabilities
        call = replace(quote.job, n=min(n, can.n))
        worst = pricing.worst_case(call, model, quote.route_price, sizes=(), qualities=can.quality)
        assert quote.calls == -(-n // can.n)
        assert quote.worst.route == worst * quote.calls
        assert quote.worst.internal == -(-quote.worst.route * 115 // 100)
        assert quote.expected <= quote.worst.route
        assert quote.tokens >= n * (length + pricing.PROMPT_OVERHEAD_TOKENS)
        assert (quote.job.prompt_bytes, quote.job.n) == (length, n)
    assert [quote.expected for quote in ranked.quotes] == sorted(quote.expected for quote in ranked.quotes)


def test_tokens_count_on_a_route_with_another_price_too() -> None:
    """Of a model that its vendor sells by tokens: the account behind the route has a limit of them."""
    row = Price(TODAY, "test", per_image=(PixelTier("any", 1_000, None),))
    way, plain = route("resold", prices=(row,)), route("main")
    for wanted in (job(), job(size="1024x1024", quality="low", n=3)):
        [resold], _ = price(wanted, JobType("draft", (way,)), TEAM, None, TODAY)
        [sold], _ = price(wanted, JobType("draft", (plain,)), TEAM, None, TODAY)
        assert resold.tokens == sold.tokens > 0


def test_what_is_remembered_is_for_all_who_ask_alike_and_nobody_else() -> None:
    """User and prompt are the request's own; a limit, a lane, a model, a day are looked at each time."""
    first, other = decided(job(user="anna")), decided(job(user="bert", prompt_bytes=900))

    assert {quote.job.user for quote in first.quotes} == {"anna"}
    assert {quote.job.user for quote in other.quotes} == {"bert"}
    assert {quote.job.prompt_bytes for quote in other.quotes} == {900}
    assert len(decided(job(), Wishes(max_cost=300_000_000)).quotes) < len(first.quotes)
    assert [quote.worst.internal for quote in decided(job(), project=replace(TEAM, multiplier=Fraction(2))).quotes] == [
        2 * quote.worst.route for quote in first.quotes
    ]


def test_another_policy_begins_with_an_empty_memory() -> None:
    """A reload, or a policy made from another for a trial of it, inherits no decisions."""
    decided(job())

    assert RULES.memory._weight > 0
    assert replace(RULES, digest="1" * 16).memory._weight == 0


def test_quotes_are_a_sequence_like_any_other() -> None:
    """Indexed from both ends, cut, counted, and the same each time they are looked at."""
    quotes = decided(job()).quotes

    assert len(quotes) == len(list(quotes)) == 4
    assert quotes[-1] is quotes[3]
    assert list(quotes[1:3]) == [quotes[1], quotes[2]]
    assert quotes[0] in quotes


def test_memory_lets_go_of_what_was_unused_longest() -> None:
    """Its weight stays within the bound, and what was looked at last stays longest."""
    memory = WeightedCache(most=10)
    memory.keep("a", 1, 4)
    memory.keep("b", 2, 4)
    assert memory.find("a") == 1
    memory.keep("c", 3, 4)

    assert (memory.find("a"), memory.find("b"), memory.find("c")) == (1, None, 3)
    memory.keep("a", 5, 2)
    assert (memory.find("a"), memory._weight) == (5, 6)
    memory.keep("heavy", 0, 11)
    assert (memory.find("heavy"), memory._weight) == (None, 0)
