"""Fitting: a job as one route would do it, in its words and pixels, by as many calls as it takes; or why it cannot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

from gateway.domain.errors import InvalidRequest
from gateway.domain.job import AUTO, Job, Size, parse_ratio
from gateway.domain.naming import nearest_quality, quality_on, serving, speaker_of, translated
from gateway.domain.policy import JobType
from gateway.domain.route import Capabilities, Model, Refusal, Route
from gateway.domain.size_choice import lists_ratio, made, open_sizes, parsed, unsized
from gateway.domain.sizing import closest, nearest_listed

_NO_ALPHA = frozenset({"jpeg", "jpg"})
"""Formats that cannot be transparent; a provider that takes both answers white."""
_BACKGROUNDS = ("opaque", "transparent")
_USUAL_FORMAT = "png"
"""What a client gets that names no format."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted of every route alike: the client's job, policy's defaults filled in.

    `speaker` is the model in whose words the job's quality is, `house` the one in whose words policy's own are: that of
    the job type's first route. `allow` is the job type's.
    """

    job: Job
    speaker: Model
    house: Model
    allow: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Fitted:
    """The job as a route would do it. `route` is what serves: the one listed, or its successor after `retired`.

    `qualities` and `sizes` are what `auto` may still become; no sizes is any size of the model.
    """

    route: Route
    job: Job
    qualities: tuple[str, ...]
    sizes: tuple[Size, ...]
    calls: int = 1
    as_events: bool = False
    retired: Model | None = None


def want(job: Job, job_type: JobType, speaker: Model, house: Model, models: Iterable[Model] = ()) -> Wanted:
    """Return what is wanted of any route; InvalidRequest if the job type does not allow it, or nobody could do it.

    A quality that is no word of the speaker is read as the house's or, if that has none such, as that of one of
    `models` which has.
    """
    fill = {
        name: value
        for name, value in job_type.defaults.items()
        if getattr(job, name) in (None, AUTO) or name in job.assumed
    }
    if fill:
        job = replace(job, **fill)  # type: ignore[arg-type]  # defaults are read from policy as names of text fields
    if "quality" in fill:
        speaker = house
    asker, speaker = speaker, speaker_of(job.quality, speaker, house, models)
    for name in job_type.allow:
        if name in job.mapped and (fallen := _fallen(name, job, job_type.allow[name], speaker, house)):
            job = replace(job, **{name: fallen})  # type: ignore[arg-type]  # `mapped` names text fields
            speaker = house if name == "quality" else speaker
        _check_allowed(name, job, job_type, speaker, house, asker=asker)
    if job.background == "transparent" and job.output_format in _NO_ALPHA:
        message = (
            f"background 'transparent' and output_format {job.output_format!r} exclude each other: "
            f"{job.output_format} has no transparency and would come out white. Use png or webp."
        )
        raise InvalidRequest(message, param="output_format")
    return Wanted(job, speaker, house, job_type.allow)


def _fallen(name: str, job: Job, allowed: Sequence[str], speaker: Model, house: Model) -> str | None:
    """What is allowed instead of a word that the client never sent, for it cannot ask for another; None if it may stay.

    A quality is one of the house's words.
    """
    if name == "quality":
        ours = translated(job.quality, speaker, house)
        return None if ours in (AUTO, *allowed) else nearest_quality(ours, allowed, house)
    size = Size.parse(job.size)
    if name != "size" or size is None or job.size in allowed:
        return None
    fallen = nearest_listed(size, parsed(allowed))
    return str(fallen) if fallen else None


def _check_allowed(name: str, job: Job, job_type: JobType, speaker: Model, house: Model, *, asker: Model) -> None:
    """Raise InvalidRequest for what policy does not allow; it names words as the next such request would be read."""
    value, allowed = getattr(job, name), job_type.allow[name]
    if value in (None, AUTO):
        return
    ours, words = value, allowed
    if name == "quality":
        ours = translated(value, speaker, house)
        theirs = tuple(word for word in asker.capabilities.quality if translated(word, asker, house) in allowed)
        words = theirs or allowed
    if ours in allowed or (name == "size" and _allowed_of_ratio(value, allowed)):
        return
    message = f"{name} {value!r} is not allowed for job type {job_type.name!r}; use one of {', '.join(words)}."
    raise InvalidRequest(message, param=name)


def _allowed_of_ratio(text: str, allowed: Sequence[str]) -> bool:
    ratio = parse_ratio(text)
    return ratio is not None and (lists_ratio(allowed, ratio) or closest(parsed(allowed), ratio) is not None)


def fit(wanted: Wanted, route: Route, today: date) -> Fitted | Refusal:
    """Return the job as the route would do it on that day (UTC), or why it cannot."""
    serves = serving(route, today)
    if serves is None:
        instead = f"; {route.model.replacement} replaces it" if route.model.replacement else ""
        return Refusal(route.name, f"{route.model.name} was retired on {route.model.retires}{instead}", "model")
    can, retired = serves.capabilities, None if serves is route else route.model
    quality = _word(wanted, route, serves)
    job = replace(wanted.job, quality=quality) if quality != wanted.job.quality else wanted.job
    job = _within_policy(job, wanted.allow, serves)
    allowed = wanted.allow.get("size", ())
    sized = made(job, can.sizes, allowed, retired)
    unable = _unable(job, can) or _unnamed(wanted, quality, serves)
    unable = unable or (unsized(job, can.sizes, allowed) if sized is None else _beyond(job, serves))
    if sized is None or unable is not None:
        field, reason = unable or unsized(job, can.sizes, allowed)
        return Refusal(route.name, reason, field)
    calls = -(-job.n // can.n)
    as_events = job.stream and (calls > 1 or not can.stream)
    job = replace(sized, stream=False) if as_events else sized
    sizes = open_sizes(wanted.allow, can, serves.model)
    return Fitted(serves, job, _qualities(wanted, route, serves), sizes, calls, as_events, retired)


def _within_policy(job: Job, allow: Mapping[str, tuple[str, ...]], serves: Route) -> Job:
    """Name an allowed background and format where the request leaves open what the provider may choose beyond them.

    The first is named that the route makes; where it makes none, the first of all, which it is then refused for.
    """
    can, backgrounds, formats = serves.capabilities, allow.get("background"), allow.get("output_format")
    if backgrounds and job.background == AUTO:
        may_become = _BACKGROUNDS if serves.model.capabilities.transparent else _BACKGROUNDS[:1]
        if not set(may_become) <= set(backgrounds):
            good = (word for word in backgrounds if word != "transparent" or can.transparent)
            job = replace(job, background=next(good, backgrounds[0]))
    if formats and job.output_format in (None, AUTO) and _USUAL_FORMAT not in formats:
        opaque = _NO_ALPHA if job.background == "transparent" else ()
        good = (word for word in formats if word in can.output_formats and word not in opaque)
        job = replace(job, output_format=next(good, formats[0]))
    return job


def _word(wanted: Wanted, route: Route, serves: Route) -> str:
    """The quality asked for in the words of what serves; what no catalog relates to it is read as policy's own word."""
    word, speaker, maker = wanted.job.quality, wanted.speaker, serves.model
    related = speaker.name in (maker.name, route.model.name) or speaker.name in maker.equivalent_quality
    if not related:
        word, speaker = translated(word, speaker, wanted.house), wanted.house
    return quality_on(route, serves, word, speaker)


