"""Repricing: the same work by other prices, exactly, and nothing invented where there is no price."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, date, datetime
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain import pricing
from gateway.domain.job import Size
from gateway.domain.policy import Project
from gateway.domain.price import AddOns, Metered, PixelTier, Price
from gateway.domain.repricing import Repricer
from gateway.domain.route import Quote, Route, Views
from gateway.domain.settlement import PartReading, Reading, Usage
from gateway.steps.settle import settle
from tests.builders import GPT_IMAGE_2, job, policy, rates, route

USAGE = {"text_in": 20, "image_in": 0, "text_in_cached": 0, "image_in_cached": 0, "image_out": 1756, "text_out": 0}
OLD = 20 * 5_000 + 1756 * 30_000
"""Nano-USD of that usage at $5 and $30 per million."""
BOOKED = Views(OLD, OLD, 60_697_000)
TEAM = Project("team", ("draft",), "draft", multiplier=Fraction("1.15"))


@dataclass(frozen=True)
class Entry:
    """An entry as the ledger yields it; `cost` is nano-USD."""

    cost: Views = BOOKED
    kind: str = "settle"
    request_id: str = "r1"
    attempt: int = 1
    images: int = 1
    time: datetime = datetime(2026, 11, 20, 23, 59, tzinfo=UTC)
    project: str = "team"
    route: str = "main"
    model: str = "gpt-image-2"
    operation: str = "generate"
    n: int = 1
    size: str = "1024x1024"
    quality: str = "medium"
    source: str = "usage"
    usage: Mapping[str, int] | None = field(default_factory=lambda: dict(USAGE))
    tags: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=lambda: {"n": 1, "size": "auto", "quality": "auto"})
    facts: Mapping[str, Any] = field(default_factory=lambda: {"size": "1024x1024", "quality": "medium"})
    answer: Mapping[str, Any] = field(default_factory=dict)


def half_price() -> Route:
    """A route that charges half of the official price."""
    return route("main", prices=(Price(date(2026, 5, 1), "test", rates("2.5", "0.625", "4", "1", "15")),))


def per_image(usd: int) -> Route:
    """A route that charges cents by the image, whatever its size."""
    return route("main", prices=(Price(date(2026, 5, 1), "test", per_image=(PixelTier("any", usd, None),)),))


def test_usage_is_priced_by_the_other_routes_rates() -> None:
    """Tokens that were reported times the new rates; official stays the vendor's, internal takes the multiplier."""
    found = Repricer(policy(half_price(), project=TEAM)).cost(Entry())
    assert found == Views(OLD, OLD // 2, -(-OLD * 115 // 200))


def test_the_same_policy_changes_nothing() -> None:
    """Usage priced again at the prices it was priced at is what was booked."""
    assert Repricer(policy(route("main"), project=TEAM)).cost(Entry()) == Entry().cost


def test_a_route_that_is_not_there_costs_the_models_official_price() -> None:
    """The model is known, so the vendor's price stands for the route's too."""
    repricer = Repricer(policy(project=TEAM))
    assert repricer.cost(Entry(route="gone")).route == OLD
    assert repricer.kept_requests == 0


def test_what_has_no_price_keeps_what_was_booked_and_is_counted() -> None:
    """Neither route nor model, or no price on that day: the booked amount stands, requests and corrections counted."""
    repricer = Repricer(policy(half_price(), project=TEAM))
    strange = Entry(route="gone", model="gone")
    assert repricer.cost(strange) == strange.cost
    before = Entry(request_id="r2", time=datetime(2026, 4, 30, tzinfo=UTC))
    assert repricer.cost(before) == before.cost
    later = Entry(kind="correct", request_id="r3", cost=Views(-1, -1, -1))
    assert repricer.cost(later) == later.cost
    assert (repricer.kept_requests, repricer.kept_corrections) == (2, 1)


def test_a_price_applies_from_its_day_on() -> None:
    """A price that begins in the middle of the period is that of its first day, not of the one before."""
    cheaper = Price(date(2026, 11, 21), "test", rates("1", "1", "1", "1", "1"))
    repricer = Repricer(policy(replace(half_price(), prices=(*half_price().prices, cheaper)), project=TEAM))
    assert repricer.cost(Entry()).route == OLD // 2
    assert repricer.cost(Entry(request_id="r2", time=datetime(2026, 11, 21, tzinfo=UTC))).route == 1776_000


def test_images_are_priced_by_number_and_size() -> None:
    """A route that sells by the image charges for those that came, and for those asked for where none is known of."""
    repricer = Repricer(policy(per_image(40_000_000), project=TEAM))
    assert repricer.cost(Entry(images=3, n=4)).route == 120_000_000
    assert repricer.cost(Entry(images=0, n=4, request_id="r2")).route == 160_000_000


def test_work_without_usage_costs_the_estimate() -> None:
    """Size, quality and images by the published formula, with the prompt that the record tells of."""
    about = {"n": 2, "text_bytes": 100, "references": 1, "partial_images": 1}
    entry = Entry(usage=None, n=2, images=2, source="estimate", about=about)
    known = job(n=2, prompt_bytes=100, references=1, partial_images=1, size="1024x1024", quality="medium")
    price = GPT_IMAGE_2.prices[0]
    worst = pricing.worst_case(known, GPT_IMAGE_2, price, sizes=(), qualities=())
    assert Repricer(policy(route("main"), project=TEAM)).cost(entry).route == worst


def test_an_estimate_goes_by_what_was_made() -> None:
    """Where `auto` was asked for, size and quality are those of the answer."""
    auto = Entry(
        usage=None, source="estimate", size="1024x1024", quality="low", facts={"size": "auto", "quality": "auto"}
    )
    asked = job(prompt_bytes=0, size="1024x1024", quality="low")
    worst = pricing.worst_case(asked, GPT_IMAGE_2, GPT_IMAGE_2.prices[0], sizes=(), qualities=())
    assert Repricer(policy(route("main"), project=TEAM)).cost(auto).route == worst


def test_several_calls_of_which_one_is_unknown() -> None:
    """What was answered goes by usage or by the image, the rest by its worst case."""
    presumed = Entry(kind="presume", source="presumed", n=3, images=2, answer={"calls": 3, "unknown_images": 1})
    asked = job(n=1, prompt_bytes=0, size="1024x1024", quality="medium")
    worst = pricing.worst_case(asked, GPT_IMAGE_2, GPT_IMAGE_2.prices[0], sizes=(), qualities=())
    assert Repricer(policy(route("main"), project=TEAM)).cost(presumed).route == OLD + worst
    assert Repricer(policy(per_image(40_000_000), project=TEAM)).cost(presumed).route == 3 * 40_000_000


def test_several_calls_of_which_one_is_unknown_and_the_others_were_refused() -> None:
    """Only the image that may have been made costs anything."""
    presumed = Entry(
        kind="presume", source="presumed", usage=None, n=5, images=0, answer={"calls": 5, "unknown_images": 1}
    )
    assert Repricer(policy(per_image(40_000_000), project=TEAM)).cost(presumed).route == 40_000_000


def test_what_is_presumed_lower_costs_the_worst_case_of_what_is_left() -> None:
    """Of two images one turned out not to be billed; the other one is worth its worst case still."""
    repricer = Repricer(policy(per_image(40_000_000), project=TEAM))
    presumed = Entry(kind="presume", source="presumed", usage=None, n=2, images=0)
    assert repricer.cost(presumed).route == 80_000_000
    lower = replace(presumed, kind="correct", answer={"calls": 2, "unknown_images": 1})
    assert repricer.cost(lower).route == -40_000_000
    assert repricer.cost(replace(lower, answer={}, cost=Views(0, 0, 0))).route == 40_000_000


def test_what_is_presumed_costs_the_worst_case_until_it_is_known() -> None:
    """The worst case of what was asked for; the correction brings it to what the usage says, or to nothing."""
    presumed = Entry(kind="presume", usage=None, source="presumed", images=0)
    asked = job(prompt_bytes=0, size="1024x1024", quality="medium")
    price = half_price().prices[0]
    worst = pricing.worst_case(asked, GPT_IMAGE_2, price, sizes=(), qualities=())
    known = Repricer(policy(half_price(), project=TEAM))
    assert known.cost(presumed).route == worst
    assert known.cost(Entry(kind="correct", cost=Views(-5, -5, -5))).route == OLD // 2 - worst
    void = Repricer(policy(half_price(), project=TEAM))
    booked = void.cost(presumed)
    gone = void.cost(Entry(kind="correct", source="void", usage=None, cost=Views(0, 0, 0)))
    assert (booked.route + gone.route, booked.official + gone.official, booked.internal + gone.internal) == (0, 0, 0)


def test_what_an_invoice_changed_changes_in_proportion() -> None:
    """Half as much on the invoice is half as much by the other prices, in every view."""
    repricer = Repricer(policy(half_price(), project=TEAM))
    first = repricer.cost(Entry())
    half = Entry().cost
    change = Views(*(-(amount // 2) for amount in (half.official, half.route, half.internal)))
    second = repricer.cost(Entry(kind="adjust", cost=change, images=0, usage=None, source="invoice"))
    assert first.route + second.route == -(-first.route // 2)
    assert repricer.kept_corrections == 0


def test_what_was_free_cannot_be_changed_in_proportion() -> None:
    """Where nothing was booked there is no proportion: the invoice's amount stands, and is counted."""
    repricer = Repricer(policy(half_price(), project=TEAM))
    repricer.cost(Entry(cost=Views(0, 0, 0)))
    assert repricer.cost(Entry(kind="adjust", cost=Views(7, 7, 7), images=0)) == Views(7, 7, 7)
    assert repricer.kept_corrections == 1


def test_a_refusal_that_an_invoice_billed_keeps_what_was_booked() -> None:
    """No row says at what it was billed; what changes it later keeps its difference too."""
    repricer = Repricer(policy(half_price(), project=TEAM))
    billed = Entry(source="invoice", images=0, usage=None)
    assert repricer.cost(billed) == BOOKED
    assert repricer.cost(replace(billed, kind="adjust", cost=Views(-1, -1, -1))) == Views(-1, -1, -1)
    assert (repricer.kept_requests, repricer.kept_corrections) == (1, 1)


def test_an_amount_without_a_request_keeps_what_was_booked() -> None:
    """Nothing is known of the work behind it."""
    posted = Entry(kind="adjust", request_id="-", attempt=0, cost=Views(7, 7, 7), about={"day": "2026-11-01"})
    repricer = Repricer(policy(half_price(), project=TEAM))
    assert repricer.cost(posted) == posted.cost
    assert repricer.kept_corrections == 1


def test_a_project_that_is_not_there_keeps_its_ratio() -> None:
    """The internal view is charged at the ratio at which it was booked."""
    found = Repricer(policy(half_price(), project=TEAM)).cost(Entry(project="gone", cost=Views(100, 100, 130)))
    assert found.internal == -(-found.route * 130 // 100)


@pytest.mark.parametrize("usage", [{"strange": 5}, {}])
def test_words_of_another_version_are_no_tokens(usage: dict[str, int]) -> None:
    """Kinds of tokens that this version does not know cost nothing and break nothing."""
    assert Repricer(policy(half_price(), project=TEAM)).cost(Entry(usage=usage)).route == 0


entries = st.builds(
    Entry,
    cost=st.integers(0, 10**12).map(lambda nano: Views(nano, nano, nano)),
    kind=st.sampled_from(["settle", "presume", "correct", "adjust"]),
    request_id=st.sampled_from("abc"),
    attempt=st.integers(1, 2),
    route=st.sampled_from(["main", "gone"]),
    model=st.sampled_from(["gpt-image-2", "gone"]),
    source=st.sampled_from(["usage", "estimate", "presumed", "void", "invoice"]),
    usage=st.one_of(st.none(), st.just(USAGE)),
    size=st.sampled_from(["", "auto", "1024x1024", "junk"]),
    quality=st.sampled_from(["", "auto", "low", "junk"]),
)


@given(st.lists(entries, max_size=12))
def test_the_sum_of_an_attempt_is_never_negative(found: list[Entry]) -> None:
    """Whatever is booked, presumed, corrected and adjusted, nothing comes to less than nothing by other prices."""
    repricer = Repricer(policy(half_price(), project=TEAM))
    sums: dict[tuple[str, int], int] = {}
    for entry in found:
        key = (entry.request_id, entry.attempt)
        sums[key] = sums.get(key, 0) + repricer.cost(entry).route
        assert sums[key] >= 0


def test_sizes_that_answers_name_are_read() -> None:
    """A tier by size is that of the image that came."""
    tiers = (PixelTier("1K", 10, 1_700_000), PixelTier("2K", 25, None))
    sized = route("main", prices=(Price(date(2026, 5, 1), "test", per_image=tiers),))
    large = str(Size(2048, 2048))
    repricer = Repricer(policy(sized, project=TEAM))
    assert [repricer.cost(Entry(size=size, request_id=size)).route for size in ("1024x1024", large)] == [10, 25]


SOLD = {
    "seconds": Price(date(2026, 5, 1), "test", seconds=Metered(975_000, Fraction(12), Fraction(60))),
    "units": Price(date(2026, 5, 1), "test", units=Metered(40_000_000, Fraction(1), Fraction(4))),
}


@pytest.mark.parametrize(
    ("sold", "answer", "cost"),
    [
        ("seconds", {"billed_seconds": "29/10"}, 2_827_500),
        ("seconds", {}, 2 * 12 * 975_000),
        ("units", {"billed_units": "3"}, 120_000_000),
        ("units", {}, 2 * 40_000_000),
    ],
)
def test_what_was_counted_is_priced_again(sold: str, answer: Mapping[str, Any], cost: int) -> None:
    """Recorded seconds and units at the other price; where none were recorded, what images usually take there."""
    repricer = Repricer(policy(route("main", prices=(SOLD[sold],)), project=TEAM))
    assert repricer.cost(Entry(n=2, images=2, usage=None, answer=answer)).route == cost


def test_what_the_provider_reported_holds_by_any_catalog() -> None:
    """The route's cost stays as it was told; the official view goes by the other catalog."""
    repricer = Repricer(policy(per_image(40_000_000), project=TEAM))
    assert repricer.cost(Entry(source="reported")).route == BOOKED.route
    assert repricer.cost(Entry(request_id="r2", source="usage")).route == 40_000_000


@pytest.mark.parametrize(
    ("sold", "said"),
    [
        (None, Reading(reported=9_000_000)),
        ("seconds", Reading(seconds=Fraction(3))),
        ("units", Reading(units=Fraction(3))),
        ("units", Reading()),
    ],
    ids=["reported", "seconds", "units", "nothing"],
)
def test_an_official_price_without_tokens_is_as_likely_as_when_it_was_booked(sold: str | None, said: Reading) -> None:
    """The policy that it was booked by gives every view again, whether the route's own cost is known or estimated."""
    own = route("main") if sold is None else route("main", prices=(SOLD[sold],))
    asked = job(prompt_bytes=4_000, n=2, size="1024x1024", quality="medium", references=1)
    official, price = pricing.prices_of(own, Entry.time.date())
    quote = Quote(own, asked, {}, Views(10**9, 10**9, 10**9), official, price)
    booked = settle("r1", 1, quote, replace(said, images=2, complete=True), TEAM.multiplier)
    about = {"n": 2, "text_bytes": 4_000, "references": 1}
    entry = Entry(cost=booked.cost, source=booked.source, usage=None, n=2, images=2, about=about, answer=booked.facts)
    assert Repricer(policy(own, project=TEAM)).cost(entry) == booked.cost


@pytest.mark.parametrize(("words", "each"), [(("succeeded", "moderated"), 40_000_000), (("succeeded",), 0)])
def test_refusals_that_were_charged_are_priced_by_the_other_row(words: tuple[str, ...], each: int) -> None:
    """An image for each that the other row charges for too, beside what succeeded; else nothing."""
    [row] = per_image(40_000_000).prices
    charging = route("main", prices=(replace(row, charged_for=frozenset(words)),))
    refused = Entry(n=4, images=0, usage=None, answer={"charged_for": "moderated", "charged_calls": 2})
    beside = replace(refused, request_id="r2", images=2, answer={**refused.answer, "calls": 4})

    repricer = Repricer(policy(charging, project=TEAM))
    assert repricer.cost(refused).route == 2 * each
    assert repricer.cost(beside).route == 2 * each + 2 * 40_000_000


def counting(*words: str, text_in: str = "5") -> Route:
    """A route by tokens that charges for these."""
    tokens = rates(text_in, "1.25", "8", "2", "30")
    return route("main", prices=(replace(GPT_IMAGE_2.prices[0], tokens=tokens, charged_for=frozenset(words)),))


def booked_on(asked: Quote, *parts: PartReading) -> Entry:
    """The entry of calls that came to this."""
    images = sum(part.reading.images for part in parts)
    made = settle("r1", 1, asked, Reading(images=images, complete=True, parts=parts), TEAM.multiplier)
    usage = None if made.usage is None else asdict(made.usage)
    return Entry(cost=made.cost, source=made.source, usage=usage, n=asked.job.n, images=images, answer=made.facts)


@pytest.mark.parametrize(("made", "refused", "fee"), [(0, 1, 1_000), (0, 3, 1_000), (2, 1, 1_000), (3, 0, 1_000)])
def test_refusals_that_counted_tokens_are_priced_by_them(made: int, refused: int, fee: int) -> None:
    """The same prices change nothing, fees of each call with them; another rate what it is for; no charge all of it."""
    charging = counting("succeeded", "failed")
    price = replace(charging.prices[0], add_ons=AddOns(request=fee))
    charging, each = replace(charging, prices=(price,)), job(n=made + refused, size="1024x1024", quality="medium")
    worst = Views(*[pricing.worst_case(each, GPT_IMAGE_2, price, sizes=(), qualities=())] * 3)
    asked = Quote(charging, each, {}, worst, price, price, calls=made + refused)
    answer = PartReading(1, Reading(usage=Usage(text_in=20, image_out=1756), images=1, complete=True))
    entry = booked_on(asked, *[answer] * made, *[PartReading(1, Reading(usage=Usage(text_in=6)), "failed")] * refused)
    assert entry.cost.route == made * (OLD + fee) + refused * (6 * 5_000 + fee)

    assert Repricer(policy(charging, project=TEAM)).cost(entry).route == entry.cost.route
    dear = counting("succeeded", "failed", text_in="10")
    assert Repricer(policy(dear, project=TEAM)).cost(entry).route == made * (OLD + 20 * 5_000) + refused * 6 * 10_000
    assert Repricer(policy(counting("succeeded"), project=TEAM)).cost(entry).route == made * OLD


@pytest.mark.parametrize(("silent", "refused", "lost"), [(1, 1, 0), (2, 0, 0), (1, 0, 1), (0, 1, 1), (0, 0, 2)])
def test_calls_whose_cost_nobody_told_cost_by_the_same_prices_what_was_booked(
    silent: int, refused: int, lost: int
) -> None:
    """Answers without usage and calls of unknown outcome are worth what they are at most; a refusal is no image."""
    charging, n, fee = counting("succeeded", "failed"), silent + refused + lost, 1_000
    price = replace(charging.prices[0], add_ons=AddOns(request=fee))
    charging = replace(charging, prices=(price,), model=replace(GPT_IMAGE_2, prices=(price,)))
    each = job(n=n, prompt_bytes=0, size="1024x1024", quality="medium")
    worst = pricing.worst_case(each, GPT_IMAGE_2, price, sizes=(), qualities=()) + (n - 1) * fee
    asked = Quote(charging, each, {}, pricing.views(worst, worst, TEAM.multiplier), price, price, calls=n)
    parts = [PartReading(1, Reading(images=1, complete=True))] * silent + [PartReading(1, Reading())] * lost
    entry = booked_on(asked, *parts, *[PartReading(1, Reading(usage=Usage(text_in=6)), "failed")] * refused)
    assert entry.cost.route == (worst // n) * (silent + lost) + refused * (6 * 5_000 + fee)

    assert Repricer(policy(charging, project=TEAM)).cost(entry) == entry.cost


def test_refusals_beside_a_lost_call_are_priced_by_their_tokens() -> None:
    """The lost one at its worst case, the refused one at what it counted."""
    charging = counting("succeeded", "failed")
    facts = {"calls": 2, "unknown_images": 1, "charged_for": "failed", "charged_calls": 1}
    entry = Entry(
        kind="presume", source="presumed", n=2, images=0, usage=None, answer={**facts, "charged_tokens": {"text_in": 6}}
    )
    one = job(prompt_bytes=0, size="1024x1024", quality="medium")
    worst = pricing.worst_case(one, GPT_IMAGE_2, charging.prices[0], sizes=(), qualities=())
    assert Repricer(policy(charging, project=TEAM)).cost(entry).route == worst + 6 * 5_000


def test_refusals_whose_tokens_were_not_written_down_keep_what_was_booked() -> None:
    """Earlier versions booked them by tokens and wrote none: no price is made up for them, and a line says so."""
    booked = Views(3_000, 3_000, 3_450)
    old = Entry(cost=booked, images=0, usage=None, answer={"charged_for": "failed", "charged_calls": 1})
    repricer = Repricer(policy(counting("succeeded", "failed"), project=TEAM))
    assert (repricer.cost(old), repricer.kept_requests) == (booked, 1)
