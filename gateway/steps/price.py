"""Price: what the job may cost at most on every route able to do it, and why each other route is passed over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import date

from gateway.domain import pricing
from gateway.domain.errors import InvalidRequest
from gateway.domain.job import AUTO, Job, Size
from gateway.domain.policy import JobType, Policy, Project
from gateway.domain.route import Capabilities, Model, Price, Quote, Refusal, Route

Priced = tuple[list[Quote], list[Refusal]]


def price(job: Job, job_type: JobType, project: Project, lane: str | None, today: date) -> Priced:
    """Return a quote for each route that can do the job, in policy's order, and a refusal for each that cannot.

    InvalidRequest if the job asks for a value that the job type does not allow.
    """
    job = _with_defaults(job, job_type)
    _check_allowed(job, job_type)
    quotes: list[Quote] = []
    refusals: list[Refusal] = []
    for route in job_type.routes:
        refusal = _lane_refusal(route, project, lane) or _refusal(job, route, today)
        if refusal is None:
            quotes.append(_quote(job, route, job_type, project, today))
        else:
            refusals.append(refusal)
    return quotes, refusals


def able_routes(job: Job, policy: Policy, project: Project, lane: str | None, today: date) -> list[str]:
    """Name the job types of the project that could do the job, with the route that would, for an error message."""
    able = []
    for name in project.job_types:
        for route in policy.job_types[name].routes:
            if not (_lane_refusal(route, project, lane) or _refusal(job, route, today)):
                able.append(f"{route.name} (job type {name})")
                break
    return able


def _with_defaults(job: Job, job_type: JobType) -> Job:
    fill = {name: value for name, value in job_type.defaults.items() if getattr(job, name) in (None, AUTO)}
    if not fill:
        return job
    return replace(job, **fill)  # type: ignore[arg-type]  # defaults are read from policy as names of text fields


def _check_allowed(job: Job, job_type: JobType) -> None:
    for name, allowed in job_type.allow.items():
        value = getattr(job, name)
        if value not in (None, AUTO) and value not in allowed:
            message = (
                f"{name} {value!r} is not allowed for job type {job_type.name!r}; use one of {', '.join(allowed)}."
            )
            raise InvalidRequest(message, param=name)


def _lane_refusal(route: Route, project: Project, lane: str | None) -> Refusal | None:
    if route.lane not in project.lanes:
        return Refusal(route.name, f"lane {route.lane!r} is not open to project {project.name!r}")
    if route.lane not in ("production", lane):
        return Refusal(route.name, f"serves requests with X-Gateway-Lane: {route.lane} alone")
    return None


def _refusal(job: Job, route: Route, today: date) -> Refusal | None:
    can = route.capabilities
    unable = _unable(job, can) or _unsized(job, can)
    if unable is not None:
        field, reason = unable
        return Refusal(route.name, reason, field)
    if route.model.retires is not None and route.model.retires <= today:
        instead = f"; {route.model.replacement} replaces it" if route.model.replacement else ""
        return Refusal(route.name, f"{route.model.name} was retired on {route.model.retires}{instead}", "model")
    per_minute = route.limits.images_per_minute
    if per_minute is not None and job.n > per_minute:
        return Refusal(route.name, f"n is more than the {per_minute} images a minute of this route", "n")
    return None


def _unable(job: Job, can: Capabilities) -> tuple[str, str] | None:
    checks: tuple[tuple[bool, str, str], ...] = (
        (job.operation in can.operations, "model", f"cannot {job.operation}"),
        (job.n <= can.n, "n", f"makes at most {can.n} images a request"),
        (job.references <= can.references, "image", f"takes at most {can.references} input images"),
        (not job.mask or can.mask, "mask", "takes no mask"),
        (not job.stream or can.stream, "stream", "does not stream"),
        (job.background != "transparent" or can.transparent, "background", "has no transparent background"),
        (job.prompt_chars <= can.prompt_chars, "prompt", f"takes at most {can.prompt_chars} characters of prompt"),
        (_known_word(job.output_format, can.output_formats), "output_format", f"makes {', '.join(can.output_formats)}"),
    )
    return next(((field, reason) for passed, field, reason in checks if not passed), None)


def _known_word(value: str | None, known: Sequence[str]) -> bool:
    return value is None or value in known


def _unsized(job: Job, can: Capabilities) -> tuple[str, str] | None:
    if job.size == AUTO:
        return None
    size = Size.parse(job.size)
    if size is None:
        return "size", f"size {job.size!r} is neither auto nor WIDTHxHEIGHT"
    reason = can.sizes.refusal(size)
    return None if reason is None else ("size", reason)


def _quote(job: Job, route: Route, job_type: JobType, project: Project, today: date) -> Quote:
    official, own = pricing.prices_of(route, today)
    qualities = _open_qualities(route, job_type)
    sizes = _open_sizes(route, job_type)
    narrowed = _narrow_auto(job, route.model, official, sizes, qualities)

    def most(rows: Price) -> int:
        return pricing.worst_case(narrowed, route.model, rows, sizes=sizes, qualities=qualities)

    listed = most(official)
    worst = pricing.views(listed, listed if own is official else most(own), project.multiplier)
    return Quote(route, narrowed, _changes(narrowed, route), worst, official, own)


def _open_qualities(route: Route, job_type: JobType) -> tuple[str, ...]:
    """Qualities that `auto` may still become on this route, cheapest first as the catalog lists them."""
    allowed = job_type.allow.get("quality")
    return tuple(word for word in route.capabilities.quality if allowed is None or word in allowed)


def _open_sizes(route: Route, job_type: JobType) -> tuple[Size, ...]:
    """Sizes that `auto` may still become, if policy lists them; empty is any size of the model."""
    parsed = (Size.parse(text) for text in job_type.allow.get("size", ()))
    return tuple(size for size in parsed if size and route.capabilities.sizes.refusal(size) is None)


def _narrow_auto(job: Job, model: Model, official: Price, sizes: Sequence[Size], qualities: Sequence[str]) -> Job:
    """Replace `auto` by the dearest value that is open, where policy leaves the provider less than its full choice.

    Otherwise the provider could choose beyond what policy allows and beyond what is held.
    """

    def cost(candidate: Job) -> int:
        return pricing.worst_case(candidate, model, official, sizes=sizes, qualities=qualities)

    if job.quality == AUTO and qualities and set(qualities) != set(model.capabilities.quality):
        job = max((replace(job, quality=word) for word in qualities), key=cost)
    if job.size == AUTO and sizes:
        job = max((replace(job, size=str(size)) for size in sizes), key=cost)
    return job


def _changes(job: Job, route: Route) -> dict[str, str | int | None]:
    """Body fields that are set for the provider. What only the gateway understands is left out.

    A value that equals the client's own is set again harmlessly; `auto` stays as the client sent it.
    """
    changes: dict[str, str | int | None] = {"model": route.upstream_model, "callback_url": None, "async": None}
    for name in ("size", "quality", "background", "output_format"):
        value = getattr(job, name)
        if value not in (None, AUTO):
            changes[name] = value
    return changes
