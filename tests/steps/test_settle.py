"""Settle: usage if it is sound, else the estimate, else the worst case; never nothing, in all three views."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from fractions import Fraction

import pytest

from gateway.domain import money
from gateway.domain.job import Job
from gateway.domain.policy import Project
from gateway.domain.price import PixelTier, Price
from gateway.domain.pricing import usual_case
from gateway.domain.route import Quote, Route, Views
from gateway.domain.settlement import CostSource, Outcome, PartReading, Reading, Usage
from gateway.ports.provider import UpstreamFailure
from gateway.steps.price import price
from gateway.steps.settle import presume, settle
from tests.builders import GPT_IMAGE_2, GPT_IMAGE_15, TODAY, job, policy, rates, route

ONE = Fraction(1)
USAGE = Usage(text_in=10, image_out=196)
BY_USAGE = 10 * 5_000 + 196 * 30_000
TIERS = Price(
    date(2026, 5, 1),
    "test",
    per_image=(PixelTier("1K", 15_000_000, 1_700_000), PixelTier("2K", 25_500_000, None)),
)


def quote(wanted: Job | None = None, own: Route | None = None, multiplier: Fraction = ONE) -> Quote:
    """A quote as the price step makes it."""
    way = own or route("main")
    rules = policy(way, project=Project("team", ("draft",), "draft", multiplier=multiplier))
    asked = wanted or job(quality="low", size="1024x1024")
    quotes, refusals = price(asked, rules.job_types["draft"], rules.projects["team"], None, TODAY)
    assert not refusals
    return quotes[0]


def whole(images: int = 1, **said: object) -> Reading:
    """An answer read to its end."""
    return replace(Reading(images=images, complete=True), **said)  # type: ignore[arg-type]  # fields of Reading


def test_sound_usage_is_the_cost_to_the_nano_dollar() -> None:
    """Tokens times rates, exactly, and the entry keeps the tokens."""
    made = settle("r", 1, quote(), whole(usage=USAGE), ONE)
    assert made.cost == Views(BY_USAGE, BY_USAGE, BY_USAGE)
    assert (made.source, made.images, made.usage) == (CostSource.USAGE, 1, USAGE)


def test_cached_tokens_cost_their_own_rate() -> None:
    """A cached token is not paid in full."""
    usage = Usage(text_in=4, text_in_cached=100, image_in=7, image_in_cached=50, image_out=196, text_out=3)
    made = settle("r", 1, quote(), whole(usage=usage), ONE)
    assert made.cost.route == 4 * 5_000 + 100 * 1_250 + 7 * 8_000 + 50 * 2_000 + (196 + 3) * 30_000


@pytest.mark.parametrize("problem", ["missing", "malformed", "negative", "zero_output", "contradictory"])
def test_without_usage_the_estimate_is_the_cost(problem: str) -> None:
    """A whole answer with an image but no usable usage costs what such an image costs at most, marked as estimate."""
    asked = quote()
    made = settle("r", 1, asked, whole(usage_problem=problem), ONE)
    assert made.source is CostSource.ESTIMATE
    assert made.cost == asked.worst
    assert made.usage is None
    assert made.facts["usage_problem"] == problem


@pytest.mark.parametrize("beyond", [-1, 0, 1])
def test_usage_is_believed_to_the_token_whatever_row_prices_it(beyond: int) -> None:
    """Ten times the worst case is the bound, also where one row is both the vendor's price and the route's."""
    asked = quote()
    assert asked.route_price is asked.official_price
    apart = replace(asked, official_price=replace(asked.official_price))
    most = 10 * min(asked.worst.route, asked.worst.official) // 30_000
    told = whole(usage=Usage(image_out=most + beyond))
    made = settle("r", 1, asked, told, ONE)
    assert made == settle("r", 1, apart, told, ONE)
    assert (made.source is CostSource.USAGE) is (beyond <= 0)


@pytest.mark.parametrize("own", [route("main"), route("by-image", prices=(TIERS,))], ids=["by tokens", "by the image"])
def test_usage_that_nobody_would_bill_is_not_believed(own: Route) -> None:
    """Far above the worst case it is the provider's mistake, in every view; a little above, it is booked in full."""
    asked = quote(own=own)
    absurd = settle("r", 1, asked, whole(usage=Usage(image_out=10**8)), ONE)
    assert absurd.cost.official <= asked.worst.official
    assert absurd.cost.route <= asked.worst.route
    assert (absurd.usage, absurd.facts["usage_problem"]) == (None, "absurd")
    dearer = settle("r", 1, asked, whole(usage=Usage(image_out=1_000)), ONE)
    assert dearer.cost.official == 1_000 * 30_000 > asked.worst.official


