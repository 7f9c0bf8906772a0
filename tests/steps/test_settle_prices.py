"""Settle by price rows of every shape: reported before counted before estimated, and refusals that are charged."""

from __future__ import annotations

from dataclasses import asdict, replace
from fractions import Fraction

import pytest

from gateway.domain.job import Job
from gateway.domain.money import parse_usd
from gateway.domain.price import Bills, Charged, MegapixelRates, Metered, PixelTier, Price
from gateway.domain.route import Quote, Views
from gateway.domain.settlement import CostSource, Outcome, PartReading, Reading, Usage
from gateway.ports.provider import UpstreamFailure
from gateway.steps.settle import charge, presume, settle
from tests.builders import GPT_IMAGE_2, TODAY, job, route
from tests.steps.test_settle import ONE, quote, whole

EACH = parse_usd("0.04")
BY_IMAGE = Price(TODAY, "test", per_image=(PixelTier("any", EACH, None),))
BY_SECOND = Price(TODAY, "test", seconds=Metered(parse_usd("0.000975"), Fraction(12), Fraction(60)))
BY_UNIT = Price(TODAY, "test", units=Metered(EACH, Fraction(1), Fraction(4)))
BY_MEGAPIXEL = Price(
    TODAY, "test", megapixels=MegapixelRates(parse_usd("0.015"), parse_usd("0.03"), parse_usd("0.015"), 4)
)
BY_REQUEST = Price(TODAY, "test", per_request=parse_usd("0.01"))
REFUSED = BY_IMAGE.charged_for | {Charged.MODERATED}
LOW = job(quality="low", size="1024x1024")


def on(price: Price, wanted: Job = LOW) -> Quote:
    """A quote on a route with this price of its own."""
    return quote(wanted, route("own", prices=(price,)))


def refusal(word: str | None = Charged.MODERATED, reading: Reading | None = None) -> UpstreamFailure:
    """A refusal that the provider may charge for."""
    return UpstreamFailure(
        Outcome.REJECTED, "status_4xx", "refused", status=400, pass_on=True, charged_for=word, reading=reading
    )


