"""Ladder: the steps of a job type, from what is asked for to what is still done when money runs short."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import attrgetter

from gateway.domain.budget import Pressure
from gateway.domain.job import AUTO, Job, Size, parse_ratio
from gateway.domain.policy import JobType, Order
from gateway.domain.route import Capabilities, Quote, Route
from gateway.domain.sizing import nearest, of_ratio


@dataclass(frozen=True, slots=True)
class Rung:
    """What holds in one range of budget use: the steps up to it added together."""

    order: Order
    routes: tuple[Route, ...]
    fields: Mapping[str, str | int] = field(default_factory=dict)
    pressure: Pressure = field(default_factory=Pressure)


def rungs(job_type: JobType) -> list[Rung]:
    """Return the rungs from 0 % of the budget on; a single one where policy has no `degrade`."""
    found = [Rung(job_type.order, job_type.routes)]
    for step in job_type.degrade:
        last = found.pop()
        start = last.pressure.at_least
        if start < step.budget_used:
            found.append(replace(last, pressure=Pressure(start, step.budget_used)))
        rung = Rung(
            step.order or last.order,
            step.routes or last.routes,
            {**last.fields, **step.fields},
            Pressure(step.budget_used),
        )
        found.append(rung)
    return found


def staying(quotes: Iterable[Quote], stays: Callable[[Quote], bool]) -> list[Quote]:
    """Return those that stay; where none of a rung does, the next one serves in its range of budget use as well."""
    left: list[Quote] = []
    start: int | None = None
    for pressure, rung in groupby(quotes, key=attrgetter("pressure")):
        start = pressure.at_least if start is None else min(start, pressure.at_least)
        if kept := [quote for quote in rung if stays(quote)]:
            wider = pressure if start == pressure.at_least else replace(pressure, at_least=start)
            left += kept if wider is pressure else [replace(quote, pressure=wider) for quote in kept]
            start = None
    return left


def fewer(job: Job, fields: Mapping[str, str | int]) -> Job:
    """Return the job with as many images as a rung allows."""
    most = fields.get("n")
    return replace(job, n=most) if isinstance(most, int) and most < job.n else job


def lower_quality(job: Job, word: str, can: Capabilities) -> Job | None:
    """Return the job at a lower quality, a word of the route's model; None if it is none, or no lower.

    What `auto`, or a word that nobody knows, becomes may be as high as the model goes.
    """
    known = can.quality
    if word not in known:
        return None
    now = known.index(job.quality) if job.quality in known else len(known)
    return replace(job, quality=word) if known.index(word) < now else None


def smaller(job: Job, text: str, can: Capabilities) -> Job | None:
    """Return the job at a smaller size; None if the route cannot make it, or it has no fewer pixels."""
    ratio = parse_ratio(text)
    size = of_ratio(can.sizes, ratio) if ratio else Size.parse(text)
    if size is None or can.sizes.refusal(size) is not None:
        return None
    size = nearest(can.sizes, size) or size
    now = Size.parse(job.size)
    if job.size != AUTO and now is not None and size.pixels >= now.pixels:
        return None
    return replace(job, size=str(size))
