"""Shares: what each of several calls may cost at most, out of what is held for all of them."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.money import parse_usd
from gateway.domain.policy import Project
from gateway.domain.price import AddOns, Charged, Metered, PixelTier, Price
from gateway.domain.route import Quote, Views
from gateway.domain.settlement import CostSource, Outcome, PartReading, Reading
from gateway.ports.provider import UpstreamFailure
from gateway.steps.price import price
from gateway.steps.settle import charge, presume, settle
from tests.builders import GPT_IMAGE_2, TODAY, job, policy, route

MULTIPLIERS = [Fraction(1), Fraction(2, 5), Fraction(115, 100), Fraction(1, 3)]
FEE = Price(
    TODAY, "test", per_image=(PixelTier("any", parse_usd("0.001"), None),), add_ons=AddOns(request=parse_usd("0.05"))
)


def quote(row: Price, n: int, per_call: int, multiplier: Fraction = Fraction(1)) -> Quote:
    """A quote for n images on a route that makes so many a call, as the price step makes it."""
    way = route("own", prices=(row,), capabilities=replace(GPT_IMAGE_2.capabilities, n=per_call))
    rules = policy(way, project=Project("team", ("draft",), "draft", multiplier=multiplier))
    asked = job(n=n, quality="low", size="1024x1024")
    quotes, _ = price(asked, rules.job_types["draft"], rules.projects["team"], None, TODAY)
    return quotes[0]


def sizes(asked: Quote) -> list[int]:
    """How many images each of its calls makes, as `fanout.calls_of` divides them."""
    less, more = divmod(asked.job.n, asked.calls)
    return [less + (place < more) for place in range(asked.calls)]


def known(n: int) -> PartReading:
    """A call that made all its images."""
    return PartReading(n, Reading(images=n, complete=True))


def lost(n: int) -> PartReading:
    """A call of which nothing came back."""
    return PartReading(n, Reading())


def gone() -> UpstreamFailure:
    """A call of which nobody knows whether it was billed."""
    return UpstreamFailure(Outcome.UNKNOWN, "lost", "gone")


def refused() -> UpstreamFailure:
    """A call that was refused, and may be charged for."""
    return UpstreamFailure(Outcome.REJECTED, "status_4xx", "refused", charged_for=Charged.MODERATED)


def within(cost: Views, most: Views) -> bool:
    """Whether it is no more in any view."""
    return cost.route <= most.route and cost.official <= most.official and cost.internal <= most.internal


@given(
    each=st.integers(0, 2_000),
    fee=st.integers(0, 2_000),
    n=st.integers(1, 10),
    per_call=st.integers(1, 4),
    own=st.sampled_from(MULTIPLIERS),
    project=st.sampled_from(MULTIPLIERS),
)
def test_whichever_calls_are_lost_no_more_is_booked_than_was_held(
    *, each: int, fee: int, n: int, per_call: int, own: Fraction, project: Fraction
) -> None:
    """Nor less for any of them than it would have cost; fees and prices need not come to whole nano-USD."""
    row = Price(TODAY, "test", per_image=(PixelTier("any", each, None),), add_ons=AddOns(request=fee), multiplier=own)
    asked = quote(row, n, per_call, project)
    parts = sizes(asked)
    done = settle("r", 1, asked, Reading(parts=tuple(map(known, parts))), project).cost.route
    for fates in product([known, lost], repeat=min(len(parts), 6)):
        every = [fate(part) for fate, part in zip((*fates, *[lost] * len(parts)), parts, strict=False)]
        made = settle("r", 1, asked, Reading(parts=tuple(every)), project).cost
        assert within(made, asked.worst)
        assert made.route >= done


@given(
    each=st.integers(0, 2_000),
    fee=st.integers(0, 2_000),
    n=st.integers(1, 10),
    per_call=st.integers(1, 4),
    own=st.sampled_from(MULTIPLIERS),
    project=st.sampled_from(MULTIPLIERS),
)
def test_where_no_call_brought_anything_no_more_is_booked_than_was_held(
    *, each: int, fee: int, n: int, per_call: int, own: Fraction, project: Fraction
) -> None:
    """Each is lost, or refused at a charge: in every view."""
    row = Price(
        TODAY,
        "test",
        per_image=(PixelTier("any", each, None),),
        add_ons=AddOns(request=fee),
        multiplier=own,
        charged_for=frozenset({Charged.SUCCEEDED, Charged.MODERATED}),
    )
    asked = quote(row, n, per_call, project)
    parts = sizes(asked)
    for fates in product([True, False], repeat=min(len(parts), 6)):
        is_lost = [*fates, *[True] * len(parts)][: len(parts)]
        failures = [gone() if lost else refused() for lost in is_lost]
        worst, *worst.others = sorted(failures, key=lambda failure: failure.outcome is not Outcome.UNKNOWN)
        worst.images = sum(part for part, lost in zip(parts, is_lost, strict=True) if lost)
        made = (presume if worst.outcome is Outcome.UNKNOWN else charge)("r", 1, asked, worst, project)
        assert within(made.cost if made else Views(0, 0, 0), asked.worst)


def test_a_fee_of_a_call_that_was_refused_at_a_charge_is_booked_once() -> None:
    """Of three images as two and one the call of two is lost, and the other one refused."""
    asked = quote(replace(FEE, charged_for=frozenset({Charged.SUCCEEDED, Charged.MODERATED})), 3, 2)
    failed = gone()
    failed.images, failed.others = 2, [refused()]

    assert presume("r", 1, asked, failed, Fraction(1)).cost.route == asked.worst.route == parse_usd("0.103")


@pytest.mark.parametrize(("images", "most"), [(3, "0.053"), (2, "0.052"), (5, "0.105")])
def test_a_fee_for_each_call_is_presumed_for_each_call_that_was_lost(images: int, most: str) -> None:
    """Five images as three and two: the fee goes by calls, the rest by images, whichever way the loss is told."""
    asked = quote(FEE, 5, 3)
    failed = gone()
    failed.images, failed.others = images, [gone()] if images == asked.job.n else []

    assert asked.worst.route == parse_usd("0.105")
    assert presume("r", 1, asked, failed, Fraction(1)).cost.route == parse_usd(most)
    parts = [lost(part) for part in ([images] if images < asked.job.n else [3, 2])]
    assert settle("r", 1, asked, Reading(parts=tuple(parts)), Fraction(1)).cost.route == parse_usd(most)


def test_refusals_whose_bills_nobody_told_are_presumed_within_the_hold() -> None:
    """Of four images as two, one and one, each refused at a charge that was not told."""
    row = Price(
        TODAY,
        "test",
        units=Metered(1_000, Fraction(1), Fraction(4)),
        charged_for=frozenset({Charged.SUCCEEDED, Charged.MODERATED}),
    )
    asked = replace(quote(row, 4, 1), calls=3)
    first = refused()
    first.others = [refused(), refused()]

    made = charge("r", 1, asked, first, Fraction(1))

    assert made is not None
    assert (made.cost, made.source) == (asked.worst, CostSource.PRESUMED)


def test_more_calls_than_were_held_for_are_presumed_within_the_hold() -> None:
    """Policy allowed the route fewer images a call meanwhile: three images by two calls were held, and three made."""
    asked = quote(replace(FEE, charged_for=frozenset({Charged.SUCCEEDED, Charged.MODERATED})), 3, 2)
    failed = gone()
    failed.images, failed.others = 2, [gone(), refused()]

    assert presume("r", 1, asked, failed, Fraction(1)).cost.route == asked.worst.route