@pytest.mark.parametrize("price", [BY_IMAGE, BY_SECOND, BY_UNIT, BY_REQUEST, None], ids=str)
def test_what_the_provider_reports_is_what_it_costs(price: Price | None) -> None:
    """Whatever the row says, for the route and the project; the official view goes by the vendor's own price."""
    asked = on(price) if price else quote()
    made = settle("r", 1, asked, whole(reported=31_234_567, usage=Usage(text_in=10, image_out=196)), Fraction("1.15"))

    assert made.source is CostSource.REPORTED
    assert made.cost == Views(10 * 5_000 + 196 * 30_000, 31_234_567, -(-31_234_567 * 115 // 100))


@pytest.mark.parametrize(
    ("price", "said"),
    [(None, {"reported": 5_000_000}), (BY_IMAGE, {}), (BY_IMAGE, {"reported": 5_000_000})],
    ids=["reported", "by image", "by image, reported"],
)
def test_without_usage_the_vendor_s_price_is_what_such_work_usually_costs(
    price: Price | None, said: dict[str, int]
) -> None:
    """Where the route's own cost is known: 2000 letters are 500 tokens then, not 2064, or savings would be invented."""
    wanted = replace(LOW, prompt_bytes=2000)
    asked = on(price, wanted) if price else quote(wanted)
    made = settle("r", 1, asked, whole(**said), ONE)

    assert made.cost.official == 500 * 5_000 + 196 * 30_000
    assert made.cost.official < asked.worst.official


@pytest.mark.parametrize("reported", [0, -1, 10 * EACH + 1])
def test_a_report_that_nobody_would_bill_is_not_believed(reported: int) -> None:
    """Nothing for an image, or far more than the worst case: the row's price is booked, and the record says so."""
    made = settle("r", 1, on(BY_IMAGE), whole(reported=reported), ONE)

    assert (made.cost.route, made.source) == (EACH, CostSource.USAGE)
    assert made.facts["usage_problem"] == "absurd"


def test_a_report_of_nothing_for_nothing_is_believed() -> None:
    """An answer without an image that says that it was free costs nothing, and is not presumed."""
    made = settle("r", 1, on(BY_IMAGE), whole(0, reported=0), ONE)

    assert (made.cost.route, made.cost.internal, made.source) == (0, 0, CostSource.REPORTED)


def test_seconds_and_units_are_counted_exactly() -> None:
    """What was counted times its price, rounded up once, and the record keeps the count as it was."""
    timed = settle("r", 1, on(BY_SECOND), whole(seconds=Fraction("2.9")), ONE)
    counted = settle("r", 1, on(BY_UNIT), whole(units=Fraction("1.5")), ONE)

    assert (timed.cost.route, timed.source) == (parse_usd("0.0028275"), CostSource.USAGE)
    assert timed.facts["billed_seconds"] == "29/10"
    assert (counted.cost.route, counted.facts["billed_units"]) == (parse_usd("0.06"), "3/2")


@pytest.mark.parametrize(
    ("price", "usual"), [(BY_SECOND, "0.0117"), (BY_UNIT, "0.04"), (BY_MEGAPIXEL, "0.045")], ids=["s", "u", "mp"]
)
def test_without_a_count_it_costs_what_it_usually_does(price: Price, usual: str) -> None:
    """An estimate that is below the hold, and said to be one."""
    asked = on(price, replace(LOW, references=1) if price is BY_MEGAPIXEL else LOW)
    made = settle("r", 1, asked, whole(), ONE)

    expected = parse_usd(usual) + (parse_usd("0.015") if price is BY_MEGAPIXEL else 0)
    assert (made.cost.route, made.source) == (expected, CostSource.ESTIMATE)
    assert made.cost.route < asked.worst.route


@pytest.mark.parametrize(("price", "most"), [(BY_SECOND, 600), (BY_UNIT, 40)], ids=["seconds", "units"])
@pytest.mark.parametrize("beyond", [0, -1, None], ids=["none", "negative", "too many"])
def test_a_count_that_nobody_would_bill_is_not_believed(price: Price, most: int, beyond: int | None) -> None:
    """Nothing at all for an image, less than nothing, or more than ten times the most: the estimate is booked."""
    count = Fraction(most + 1 if beyond is None else beyond)
    said = {"seconds" if price is BY_SECOND else "units": count}
    made = settle("r", 1, on(price), whole(1, **said), ONE)

    assert (made.source, made.facts["usage_problem"]) == (CostSource.ESTIMATE, "absurd")
    assert made.cost == settle("r", 1, on(price), whole(), ONE).cost
    assert not {"billed_seconds", "billed_units"} & made.facts.keys()


@pytest.mark.parametrize("price", [BY_SECOND, BY_UNIT], ids=["seconds", "units"])
@pytest.mark.parametrize("count", [Fraction(-1), Fraction(-1, 10**12)], ids=["-1", "hardly"])
def test_a_negative_count_of_work_without_an_image_is_not_believed(price: Price, count: Fraction) -> None:
    """Nothing may have been made, and yet no budget gets money back for it: nobody knows what it cost."""
    asked = on(price)
    made = settle("r", 1, asked, whole(0, **{"seconds" if price is BY_SECOND else "units": count}), ONE)

    assert (made.cost, made.source, made.facts["usage_problem"]) == (asked.worst, CostSource.PRESUMED, "absurd")


@pytest.mark.parametrize("price", [BY_IMAGE, BY_MEGAPIXEL], ids=["by the image", "by the megapixel"])
@pytest.mark.parametrize("said", [{"size": "99999x99999"}, {"images": 5_000}], ids=str)
def test_work_that_nobody_would_bill_is_not_believed(price: Price, said: dict[str, object]) -> None:
    """An answer that claims a picture or a number of them far beyond what was asked for costs what was asked for."""
    asked = on(price)
    made = settle("r", 1, asked, replace(whole(), **said), ONE)  # type: ignore[arg-type]  # fields of Reading

    assert made.cost.official <= asked.worst.official
    assert made.cost.route <= asked.worst.route
    if price is BY_MEGAPIXEL or "images" in said:
        assert made.facts["usage_problem"] == "absurd"


@pytest.mark.parametrize("said", [{"size": "99999x99999"}, {"size": "99999x99999", "reported": EACH}], ids=str)
def test_no_absurd_amount_is_what_the_vendor_would_have_charged(said: dict[str, object]) -> None:
    """On a cheap route by the image, of a model that its vendor sells by the megapixel: no such savings are shown."""
    model = replace(GPT_IMAGE_2, prices=(BY_MEGAPIXEL,))
    asked = quote(LOW, route("own", model=model, prices=(BY_IMAGE,)))
    made = settle("r", 1, asked, replace(whole(), **said), ONE)  # type: ignore[arg-type]  # fields of Reading

    assert (made.cost.route, made.facts["usage_problem"]) == (EACH, "absurd")
    assert made.cost.official <= asked.worst.official


@pytest.mark.parametrize(("word", "cost"), [("draft", "0.01"), ("fine", "0.05"), ("superb", "0.01")])
def test_an_answer_may_name_a_quality_in_the_providers_words(word: str, cost: str) -> None:
    """A route's word for a quality is understood, and one that nobody knows does not make the image the dearest."""
    tiers = (("low", "0.01"), ("medium", "0.05"), ("high", "0.20"))
    rows = tuple(PixelTier(name, parse_usd(each), None, quality=name) for name, each in tiers)
    own = route("own", prices=(Price(TODAY, "test", per_image=rows),))
    asked = quote(LOW, replace(own, quality_names={"low": "draft", "medium": "fine"}))
    made = settle("r", 1, asked, whole(quality=word), ONE)

    assert made.cost.route == parse_usd(cost)


def test_images_that_were_asked_for_may_be_billed() -> None:
    """One of four came: the row says which of them cost money."""
    asked = on(replace(BY_IMAGE, bills=Bills.REQUESTED), replace(LOW, n=4))

    assert settle("r", 1, asked, whole(1), ONE).cost.route == 4 * EACH
    assert settle("r", 1, on(BY_IMAGE, replace(LOW, n=4)), whole(1), ONE).cost.route == EACH


def test_several_calls_are_each_paid_as_they_were_reported() -> None:
    """Reports and counts of calls add up, and one that was refused at a charge and did not tell it is presumed."""
    price = replace(BY_UNIT, charged_for=REFUSED)
    asked = replace(on(price, replace(LOW, n=3)), calls=3)
    parts = (
        PartReading(1, whole(reported=11_000_000)),
        PartReading(1, whole(units=Fraction(2))),
        PartReading(1, Reading(), Charged.MODERATED),
    )
    made = settle("r", 1, asked, whole(2, parts=parts), Fraction(2))

    assert made.cost.route == 11_000_000 + 2 * EACH + asked.worst.route // 3
    assert made.cost.internal == 2 * made.cost.route
    assert (made.source, made.images) == (CostSource.PRESUMED, 2)
    assert (made.facts["unknown_images"], made.facts["calls"], made.facts.get("charged_for")) == (1, 3, None)


def test_a_refused_call_that_is_not_charged_costs_nothing() -> None:
    """Among calls that succeeded it is a call that cost nothing, and takes nothing from what is known of the rest."""
    asked = replace(quote(replace(LOW, n=2)), calls=2)
    usage = Usage(text_in=10, image_out=196)
    parts = (PartReading(1, whole(usage=usage)), PartReading(1, Reading(), Charged.MODERATED))
    made = settle("r", 1, asked, whole(parts=parts), ONE)

    assert (made.cost.route, made.source, made.usage) == (5_930_000, CostSource.USAGE, usage)
    assert "charged_for" not in made.facts


@pytest.mark.parametrize(
    ("word", "route_cost", "official"),
    [(Charged.MODERATED, EACH, 0), (Charged.INVALID, None, 0), (Charged.FAILED, None, 0), (None, None, 0)],
)
def test_a_refusal_is_charged_where_the_row_says_so(word: str | None, route_cost: int | None, official: int) -> None:
    """One image, though four were asked for; what the row does not name costs nothing."""
    made = charge("r", 1, on(replace(BY_IMAGE, charged_for=REFUSED), replace(LOW, n=4)), refusal(word), ONE)

    assert (made and made.cost.route) == route_cost
    if made:
        assert (made.cost.official, made.source, made.images) == (official, CostSource.ESTIMATE, 0)
        assert made.facts == {"reason": "status_4xx", "charged_for": "moderated", "charged_calls": 1}


def test_a_refusal_costs_what_the_provider_said_of_it() -> None:
    """Its own report, or its count, is better than the price of an image."""
    asked = on(replace(BY_UNIT, charged_for=REFUSED))
    reported = charge("r", 1, asked, refusal(reading=Reading(reported=5_000_000)), Fraction(3))
    counted = charge("r", 1, asked, refusal(reading=Reading(units=Fraction(1, 2))), ONE)

    assert reported is not None
    assert (reported.cost.route, reported.cost.internal, reported.source) == (
        5_000_000,
        15_000_000,
        CostSource.REPORTED,
    )
    assert counted is not None
    assert (counted.cost.route, counted.source) == (EACH // 2, CostSource.USAGE)
    assert charge("r", 1, asked, refusal(reading=Reading(units=Fraction(0))), ONE) is None


BILLED = [
    (BY_IMAGE, Reading(reported=5_000_000), 5_000_000),
    (BY_UNIT, Reading(units=Fraction(1, 2)), EACH // 2),
    (replace(BY_IMAGE, reported_unit=EACH), Reading(units=Fraction(2)), 2 * EACH),
    (BY_SECOND, Reading(seconds=Fraction("2.9")), parse_usd("0.0028275")),
]


@pytest.mark.parametrize(("price", "said", "cost"), BILLED, ids=["reported", "units", "units of a table", "seconds"])
def test_a_failure_costs_what_it_is_billed_whatever_the_row_says(price: Price, said: Reading, cost: int) -> None:
    """A row that charges for no failures does not unsay the provider's bill; the vendor's own view stays nothing."""
    made = charge("r", 1, on(price, replace(LOW, n=4)), refusal(Charged.FAILED, said), ONE)

    assert made is not None
    assert (made.cost.route, made.cost.official, made.source) == (cost, 0, CostSource.REPORTED)
    assert made.facts == {"reason": "status_4xx", "charged_for": "failed", "charged_calls": 1}


@pytest.mark.parametrize("word", [Charged.MODERATED, Charged.FAILED])
@pytest.mark.parametrize(
    ("price", "said"),
    [
        (BY_IMAGE, Reading(reported=0)),
        (BY_IMAGE, Reading(units=Fraction(0))),
        (BY_UNIT, Reading(units=Fraction(0))),
        (BY_SECOND, Reading(seconds=Fraction(0))),
    ],
    ids=["reported", "units of an image", "units", "seconds"],
)
def test_a_bill_of_nothing_for_a_failure_is_believed(price: Price, said: Reading, word: str) -> None:
    """A refusal that is said to be free is free, though the row charges for such: a run may never have begun."""
    assert charge("r", 1, on(replace(price, charged_for=REFUSED)), refusal(word, said), ONE) is None


@pytest.mark.parametrize("row", [REFUSED, BY_IMAGE.charged_for], ids=["charges", "does not"])
@pytest.mark.parametrize(
    ("price", "said"),
    [(BY_IMAGE, Reading(reported=100 * EACH)), (BY_UNIT, Reading(units=Fraction(999))), (BY_IMAGE, Reading(units=ONE))],
    ids=["reported", "units", "units without a price"],
)
def test_a_bill_that_cannot_be_read_is_presumed(price: Price, said: Reading, row: frozenset[Charged]) -> None:
    """An absurd one, and one in units that the row has no price for: the worst case, unconfirmed."""
    asked = on(replace(price, charged_for=row))
    made = charge("r", 1, asked, refusal(reading=said), ONE)

    assert made is not None
    assert (made.cost, made.source) == (asked.worst, CostSource.PRESUMED)


@pytest.mark.parametrize("price", [BY_UNIT, BY_SECOND, replace(BY_IMAGE, reported_unit=EACH)], ids=["u", "s", "table"])
def test_a_refusal_that_is_charged_and_not_told_is_presumed(price: Price) -> None:
    """Where the provider tells units or seconds and told none, nobody knows what the refusal was billed."""
    asked = on(replace(price, charged_for=REFUSED), replace(LOW, n=4))
    made = charge("r", 1, asked, refusal(), ONE)

    assert made is not None
    assert (made.cost, made.source, made.facts) == (asked.worst, CostSource.PRESUMED, {"reason": "status_4xx"})


@pytest.mark.parametrize(
    "price", [BY_IMAGE, BY_SECOND, BY_UNIT, replace(BY_IMAGE, reported_unit=EACH)], ids=["image", "s", "u", "table"]
)
def test_what_was_announced_is_no_bill_of_work_that_failed(price: Price) -> None:
    """A cost that was told when the work began counts where the row charges for the failure, and is not sure then."""
    said = Reading(reported=5_000_000, announced=True)
    charged = charge("r", 1, on(replace(price, charged_for=REFUSED)), refusal(reading=said), ONE)

    assert charge("r", 1, on(price), refusal(reading=said), ONE) is None
    assert charged is not None
    assert (charged.cost.route, charged.source) == (5_000_000, CostSource.ESTIMATE)


@pytest.mark.parametrize("row", [REFUSED, BY_IMAGE.charged_for], ids=["charges", "does not"])
@pytest.mark.parametrize(
    ("price", "said", "cost"),
    [
        (BY_SECOND, {"seconds": Fraction("2.9")}, parse_usd("0.0028275")),
        (BY_SECOND, {"seconds": Fraction(0)}, None),
        (BY_UNIT, {"units": Fraction(1, 2)}, EACH // 2),
        (BY_UNIT, {"units": Fraction(0)}, None),
        (BY_IMAGE, {"units": Fraction(0)}, None),
    ],
    ids=["seconds", "no seconds", "units", "no units", "no units of an image"],
)
def test_a_bill_of_work_that_failed_goes_before_what_was_announced(
    price: Price, said: dict[str, Fraction], cost: int | None, row: frozenset[Charged]
) -> None:
    """What the failure itself says that it took is what it costs: nothing, if it never began."""
    reading = replace(Reading(reported=5_000_000, announced=True), **said)  # type: ignore[arg-type]  # fields of Reading
    made = charge("r", 1, on(replace(price, charged_for=row)), refusal(reading=reading), ONE)

    assert (made and made.cost.route) == cost


@pytest.mark.parametrize("row", [REFUSED, BY_IMAGE.charged_for], ids=["charges", "does not"])
def test_a_bill_that_cannot_be_read_is_not_what_was_announced(row: frozenset[Charged]) -> None:
    """Units that the row has no price for: the worst case, unconfirmed."""
    asked = on(replace(BY_IMAGE, charged_for=row), replace(LOW, n=4))
    made = charge("r", 1, asked, refusal(reading=Reading(reported=5_000_000, announced=True, units=ONE)), ONE)

    assert made is not None
    assert (made.cost, made.source) == (asked.worst, CostSource.PRESUMED)


def test_an_announced_cost_that_nobody_would_bill_is_not_believed() -> None:
    """The price of an image is what such a refusal costs then."""
    said = Reading(reported=100 * EACH, announced=True)
    made = charge("r", 1, on(replace(BY_IMAGE, charged_for=REFUSED)), refusal(reading=said), ONE)

    assert made is not None
    assert (made.cost.route, made.source) == (EACH, CostSource.ESTIMATE)


def test_a_refusal_whose_tokens_were_counted_costs_those() -> None:
    """Where a row by tokens charges for it; without a count nobody knows."""
    asked = on(replace(GPT_IMAGE_2.prices[0], charged_for=REFUSED))
    counted = charge("r", 1, asked, refusal(reading=Reading(usage=Usage(text_in=10))), ONE)
    unsaved = charge("r", 1, asked, refusal(), ONE)

    assert counted is not None
    assert (counted.cost.route, counted.source) == (10 * 5_000, CostSource.USAGE)
    assert counted.usage == Usage(text_in=10)
    assert unsaved is not None
    assert (unsaved.cost, unsaved.source) == (asked.worst, CostSource.PRESUMED)


def test_refusals_beside_calls_of_unknown_outcome_are_each_judged() -> None:
    """Of three calls one is lost, one was refused and did not tell its bill, one told it: two shares and the bill."""
    price = replace(BY_UNIT, charged_for=REFUSED)
    asked = replace(on(price, replace(LOW, n=3)), calls=3)
    lost = UpstreamFailure(Outcome.UNKNOWN, "lost", "gone")
    lost.images, lost.others = 1, [refusal(), refusal(reading=Reading(units=Fraction(1, 2)))]

    made = presume("r", 1, asked, lost, ONE)

    assert made.cost.route == 2 * asked.worst.route // 3 + EACH // 2
    assert (made.facts["unknown_images"], made.facts["charged_calls"]) == (2, 1)


def test_of_several_refusals_each_is_charged() -> None:
    """All that the failure stands for; and beside calls of unknown outcome those are presumed."""
    asked = replace(on(replace(BY_IMAGE, charged_for=REFUSED), replace(LOW, n=4)), calls=4)
    worst = refusal()
    worst.others = [refusal(), refusal(Charged.INVALID)]
    unclear = UpstreamFailure(Outcome.UNKNOWN, "timeout", "late")
    unclear.others, unclear.images = [refusal(), refusal()], 2

    made = charge("r", 1, asked, worst, ONE)
    assert made is not None
    assert (made.cost.route, made.facts["charged_calls"]) == (2 * EACH, 2)
    presumed = presume("r", 1, asked, unclear, ONE)
    assert (presumed.cost.route, presumed.source) == (4 * EACH, CostSource.PRESUMED)
    assert (presumed.facts["unknown_images"], presumed.facts["charged_calls"]) == (2, 2)


def test_own_machines_cost_nothing() -> None:
    """A free row is settled at nothing and known to be so, whatever it reports; the vendor's price is shown."""
    asked = on(Price(TODAY, "own", free=True), replace(LOW, n=2))
    made = settle("r", 1, asked, whole(2, reported=10_000), Fraction("1.15"))

    assert asked.worst == Views(quote(replace(LOW, n=2)).worst.official, 0, 0)
    assert (made.cost.route, made.cost.internal, made.source) == (0, 0, CostSource.USAGE)
    assert made.cost.official > 0
    assert GPT_IMAGE_2.prices[0].tokens


def test_tokens_of_refusals_are_told_with_those_of_answers_and_by_themselves() -> None:
    """Of three calls one was answered and two refused; where a refusal counted none, only the answer's are told."""
    asked = replace(on(replace(GPT_IMAGE_2.prices[0], charged_for=REFUSED), replace(LOW, n=3)), calls=3)
    answered = PartReading(1, Reading(usage=Usage(text_in=4, image_out=100), images=1, complete=True))
    refused = [PartReading(1, Reading(usage=Usage(text_in=count)), Charged.MODERATED) for count in (10, 7)]
    made = settle("r", 1, asked, Reading(images=1, complete=True, parts=(answered, *refused)), ONE)
    assert (made.cost.route, made.source) == (21 * 5_000 + 100 * 30_000, CostSource.USAGE)
    assert made.usage == Usage(text_in=21, image_out=100)
    assert made.facts["charged_tokens"] == asdict(Usage(text_in=17))

    by_image = replace(asked, route_price=replace(BY_IMAGE, charged_for=REFUSED))
    silent = PartReading(1, Reading(), Charged.MODERATED)
    partly = settle("r", 1, by_image, Reading(images=1, complete=True, parts=(answered, refused[0], silent)), ONE)
    assert (partly.usage, partly.facts["charged_calls"]) == (Usage(text_in=4, image_out=100), 2)
    assert "charged_tokens" not in partly.facts
