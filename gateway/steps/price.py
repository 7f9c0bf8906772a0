"""Price: what the job may cost at most on every route able to do it, and why each other route is passed over."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date

from gateway.domain import pricing
from gateway.domain.budget import Pressure
from gateway.domain.errors import InvalidRequest
from gateway.domain.fitting import Fitted, Wanted, fit, want
from gateway.domain.job import AUTO, Job, Size
from gateway.domain.ladder import Rung, fewer, lower_quality, smaller
from gateway.domain.naming import quality_on
from gateway.domain.offer import Offer, Quotes
from gateway.domain.policy import JobType, Policy, Project
from gateway.domain.price import Price
from gateway.domain.pricing import NoPrice, Tariff
from gateway.domain.route import NOTHING, Model, Quote, Refusal, Route
from gateway.domain.sizing import nearest
from gateway.domain.unsent_fields import QUALITY, SIZE, unsent, untaken

Priced = tuple[list[Quote], list[Refusal]]
_Rows = tuple[Price, Price]
"""The vendor's price row and the route's own."""

_SQUARE = Size(1024, 1024)
"""What `auto` is expected to become, or what is made nearest to it."""


@dataclass(frozen=True, slots=True)
class _Asking:
    """What is asked of each route: the job as it is wanted, as the client sent it, and fields a rung lowers."""

    wanted: Wanted
    asked: Job
    fields: Mapping[str, str | int]
    today: date


def price(
    job: Job,
    job_type: JobType,
    project: Project,
    lane: str | None,
    today: date,
    *,
    speaker: Model | None = None,
    rung: Rung | None = None,
) -> Priced:
    """Return a quote for each route that can do the job, in policy's order, and a refusal for each that cannot.

    `speaker` and `rung` are those of `offers`. InvalidRequest if the job type does not allow what is asked.
    """
    found, refusals = offers(job, job_type, project, lane, today, speaker=speaker, rung=rung)
    return list(Quotes([(offer, Pressure()) for offer in found], job, project.multiplier)), refusals


def offers(
    job: Job,
    job_type: JobType,
    project: Project,
    lane: str | None,
    today: date,
    *,
    speaker: Model | None = None,
    house: Model | None = None,
    models: Iterable[Model] = (),
    rung: Rung | None = None,
) -> tuple[list[Offer], list[Refusal]]:
    """Return what `price` does, but for what depends on the length of the prompt and the project's multiplier.

    `speaker` is the model in whose words the client asks for a quality, `house` that of policy's own words; either is
    the job type's first if not given. A quality that neither has is read as that of a model of the job type's, then of
    `models`. A rung of the ladder brings its own routes, and fields to be lowered.
    """
    if not job_type.routes:
        return [], []
    house = house or job_type.routes[0].model
    fields = rung.fields if rung else {}
    models = (*(route.model for route in job_type.routes), *models)
    wanted = want(job, job_type, speaker or house, house, models)
    asking = _Asking(replace(wanted, job=fewer(wanted.job, fields)), job, fields, today)
    found: list[Offer] = []
    refusals: list[Refusal] = []
    for route in rung.routes if rung else job_type.routes:
        each = _lane_refusal(route, project, lane) or _of_route(route, asking)
        if isinstance(each, Offer):
            found.append(each)
        else:
            refusals.append(each)
    return found, refusals


def able_routes(
    job: Job,
    policy: Policy,
    project: Project,
    lane: str | None,
    today: date,
    *,
    speaker: Model | None = None,
    refused: Container[tuple[str, str]] = (),
) -> list[str]:
    """Name the job types of the project that could do the job, with the route that would, for an error message.

    `refused` are job types with routes of theirs that have just been tried for it.
    """
    able = []
    for name in project.job_types:
        kind = policy.job_types[name]
        try:
            found, _ = offers(job, kind, project, lane, today, speaker=speaker, models=policy.models.values())
        except InvalidRequest:
            continue  # it does not allow it
        served = (offer.quote.route.name for offer in found if (name, offer.quote.route.name) not in refused)
        if (route := next(served, None)) is not None:
            able.append(f"{route} (job type {name})")
    return able


def _lane_refusal(route: Route, project: Project, lane: str | None) -> Refusal | None:
    if route.lane not in project.lanes:
        return Refusal(route.name, f"lane {route.lane!r} is not open to this project")
    if route.lane not in ("production", lane):
        return Refusal(route.name, f"serves requests with X-Gateway-Lane: {route.lane} alone")
    return None


def _of_route(route: Route, asking: _Asking) -> Offer | Refusal:
    fitted = fit(asking.wanted, route, asking.today)
    if isinstance(fitted, Refusal):
        return fitted
    try:
        rows = pricing.prices_of(fitted.route, asking.today)
    except NoPrice as error:
        return Refusal(route.name, str(error))
    return _degraded(_narrow_auto(fitted, rows, asking.wanted.allow), rows, route, asking)


def _offer(fitted: Fitted, rows: _Rows, asking: _Asking) -> Offer:
    """Price a job as a route would do it."""
    route, model, can = fitted.route, fitted.route.model, fitted.route.capabilities
    official, own = rows
    made = _as_told(fitted)
    listed = _most(made, official)
    charged = listed if own is official else _most(made, own)
    # A price that is the same for all leaves the job as it was asked for.
    changed = made is not fitted and charged.rest > _most(fitted, own).rest
    job = made.job if changed else fitted.job
    square = nearest(can.sizes, _SQUARE)
    return Offer(
        Quote(
            route,
            job,
            _changes(fitted, asking.asked),
            NOTHING,
            official,
            own,
            calls=fitted.calls,
            as_events=fitted.as_events,
            degraded={"n": str(job.n)} if job.n != asking.asked.n else {},
            replaced=fitted.retired.name if fitted.retired else None,
            retired=fitted.retired.retires if fitted.retired else None,
        ),
        official=listed,
        own=charged,
        likely=pricing.tariff(
            job, model, own, sizes=(square,) if square else (), qualities=made.qualities, likely=True
        ),
        per_call=can.n,
        tokens=(
            pricing.most_image_tokens(made.job, model, sizes=made.sizes, qualities=made.qualities)
            if own.tokens is not None or official.tokens is not None  # a reseller's account counts them all the same
            else None
        ),
    )


def _most(fitted: Fitted, row: Price) -> Tariff:
    """Most that one image may cost by a price row."""
    return pricing.tariff(fitted.job, fitted.route.model, row, sizes=fitted.sizes, qualities=fitted.qualities)


def _as_told(fitted: Fitted) -> Fitted:
    """The job as the provider hears of it: what it is not told may become anything that its model makes."""
    missing = unsent(fitted.job, fitted.route)
    if QUALITY in missing:
        every = fitted.route.model.capabilities.quality
        fitted = replace(fitted, job=replace(fitted.job, quality=AUTO), qualities=every)
    if SIZE in missing:
        fitted = replace(fitted, job=replace(fitted.job, size=AUTO), sizes=())
    return fitted


def _degraded(fitted: Fitted, rows: _Rows, route: Route, asking: _Asking) -> Offer:
    """Offer it with the quality, then the size, lowered as a rung says, as far as each makes it cheaper."""
    offer, can = _offer(fitted, rows, asking), fitted.route.capabilities
    for name in ("quality", "size"):
        value = asking.fields.get(name)
        if not isinstance(value, str):
            continue
        if name == "quality":
            job = lower_quality(fitted.job, quality_on(route, fitted.route, value, asking.wanted.house), can)
        else:
            job = smaller(fitted.job, value, can)
        if job is None:
            continue
        lowered = replace(fitted, job=job)
        cheaper = _offer(lowered, rows, asking)
        if cheaper.own.rest < offer.own.rest:  # the text is the same
            # Policy's word of a quality, for the route's own may name another picture elsewhere.
            told = value if name == "quality" else job.size
            change = {**offer.quote.degraded, name: told}
            fitted, offer = lowered, replace(cheaper, quote=replace(cheaper.quote, degraded=change))
    return offer


def _narrow_auto(fitted: Fitted, rows: _Rows, allow: Container[str]) -> Fitted:
    """Replace `auto` by the dearest value that is open, where policy leaves the provider less than its full choice.

    Otherwise the provider could choose beyond what policy allows and beyond what is held. Sizes that only the route is
    narrowed to are named where that is cheaper.
    """
    job, model, (official, own) = fitted.job, fitted.route.model, rows

    def cost(candidate: Job) -> int:
        return pricing.worst_case(candidate, model, official, sizes=fitted.sizes, qualities=fitted.qualities)

    if job.quality == AUTO and fitted.qualities and set(fitted.qualities) != set(model.capabilities.quality):
        job = max((replace(job, quality=word) for word in fitted.qualities), key=cost)
    if job.size == AUTO and fitted.sizes:
        named = replace(fitted, job=max((replace(job, size=str(size)) for size in fitted.sizes), key=cost))
        free = replace(fitted, job=job, sizes=())
        if SIZE in allow or any(_most(named, row).rest < _most(free, row).rest for row in (official, own)):
            return named
        return free
    return fitted if job is fitted.job else replace(fitted, job=job)


def _changes(fitted: Fitted, asked: Job) -> dict[str, str | int | None]:
    """Body fields that are set for the provider. What only the gateway understands is left out.

    A value that equals the client's own is set again harmlessly; `auto` stays as the client sent it.
    """
    job, route = fitted.job, fitted.route
    changes: dict[str, str | int | None] = {"model": route.upstream_model, "callback_url": None, "async": None}
    changes |= dict.fromkeys(untaken(job, route, fitted.retired))
    if job.resolution is not None:
        changes["resolution"] = None  # it is in the size
    for name in ("size", "quality", "background", "output_format"):
        value = getattr(job, name)
        if value not in (None, AUTO):
            changes[name] = value
    if job.quality in route.quality_names:
        changes["quality"] = route.quality_names[job.quality]
    if job.n != asked.n:
        changes["n"] = job.n
    if fitted.as_events:
        changes |= {"stream": None, "partial_images": None}
    return changes