def test_an_estimate_goes_by_what_the_answer_says_it_made() -> None:
    """With `auto` asked for, the size and quality in the answer decide, within what was held."""
    asked = quote(job())
    made = settle("r", 1, asked, whole(size="1024x1024", quality="low"), ONE)
    plain = quote()
    assert made.cost == plain.worst
    assert 0 < made.cost.route < asked.worst.route
    assert (made.facts["size"], made.facts["quality"]) == ("1024x1024", "low")


def test_an_estimate_never_exceeds_what_was_held() -> None:
    """An answer that claims to be dearer than the request allowed costs the hold and not more."""
    asked = quote()
    made = settle("r", 1, asked, whole(size="3840x2160", quality="high"), ONE)
    assert made.cost == asked.worst


@pytest.mark.parametrize("claim", ["auto", "enormous", "0x0", "9x9x9"])
def test_an_estimate_ignores_a_size_that_is_none(claim: str) -> None:
    """What cannot be read as a size says nothing."""
    asked = quote()
    assert settle("r", 1, asked, whole(size=claim, quality="auto"), ONE).cost == asked.worst


@pytest.mark.parametrize(
    ("reading", "why"),
    [
        (Reading(), "nothing came"),
        (Reading(complete=True), "a whole answer without an image"),
        (Reading(images=1), "an image, but the answer broke off"),
        (Reading(images=0, error="server_error", complete=True), "an error in the place of an image"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_answer_that_says_too_little_is_presumed_at_its_worst_case(reading: Reading, why: str) -> None:
    """The work may have been done, so the hold stays spent, unconfirmed."""
    asked = quote()
    made = settle("r", 1, asked, reading, ONE)
    assert (made.cost, made.source) == (asked.worst, CostSource.PRESUMED), why
    assert made.images == reading.images


@pytest.mark.parametrize(
    ("images", "complete", "error", "source"),
    [
        (4, True, None, CostSource.USAGE),
        (4, False, None, CostSource.USAGE),
        (3, True, None, CostSource.PRESUMED),
        (1, False, None, CostSource.PRESUMED),
        (2, True, "server_error", CostSource.PRESUMED),
    ],
)
def test_usage_of_a_part_of_a_stream_is_not_its_cost(
    images: int, error: str | None, source: CostSource, *, complete: bool
) -> None:
    """A stream names usage image by image: while one is missing, nobody knows what it cost."""
    asked = quote(job(n=4, stream=True, quality="low", size="1024x1024"))
    reading = Reading(usage=USAGE, images=images, complete=complete, error=error)
    made = settle("r", 1, asked, reading, ONE)
    assert made.source is source
    assert made.cost.route == (BY_USAGE if source is CostSource.USAGE else asked.worst.route)


@pytest.mark.parametrize(
    ("images", "source", "cost"), [(2, CostSource.USAGE, 40_000_000), (1, CostSource.PRESUMED, 40_000_000)]
)
def test_an_image_missing_from_a_stream_may_be_billed_without_usage_too(
    images: int, source: CostSource, cost: int
) -> None:
    """A provider that sells by the image need not name tokens: those that came say nothing of the one that did not."""
    sold = route("main", prices=(Price(date(2026, 5, 1), "test", per_image=(PixelTier("any", 20_000_000, None),)),))
    made = settle("r", 1, quote(job(n=2, stream=True), sold), whole(images), ONE)
    assert (made.source, made.cost.route) == (source, cost)


def test_usage_of_a_document_with_an_image_missing_is_its_cost() -> None:
    """A document's usage is that of the whole request, whatever it carries."""
    asked = quote(job(n=4, quality="low", size="1024x1024"))
    made = settle("r", 1, asked, whole(3, usage=USAGE), ONE)
    assert (made.source, made.cost.route, made.images) == (CostSource.USAGE, BY_USAGE, 3)


LOST = PartReading(1, Reading())
MADE = PartReading(1, Reading(usage=USAGE, images=1, complete=True))
UNTOLD = PartReading(2, Reading(usage_problem="missing", images=2, complete=True))


def several(*parts: PartReading, n: int = 4) -> tuple[Quote, Reading]:
    """A job of some images in as many calls, and an answer that was put together from these."""
    asked = replace(quote(job(n=n, quality="low", size="1024x1024")), calls=n)
    return asked, whole(sum(part.reading.images for part in parts), parts=parts)


def test_of_several_calls_each_is_judged_by_itself() -> None:
    """Usage where it was told, the share of the worst case where nothing is known, nothing for what cost nothing."""
    asked, reading = several(MADE, LOST, MADE)
    made = settle("r", 1, asked, reading, Fraction("1.15"))
    assert asked.worst.route % 4 == 0
    assert made.cost.route == 2 * BY_USAGE + asked.worst.route // 4
    assert made.cost.internal == money.times(made.cost.route, Fraction("1.15"))
    assert (made.source, made.images, made.usage) == (CostSource.PRESUMED, 2, USAGE + USAGE)
    assert (made.facts["calls"], made.facts["unknown_images"]) == (4, 1)


def test_several_calls_that_all_told_are_known_to_the_nano_dollar() -> None:
    """Calls that were refused are not among the parts, and cost nothing."""
    asked, reading = several(MADE, MADE, MADE)
    made = settle("r", 1, asked, reading, ONE)
    assert (made.cost.route, made.source, made.usage) == (3 * BY_USAGE, CostSource.USAGE, USAGE + USAGE + USAGE)
    assert "unknown_images" not in made.facts


def test_several_calls_are_no_better_known_than_the_worst_of_them() -> None:
    """One without usage makes an estimate of the sum, and leaves no usage by which to price it again."""
    asked, reading = several(MADE, UNTOLD)
    made = settle("r", 1, asked, reading, ONE)
    assert (made.source, made.usage) == (CostSource.ESTIMATE, None)
    assert made.cost.route == BY_USAGE + asked.worst.route // 2
    assert made.facts["usage_problem"] == "missing"


def test_absurd_usage_of_one_call_is_not_believed() -> None:
    """It is measured by that call's share, and the others' usage stands."""
    absurd = PartReading(1, Reading(usage=Usage(image_out=20 * 196), images=1, complete=True))
    asked, reading = several(MADE, absurd)
    made = settle("r", 1, asked, reading, ONE)
    assert made.cost.route == BY_USAGE + asked.worst.route // 4
    assert (made.source, made.facts["usage_problem"]) == (CostSource.ESTIMATE, "absurd")


def test_calls_that_are_all_unknown_cost_what_was_held() -> None:
    """Shares of the worst case add up to it, even where it does not divide evenly."""
    asked, reading = several(LOST, LOST, LOST, n=3)
    asked = replace(asked, worst=Views(100, 100, 100))
    made = settle("r", 1, asked, replace(reading, complete=False), ONE)
    assert (made.source, made.usage, made.images) == (CostSource.PRESUMED, None, 0)
    assert 100 <= made.cost.route <= 102


def test_a_document_told_as_a_stream_is_judged_as_a_document() -> None:
    """Its usage is that of the whole request, though an image is missing."""
    asked = replace(quote(job(n=2, quality="low", size="1024x1024", stream=True)), as_events=True)
    told = replace(MADE, n=2)
    made = settle("r", 1, asked, whole(1, usage=USAGE, parts=(told,)), ONE)
    assert (made.source, made.cost.route) == (CostSource.USAGE, BY_USAGE)


def test_a_presumed_call_is_booked_at_its_worst_case() -> None:
    """A call of unknown outcome costs all that was held, with the reason in its entry."""
    asked = quote()
    made = presume("r", 3, asked, "timeout")
    assert (made.cost, made.source, made.images, made.attempt) == (asked.worst, CostSource.PRESUMED, 0, 3)
    assert made.facts == {"reason": "timeout"}
    assert presume("r", 3, asked, UpstreamFailure(Outcome.UNKNOWN, "timeout", "late")) == made


@pytest.mark.parametrize("images", [1, 3, 10])
def test_of_several_calls_that_failed_only_those_that_may_be_billed_are_booked(images: int) -> None:
    """Their share of the worst case in every view, rounded up, and the record says of how many images."""
    asked = replace(quote(job(n=10, quality="low", size="1024x1024")), calls=10)
    failure = UpstreamFailure(Outcome.UNKNOWN, "status_4xx", "withheld", pass_on=True)
    failure.images = images
    made = presume("r", 1, asked, failure)
    worst = asked.worst
    assert made.cost == Views(*(-(-most * images // 10) for most in (worst.official, worst.route, worst.internal)))
    assert made.facts == {"reason": "status_4xx", "calls": 10, "unknown_images": images}


def test_the_internal_view_multiplies_the_route_view_rounded_up() -> None:
    """What a project is charged is exact, and never a fraction of a nano-USD too little."""
    multiplier = Fraction("1.15")
    made = settle("r", 1, quote(multiplier=multiplier), whole(usage=Usage(text_in=1, image_out=1)), multiplier)
    assert made.cost.route == 35_000
    assert made.cost.internal == 40_250
    odd = settle("r", 1, quote(), whole(usage=Usage(image_out=1)), Fraction(1, 7))
    assert odd.cost.internal == -(-30_000 // 7)


def test_a_route_with_token_rates_of_its_own_is_cheaper_than_official() -> None:
    """The official view goes by the vendor's rates, the route view by the route's, both by the same usage."""
    own = route("cheap", prices=(Price(date(2026, 5, 1), "test", rates("2.5", "1", "4", "1", "15")),))
    made = settle("r", 1, quote(own=own), whole(usage=USAGE), ONE)
    assert made.cost.official == BY_USAGE
    assert made.cost.route == made.cost.internal == 10 * 2_500 + 196 * 15_000


@pytest.mark.parametrize(("size", "each"), [("1024x1024", 15_000_000), ("2048x2048", 25_500_000)])
def test_a_route_that_sells_by_the_image_costs_by_images_and_size(size: str, each: int) -> None:
    """Images that came times the tier of their size; the official view goes by usage, else by what is usual."""
    asked = quote(job(n=3, quality="low", size=size), route("by-image", prices=(TIERS,)))
    assert asked.worst.route == 3 * each
    made = settle("r", 1, asked, whole(3, usage=USAGE, size=size), ONE)
    assert (made.cost.route, made.cost.official, made.source) == (3 * each, BY_USAGE, CostSource.USAGE)
    made = settle("r", 1, asked, whole(2, size=size), ONE)
    assert made.cost.route == 2 * each
    came = replace(asked.job, n=2)
    usual = usual_case(came, asked.route.model, asked.official_price, sizes=(), qualities=())
    assert made.cost.official == usual < asked.worst.official


def test_a_table_model_is_estimated_by_its_table() -> None:
    """Older models have a price for each size and quality; so has their estimate."""
    asked = quote(job(quality="auto", size="auto"), route("old", GPT_IMAGE_15))
    made = settle("r", 1, asked, whole(size="1024x1024", quality="low"), ONE)
    assert made.cost.route == money.nano_from_pico(
        (5 + 64) * 5_000_000 + 272 * GPT_IMAGE_15.prices[0].tokens.image_out  # type: ignore[union-attr]  # it has rates
    )


def test_no_settlement_of_work_done_costs_nothing() -> None:
    """Over every kind of reading with an image or with an end, the cost is positive in all views."""
    asked = quote()
    for images in (0, 1, 2):
        for complete in (False, True):
            for usage in (None, USAGE):
                cost = settle("r", 1, asked, Reading(usage, images=images, complete=complete), ONE).cost
                assert min(cost.official, cost.route, cost.internal) > 0


def test_the_model_of_these_tests_is_sold_by_tokens() -> None:
    """The figures above rest on the rates of gpt-image-2."""
    tokens = GPT_IMAGE_2.prices[0].tokens
    assert tokens is not None
    assert (tokens.text_in, tokens.image_out) == (5_000_000, 30_000_000)
