"""Small policies built in code, for tests of plain rules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date
from fractions import Fraction

from gateway.domain import money
from gateway.domain.job import Job, Operation, Size
from gateway.domain.policy import JobType, Policy, Project
from gateway.domain.price import Price, TokenRates
from gateway.domain.route import (
    Capabilities,
    Model,
    OutputTokens,
    ProviderConfig,
    Route,
    SizeRule,
)
from gateway.domain.spend import Row, Spent, Tally

TODAY = date(2026, 11, 20)
FREE_SIZES = SizeRule(multiple=16, max_edge=3840, min_pixels=655_360, max_pixels=8_294_400, max_ratio=Fraction(3))
LEGACY_SIZES = SizeRule(fixed=(Size(1024, 1024), Size(1024, 1536), Size(1536, 1024)))


def rates(text_in: str, cached: str, image_in: str, image_cached: str, image_out: str) -> TokenRates:
    """Token rates from USD per million."""
    parse = money.parse_rate_per_million
    return TokenRates(parse(text_in), parse(cached), parse(image_in), parse(image_cached), parse(image_out))


def capabilities(sizes: SizeRule, quality: tuple[str, ...]) -> Capabilities:
    """What a GPT image model can do."""
    return Capabilities(
        operations=frozenset({Operation.GENERATE, Operation.EDIT}),
        n=10,
        references=16,
        mask=True,
        transparent=False,
        stream=True,
        quality=quality,
        output_formats=("png", "jpeg", "webp"),
        sizes=sizes,
    )


GPT_IMAGE_2 = Model(
    name="gpt-image-2",
    capabilities=capabilities(FREE_SIZES, ("low", "medium", "high")),
    prices=(Price(date(2026, 4, 21), "test", rates("5", "1.25", "8", "2", "30")),),
    output_tokens=OutputTokens(grid={"low": 16, "medium": 48, "high": 96}, per_partial_image=100),
    input_image_tokens=1536,
    snapshot="gpt-image-2-2026-04-21",
)
GPT_IMAGE_25 = Model(
    name="gpt-image-2.5-flare",
    capabilities=replace(capabilities(FREE_SIZES, ("low", "medium", "high", "xhigh", "max")), transparent=True),
    prices=GPT_IMAGE_2.prices,
    output_tokens=OutputTokens(
        grid={"low": 16, "medium": 24, "high": 48, "xhigh": 64, "max": 96}, per_partial_image=100
    ),
    input_image_tokens=1536,
)
GPT_IMAGE_15 = Model(
    name="gpt-image-1.5",
    capabilities=capabilities(LEGACY_SIZES, ("low", "medium", "high")),
    prices=(Price(date(2025, 12, 16), "test", rates("5", "1.25", "8", "2", "32")),),
    output_tokens=OutputTokens(
        table={
            Size(1024, 1024): {"low": 272, "medium": 1056, "high": 4160},
            Size(1024, 1536): {"low": 408, "medium": 1584, "high": 6240},
            Size(1536, 1024): {"low": 400, "medium": 1568, "high": 6208},
        },
        per_partial_image=100,
    ),
    input_image_tokens=7337,
    retires=date(2026, 12, 1),
    replacement="gpt-image-2.5-flare",
)
PROVIDER = ProviderConfig("acme", "openai", "http://127.0.0.1:1/v1", None)


def route(name: str, model: Model = GPT_IMAGE_2, **changes: object) -> Route:
    """A route to a model, all its capabilities, no limits."""
    plain = Route(name, PROVIDER, model, model.snapshot or model.name, model.capabilities)
    return replace(plain, **changes)  # type: ignore[arg-type]  # fields are checked by the dataclass


def job(**changes: object) -> Job:
    """A generation of one image with a prompt of five bytes."""
    plain = Job(Operation.GENERATE, None, prompt_chars=5, prompt_bytes=5)
    return replace(plain, **changes)  # type: ignore[arg-type]  # fields are checked by the dataclass


def policy(*routes: Route, job_type: JobType | None = None, project: Project | None = None) -> Policy:
    """One job type with these routes, and one project that may use it."""
    kind = job_type or JobType("draft", routes)
    team = project or Project("team", (kind.name,), kind.name)
    return Policy(
        models={model.name: model for model in (GPT_IMAGE_2, GPT_IMAGE_25, GPT_IMAGE_15)},
        providers={PROVIDER.name: PROVIDER},
        routes={route.name: route for route in routes},
        job_types={kind.name: kind},
        projects={team.name: team},
        budgets=(),
        digest="0" * 16,
    )


def report(entries: Iterable[Spent], by: Sequence[str]) -> tuple[list[Row], Row]:
    """Add entries, oldest first, up by the dimensions given; the rows, dearest first, and the sum of all."""
    tally = Tally(by)
    for entry in entries:
        tally.add(entry)
    return tally.rows, tally.total
