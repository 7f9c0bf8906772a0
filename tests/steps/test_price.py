"""What a provider is not told, or what policy or its route leaves of its choice: what is held, and what is sent."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.domain.job import Job, Operation, Size
from gateway.domain.ladder import Rung, rungs
from gateway.domain.policy import DegradeStep, JobType, Order, Project
from gateway.domain.price import MegapixelRates, PixelTier, Price
from gateway.domain.profile import Parameter, Profile, Source
from gateway.domain.route import Quote, Refusal, Route, SizeRule
from gateway.steps.price import offers, price
from tests.builders import GPT_IMAGE_2, GPT_IMAGE_25, PROVIDER, TODAY, job, route

TEAM = Project("team", ("draft",), "draft")
ASKED = job(quality="medium", size="1024x1024")
AS_IT_IS = {"quality": "medium", "size": "1024x1024"}
BY_QUALITY = Price(
    TODAY,
    "test",
    per_image=(
        PixelTier("any", 10, None, quality="low"),
        PixelTier("any", 30, None, quality="medium"),
        PixelTier("any", 90, None, quality="high"),
    ),
)


def at(profile: Profile, **changes: Any) -> Route:
    """A route to a provider with this profile."""
    return route("main", provider=replace(PROVIDER, profile=profile), **changes)


def priced(way: Route, wanted: Job = ASKED, **rules: Any) -> Quote | Refusal:
    """What the route makes of a job."""
    quotes, refusals = price(wanted, JobType("draft", (way,), **rules), TEAM, None, TODAY)
    return quotes[0] if quotes else refusals[0]


def quoted(way: Route, wanted: Job = ASKED, **rules: Any) -> Quote:
    """The quote for a job that the route can do."""
    found = priced(way, wanted, **rules)
    assert isinstance(found, Quote)
    return found


def sending(*parameters: Parameter) -> Profile:
    """A profile that sends the prompt and these."""
    return Profile(parameters=(Parameter("prompt", Source.PROMPT), *parameters))


QUALITY = Parameter("quality", Source.QUALITY)
SIZE = Parameter("size", Source.SIZE)
EDITS = frozenset({Operation.EDIT})


@pytest.mark.parametrize(
    ("profile", "open_to_it"),
    [
        (Profile(), {}),
        (Profile(drop=("quality",)), {"quality": "auto"}),
        (Profile(drop=("size", "user")), {"size": "auto"}),
        (Profile(drop=("style",), rename={"quality": "grade", "size": "dims"}), {}),
        (Profile(rename={"grade": "quality"}), {"quality": "auto"}),
        (Profile(rename={"size": "size"}), {}),
        (sending(), {"quality": "auto", "size": "auto"}),
        (sending(QUALITY, SIZE), {}),
        (sending(Parameter("grade", Source.FIELD, client_field="quality"), SIZE), {}),
        (sending(Parameter("quality", Source.CONSTANT, constant="low"), SIZE), {"quality": "auto"}),
        (sending(replace(QUALITY, operations=EDITS), SIZE), {"quality": "auto"}),
        (sending(replace(QUALITY, models=("other-*",)), SIZE), {"quality": "auto"}),
        (sending(replace(QUALITY, models=("gpt-*",)), SIZE), {}),
        (sending(QUALITY, replace(SIZE, masked=True)), {"size": "auto"}),
        (sending(QUALITY, Parameter("w", Source.WIDTH)), {"size": "auto"}),
        (sending(QUALITY, Parameter("w", Source.WIDTH), Parameter("h", Source.HEIGHT)), {}),
        (sending(QUALITY, Parameter("ratio", Source.RATIO, among=("1:1",))), {"size": "auto"}),
        (
            sending(
                QUALITY,
                Parameter("ratio", Source.RATIO, among=("1:1",)),
                Parameter("tier", Source.RESOLUTION, tiers=(("1K", None),)),
            ),
            {},
        ),
    ],
    ids=[
        "plain",
        "drop-quality",
        "drop-size",
        "rename",
        "rename-onto-quality",
        "rename-to-itself",
        "parameters-without-both",
        "parameters-with-both",
        "field",
        "constant",
        "edits-alone",
        "other-models",
        "these-models",
        "masks-alone",
        "width-alone",
        "width-and-height",
        "ratio-alone",
        "ratio-and-resolution",
    ],
)
def test_what_a_provider_is_not_told_is_held_at_the_dearest(profile: Profile, open_to_it: dict[str, str]) -> None:
    """As if the client had left it open: for the provider chooses."""
    held, plain = quoted(at(profile)), quoted(route("main"), replace(ASKED, **open_to_it))  # type: ignore[arg-type]

    assert held.worst == plain.worst
    assert held.tokens == plain.tokens
    assert {"quality": held.job.quality, "size": held.job.size} == {**AS_IT_IS, **open_to_it}


def test_what_policy_or_the_route_narrows_is_open_again_where_it_is_not_told() -> None:
    """Neither list reaches the provider."""
    can = replace(GPT_IMAGE_2.capabilities, quality=("low",), sizes=SizeRule(fixed=(Size(1024, 1024),)))
    way = at(Profile(drop=("quality", "size")), capabilities=can)
    held = quoted(way, job(), allow={"quality": ("low",), "size": ("1024x1024",)})

    assert held.worst == quoted(route("main"), job()).worst
    assert (held.job.quality, held.job.size) == ("auto", "auto")


def test_a_ratio_is_sent_although_its_pixels_are_not_told() -> None:
    """Only the price counts with every size."""
    held = quoted(at(sending(QUALITY, Parameter("ratio", Source.RATIO, among=("16:9",)))), job(size="16:9"))

    assert held.changes["size"] == "1280x720"


def test_a_ratio_says_the_size_where_one_of_it_is_made() -> None:
    """Of a list with a size for each ratio."""
    rule = SizeRule(fixed=(Size(1024, 1024), Size(1536, 1024)))
    way = at(
        sending(QUALITY, Parameter("ratio", Source.RATIO, among=("1:1", "3:2"))),
        capabilities=replace(GPT_IMAGE_2.capabilities, sizes=rule),
    )

    assert quoted(way).worst == quoted(route("main")).worst


def test_what_has_one_price_stays_as_it_was_asked_for() -> None:
    """A provider that sells by the image, and is told no quality, makes what it makes; the vendor's view is at most."""
    row = Price(TODAY, "test", per_image=(PixelTier("any", 40_000_000, None),))
    held = quoted(at(Profile(drop=("quality",)), prices=(row,)))

    assert (held.job.quality, held.worst.route) == ("medium", 40_000_000)
    assert held.worst.official == quoted(route("main"), replace(ASKED, quality="auto")).worst.official