def _unable(job: Job, can: Capabilities) -> tuple[str, str] | None:
    shown = bool(job.partial_images)
    checks: tuple[tuple[bool, str, str], ...] = (
        (job.operation in can.operations, "model", f"cannot {job.operation}"),
        (
            job.n <= can.n or not shown,
            "n",
            f"makes at most {can.n} images a call, and shows partial images of one alone",
        ),
        (job.references <= can.references, "image", f"takes at most {can.references} input images"),
        (not job.mask or can.mask, "mask", "takes no mask"),
        (can.stream or not shown, "partial_images", "does not stream, so it shows no partial images"),
        (job.background != "transparent" or can.transparent, "background", "has no transparent background"),
        (
            job.background != "transparent" or job.output_format not in _NO_ALPHA,
            "output_format",
            f"{job.output_format} has no transparency, and policy wants that",
        ),
        (job.prompt_chars <= can.prompt_chars, "prompt", f"takes at most {can.prompt_chars} characters of prompt"),
        (
            job.output_format is None or job.output_format in can.output_formats,
            "output_format",
            f"output_format is one of {', '.join(can.output_formats)}",
        ),
    )
    return next(((field, reason) for passed, field, reason in checks if not passed), None)


def _unnamed(wanted: Wanted, word: str, serves: Route) -> tuple[str, str] | None:
    """A quality that is somebody's word, but none of this route's; a word that nobody knows is left to the provider."""
    can, asked = serves.capabilities, wanted.job.quality
    if word == AUTO or word in can.quality:
        return None
    if word in serves.model.capabilities.quality:
        return "quality", f"quality is one of {', '.join(can.quality)}"
    if asked in wanted.speaker.capabilities.quality:
        return "quality", f"has nothing like {asked!r} of {wanted.speaker.name}, makes {', '.join(can.quality)}"
    return None


def _beyond(job: Job, serves: Route) -> tuple[str, str] | None:
    """More at once than what the route, or its whole account, may make in a minute: no waiting would help."""
    owners = ((serves.limits, "this route"), (serves.provider.limits, f"account {serves.provider.name!r}"))
    for limits, owner in owners:
        if limits.images_per_minute is not None and job.n > limits.images_per_minute:
            return "n", f"n is more than the {limits.images_per_minute} images a minute of {owner}"
    return None


def _qualities(wanted: Wanted, route: Route, serves: Route) -> tuple[str, ...]:
    """Qualities that `auto` may still become, cheapest first as the catalog lists them."""
    allowed = wanted.allow.get("quality")
    if allowed is None:
        return serves.capabilities.quality
    words = {quality_on(route, serves, word, wanted.house) for word in allowed}
    return tuple(word for word in serves.capabilities.quality if word in words)
