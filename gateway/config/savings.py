"""What requests of a job type may cost on each rung of its ladder, asked of the very step that prices real ones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from fractions import Fraction
from itertools import product

from gateway.config.ability import able_operations, faces
from gateway.domain.errors import InvalidRequest
from gateway.domain.job import Job, Operation, Size
from gateway.domain.ladder import Rung, rungs
from gateway.domain.policy import JobType, Order, Project
from gateway.domain.route import Model, Route, SizeRule
from gateway.steps.price import price

_ANYBODY = Project(name="anybody", job_types=(), default_job_type=None, lanes=frozenset({"production", "testing"}))
_MOST_IMAGES = 10


def saves(job_type: JobType, before: Rung, after: Rung) -> bool | None:
    """Tell whether any request could cost less after than before; None if nothing can be told of the prices.

    Days past and to come are asked too, so that the answer does not change because a date passes.
    """
    told = False
    routes = before.routes + after.routes
    for day, (job, speaker) in product(_days(routes), tuple(_jobs(job_type, routes))):
        was, becomes = cost(job_type, before, job, day, speaker), cost(job_type, after, job, day, speaker)
        if was is not None and becomes is not None:
            told = True
            if becomes < was:
                return True
    return False if told else None


def least_above(job_type: JobType, limit: int) -> Fraction | None:
    """Return what the cheapest image may cost, nano-USD, if that is above the limit; None if one is within it."""
    rung = replace(rungs(job_type)[0], order=Order.CHEAPEST)
    unlimited = replace(job_type, max_cost_per_image=None)
    found: list[Fraction] = []
    for day, (job, speaker) in product(_days(rung.routes), reversed(tuple(_jobs(job_type, rung.routes)))):
        each = cost(unlimited, rung, job, day, speaker) if job.n == 1 else None
        if each is not None and each <= limit:
            return None
        found += [each] if each is not None else []
    return min(found, default=None)


def usual(job_type: JobType) -> Job:
    """Return the request that leaves everything to the job type's defaults."""
    return _blank(job_type)


def cost(job_type: JobType, rung: Rung, job: Job, day: date, speaker: Model | None = None) -> Fraction | None:
    """Return the worst case of a job, nano-USD; the mean where several routes may come first, None if none can.

    Its quality is a word of the model `speaker`, by default that of the job type's first route.
    """
    try:
        quotes, _ = price(job, job_type, _ANYBODY, "testing", day, speaker=speaker, rung=rung)
    except InvalidRequest:
        return None
    found = [quote.worst.route for quote in quotes]
    if not found:
        return None
    if rung.order is Order.LISTED:
        return Fraction(found[0])
    return Fraction(min(found)) if rung.order is Order.CHEAPEST else Fraction(sum(found), len(found))


def _days(routes: Sequence[Route]) -> list[date]:
    found: set[date] = set()
    for face in (face for route in routes for face in faces(route)):
        found.update(row.valid_from for row in (*face.prices, *face.model.prices))
        found.update({face.model.retires} if face.model.retires else ())
    return sorted(found, reverse=True)


def _blank(job_type: JobType) -> Job:
    edits = Operation.GENERATE not in able_operations(job_type.routes) or (
        job_type.match is not None and job_type.match.fields.get("operation") == (Operation.EDIT,)
    )
    operation = Operation.EDIT if edits else Operation.GENERATE
    return Job(operation, None, prompt_chars=1, prompt_bytes=1, references=int(edits))


def _jobs(job_type: JobType, routes: Sequence[Route]) -> Iterator[tuple[Job, Model]]:
    """Yield requests of every size that is allowed, or that routes know, and every quality in each model's words."""
    speakers = {face.model.name: face.model for route in (*job_type.routes, *routes) for face in faces(route)}
    words = [(model, word) for model in speakers.values() for word in reversed(model.capabilities.quality)]
    able = [face.capabilities.sizes for route in routes for face in faces(route)]
    usual_size = filter(None, [job_type.defaults.get("size")])
    sizes = job_type.allow.get("size") or (*usual_size, *(str(size) for rule in able for size in _sizes(rule)))
    limits = {limits.images_per_minute for route in routes for limits in (route.limits, route.provider.limits)}
    numbers = {_MOST_IMAGES, 1, *(most for most in limits if most and most < _MOST_IMAGES)}
    blank = _blank(job_type)
    for n, (speaker, word), size in product(sorted(numbers, reverse=True), words, dict.fromkeys(sizes)):
        yield replace(blank, n=n, quality=word, size=size), speaker


def _sizes(rule: SizeRule) -> tuple[Size, ...]:
    """Return the sizes of a fixed list; of any within bounds, about the largest square and the smallest strip."""
    if rule.fixed:
        return rule.fixed
    if rule.tiers is not None:
        return tuple(rule.tiers.size(rule.tiers.ratios[0], name) for name, _ in rule.tiers.resolutions)
    edge = min(rule.max_edge, math.isqrt(rule.max_pixels)) // rule.multiple * rule.multiple
    short = -(-math.isqrt(int(rule.min_pixels / rule.max_ratio)) // rule.multiple) * rule.multiple
    long = int(short * rule.max_ratio) // rule.multiple * rule.multiple
    return tuple(size for size in (Size(edge, edge), Size(long, short)) if size.pixels and rule.refusal(size) is None)