def test_a_price_by_quality_is_the_dearest_of_it_where_none_is_told() -> None:
    """Not that of the word which the provider never heard."""
    held = quoted(at(Profile(drop=("quality",)), prices=(BY_QUALITY,)), replace(ASKED, quality="low"))

    assert (held.worst.route, held.job.quality) == (90, "auto")


def test_a_step_lowers_nothing_that_is_not_told() -> None:
    """It would change nothing of the picture, so it is not told to the client as done."""
    step = DegradeStep(8000, {"quality": "low", "size": "1024x1024"})
    kinds = {
        name: JobType("draft", (at(profile),), degrade=(step,))
        for name, profile in (("told", Profile()), ("untold", Profile(drop=("quality", "size"))))
    }
    wanted = job(quality="high", size="2048x2048")
    made = {name: price(wanted, kind, TEAM, None, TODAY, rung=rungs(kind)[-1])[0][0] for name, kind in kinds.items()}

    assert made["told"].degraded == {"quality": "low", "size": "1024x1024"}
    assert (made["untold"].degraded, made["untold"].worst) == ({}, quoted(route("main"), job()).worst)


TWO_SIZES = SizeRule(fixed=(Size(1024, 1024), Size(1536, 1024)))
BUCKETS = Price(
    TODAY,
    "test",
    per_image=(PixelTier("1K", 15, 1_100_000), PixelTier("2K", 25, 2_400_000), PixelTier("4K", 39, None)),
)
BY_MEGAPIXEL = Price(TODAY, "test", megapixels=MegapixelRates(first=10, more=10, input=0, megapixel=1_000_000))


def test_auto_of_a_few_sizes_is_held_at_the_dearest_of_them() -> None:
    """Not at a tier that the model never reaches."""
    model = replace(GPT_IMAGE_2, prices=(BUCKETS,), capabilities=replace(GPT_IMAGE_2.capabilities, sizes=TWO_SIZES))
    auto = quoted(route("main", model), job())

    assert auto.worst == quoted(route("main", model), job(size="1536x1024")).worst
    assert (auto.worst.route, "size" in auto.changes) == (25, False)


@pytest.mark.parametrize("row", [*GPT_IMAGE_2.prices, BUCKETS, BY_MEGAPIXEL], ids=["tokens", "buckets", "megapixels"])
def test_auto_on_a_route_with_fewer_sizes_is_the_dearest_of_them_and_sent(row: Price) -> None:
    """By the vendor's price, so that the provider makes none that costs more."""
    way = route("main", prices=(row,), capabilities=replace(GPT_IMAGE_2.capabilities, sizes=TWO_SIZES))
    auto, named = quoted(way, job()), {str(size): quoted(way, job(size=str(size))) for size in TWO_SIZES.fixed}

    assert auto.worst == named[str(auto.changes["size"])].worst
    assert auto.worst.official == max(each.worst.official for each in named.values())


def test_auto_on_a_route_with_fewer_sizes_stays_where_all_cost_the_same() -> None:
    """An edit keeps the shape of its image then."""
    flat = replace(BUCKETS, per_image=(PixelTier("any", 15, None),))
    model = replace(GPT_IMAGE_2, prices=(flat,))
    way = route("main", model, capabilities=replace(GPT_IMAGE_2.capabilities, sizes=TWO_SIZES))

    assert "size" not in quoted(way, job()).changes


@pytest.mark.parametrize(
    ("asked", "allowed", "model", "sent"),
    [
        ({}, {"output_format": ("webp", "jpeg")}, GPT_IMAGE_2, {"output_format": "webp"}),
        ({"output_format": "auto"}, {"output_format": ("webp",)}, GPT_IMAGE_2, {"output_format": "webp"}),
        ({"output_format": "jpeg"}, {"output_format": ("webp", "jpeg")}, GPT_IMAGE_2, {"output_format": "jpeg"}),
        ({}, {"output_format": ("webp", "png")}, GPT_IMAGE_2, {}),
        ({}, {"output_format": ("avif", "webp")}, GPT_IMAGE_2, {"output_format": "webp"}),
        ({}, {"background": ("opaque",)}, GPT_IMAGE_25, {"background": "opaque"}),
        ({}, {"background": ("transparent",)}, GPT_IMAGE_25, {"background": "transparent"}),
        ({}, {"background": ("transparent", "opaque")}, GPT_IMAGE_25, {}),
        ({}, {"background": ("opaque",)}, GPT_IMAGE_2, {}),
        (
            {},
            {"background": ("transparent",), "output_format": ("jpeg", "webp")},
            GPT_IMAGE_25,
            {"background": "transparent", "output_format": "webp"},
        ),
    ],
)
def test_what_is_left_open_is_named_where_policy_allows_less(
    asked: dict[str, str], allowed: dict[str, tuple[str, ...]], model: Any, sent: dict[str, str]
) -> None:
    """The first allowed that the route makes; what the vendor would do anyway is left to it where it is allowed."""
    found = quoted(route("main", model), job(**asked), allow=allowed)

    assert {name: found.changes[name] for name in ("background", "output_format") if name in found.changes} == sent


@pytest.mark.parametrize(
    ("asked", "allowed", "model", "field"),
    [
        ({}, {"output_format": ("avif",)}, GPT_IMAGE_2, "output_format"),
        ({}, {"background": ("transparent",)}, GPT_IMAGE_2, "background"),
        ({"output_format": "jpeg"}, {"background": ("transparent",)}, GPT_IMAGE_25, "output_format"),
    ],
)
def test_a_route_that_makes_nothing_that_is_allowed_is_passed_over(
    asked: dict[str, str], allowed: dict[str, tuple[str, ...]], model: Any, field: str
) -> None:
    """As it would be for a client that asks for it."""
    found = priced(route("main", model), job(**asked), allow=allowed)

    assert isinstance(found, Refusal)
    assert found.field == field


def test_an_open_quality_is_the_dearest_that_policy_allows() -> None:
    """It is named to the provider, and held: what is left to it might be dearer than policy allows."""
    found = quoted(route("main"), job(size="1024x1024"), allow={"quality": ("low", "medium")})

    assert (found.job.quality, found.changes["quality"]) == ("medium", "medium")
    assert found.worst == quoted(route("main"), ASKED).worst


def test_tokens_of_a_reseller_by_the_image_count_as_its_vendor_counts_them() -> None:
    """Its account has a limit of tokens a minute all the same."""
    assert quoted(route("main", prices=(BY_QUALITY,))).tokens == quoted(route("main")).tokens > 0


def test_fewer_images_are_sent_than_were_asked_for_where_a_step_says_so() -> None:
    """A provider that was not told would make, and bill, what is not held."""
    kind, most = JobType("draft", (route("main"),)), Rung(Order.LISTED, (route("main"),), {"n": 2})
    [offer], _ = offers(replace(ASKED, n=4), kind, TEAM, None, TODAY, rung=most)

    assert (offer.quote.job.n, offer.quote.changes["n"]) == (2, 2)
    assert "n" not in quoted(route("main"), replace(ASKED, n=4)).changes


RATIOS = ("16:9", "1:1")


@pytest.mark.parametrize(
    ("size", "resolution", "allowed", "made"),
    [
        ("16:9", None, RATIOS, "1280x720"),
        ("16:9", "1K", RATIOS, "1360x768"),
        ("5:4", "1K", ("5:4",), "1152x912"),
        ("32:18", None, RATIOS, "1280x720"),
        ("16:9", "4K", ("16:9", "3840x2160"), "3840x2160"),
        ("16:9", "2K", ("16:9", "3840x2160"), "3840x2160"),
    ],
)
def test_an_allowed_ratio_is_made(size: str, resolution: str | None, allowed: tuple[str, ...], made: str) -> None:
    """At the usual pixels, or in a size that is listed itself; 32:18 is 16:9."""
    assert quoted(route("main"), job(size=size, resolution=resolution), allow={"size": allowed}).job.size == made


@pytest.mark.parametrize("resolution", ["2K", "4K"])
@pytest.mark.parametrize("size", ["16:9", "32:18"])
def test_a_resolution_does_not_lead_round_the_sizes_that_are_allowed(size: str, resolution: str) -> None:
    """A ratio in the list is at about the pixels of a square of 1024."""
    found = priced(route("main"), job(size=size, resolution=resolution), allow={"size": RATIOS})

    assert isinstance(found, Refusal)
    assert (found.field, found.reason) == (
        "resolution",
        f"policy allows {size} at about the pixels of 1024x1024, not at {resolution}",
    )
