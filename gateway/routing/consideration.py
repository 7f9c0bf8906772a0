"""Consideration: each rung of a job type's ladder, as far as it is the same for all jobs of one shape; then ranked.

`consider` is dear and remembered; `rank` is done for every request, on what `consider` found.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

from gateway.domain.budget import Pressure
from gateway.domain.job import Job, Wishes
from gateway.domain.ladder import rungs
from gateway.domain.naming import is_retired, model_named
from gateway.domain.offer import Offer, Quotes
from gateway.domain.policy import JobType, Order, Policy, Project
from gateway.domain.record import record
from gateway.domain.route import Refusal
from gateway.domain.trial import Arm
from gateway.ports.provider import Conditions
from gateway.steps.experiment import with_arm
from gateway.steps.price import able_routes, offers
from gateway.steps.rank import (
    Named,
    Ranked,
    affordable,
    degraded_alone,
    dropping_old,
    named,
    of_model,
    ordered,
    put_first,
    too_dear,
    troubled_last,
    unsupported,
)

Placed = list[tuple[Offer, Pressure]]


@record(frozen=True, slots=True)
class Setting:
    """For whom, under which policy, and on which day (UTC) a job is considered."""

    project: Project
    wishes: Wishes
    policy: Policy
    today: date


@record(frozen=True, slots=True)
class Moment:
    """What differs from request to request: how routes are doing, if known, and the seed of what chance decides."""

    conditions: Conditions | None = None
    seed: str = ""


@dataclass(frozen=True, slots=True)
class Level:
    """A rung with what its routes offer, in the order of the list.

    `left_out` tells that it offers more, which the client forbids.
    """

    order: Order
    pressure: Pressure
    offers: tuple[Offer, ...]
    left_out: bool


@dataclass(frozen=True, slots=True)
class Considered:
    """All of a decision that every job of this shape gets."""

    job_type: JobType
    levels: tuple[Level, ...]
    refusals: tuple[Refusal, ...]
    wanted: Named | None
    arm: Arm | None
    routes: Collection[str]
    """Of all offers, each once, in order."""
    settled: Placed | None
    """How the offers are ranked where nothing else has a say, if that is so."""

    @property
    def weight(self) -> int:
        """How much there is to remember."""
        return 1 + len(self.refusals) + sum(len(level.offers) for level in self.levels)


def consider(job: Job, job_type: JobType, arm: Arm | None, setting: Setting) -> Considered:
    """Return what the decisions on such jobs rest on; raises the error to show if no route can do them.

    The prompt's length in bytes, the user, the client's maximum cost and the project's multiplier are not looked at.
    """
    wanted = named(job, job_type, setting.project, setting.policy, setting.today)
    levels, refusals = _levels(dropping_old(job, wanted), job_type, arm, setting, wanted)
    if not any(level.offers for level in levels):
        if any(level.left_out for level in levels):
            raise degraded_alone(job_type)
        speaker = model_named(job.client_model, setting.policy)
        tried, lane = {(job_type.name, each.route) for each in refusals}, setting.wishes.lane
        able = able_routes(job, setting.policy, setting.project, lane, setting.today, speaker=speaker, refused=tried)
        raise unsupported(refusals, job_type, able, hint=_of_old(job, refusals, setting))
    everything = [offer for level in levels for offer in level.offers]
    routes = dict.fromkeys(offer.quote.route.name for offer in everything).keys()
    found = Considered(job_type, tuple(levels), tuple(refusals), wanted, arm, routes, None)
    if all(level.order is Order.LISTED for level in levels) and job_type.max_cost_per_image is None:
        placed, _ = _climb(found, 0, Wishes(), Moment(), {})
        found = replace(found, settled=placed)
    return found


def _of_old(job: Job, refusals: Sequence[Refusal], setting: Setting) -> str:
    """What would help where a retired model's word for a quality is all that stands in the way; else nothing."""
    models = (each for each in setting.policy.models.values() if is_retired(each, setting.today))
    words = {word for model in models if model.legacy for word in model.legacy.quality}
    if setting.project.legacy or job.quality not in words or any(each.field != "quality" for each in refusals):
        return ""
    return f" {job.quality!r} is a word of retired models; a project with `compatibility: legacy` has it understood."


def rank(considered: Considered, job: Job, setting: Setting, moment: Moment) -> Ranked:
    """Return a job's decision; BudgetExceeded if the client's or the job type's maximum allows none of the offers."""
    wishes, multiplier = setting.wishes, setting.project.multiplier
    troubled = {} if moment.conditions is None else troubles(considered.routes, moment.conditions)
    if considered.settled is not None and not troubled and wishes.max_cost is None:
        return Ranked(Quotes(considered.settled, job, multiplier), considered.refusals, considered.arm, settled=True)
    placed, more = _climb(considered, job.prompt_bytes, wishes, moment, troubled)
    if not placed:
        everything = [offer for level in considered.levels for offer in level.offers]
        raise too_dear(everything, job.prompt_bytes, wishes, considered.job_type)
    return Ranked(Quotes(placed, job, multiplier), (*considered.refusals, *more), considered.arm)


def troubles(routes: Collection[str], conditions: Conditions) -> dict[str, str]:
    """Say of those in trouble why, in the order of the routes."""
    suspects = conditions.suspects()
    if not suspects:
        return {}
    return {name: why for name in routes if name in suspects and (why := conditions.trouble(name)) is not None}


def _levels(
    job: Job, job_type: JobType, arm: Arm | None, setting: Setting, wanted: Named | None
) -> tuple[list[Level], list[Refusal]]:
    listed = setting.policy.job_types.get(job_type.name, job_type).routes  # before a trial put its own route first
    speaker, house = model_named(job.client_model, setting.policy), listed[0].model if listed else None
    kind, lane = with_arm(job_type, arm), setting.wishes.lane
    levels: list[Level] = []
    refusals: list[Refusal] = []
    known: set[str] = set()
    jobs: dict[Job, Job] = {}
    for rung in rungs(kind):
        found, refused = offers(
            job,
            kind,
            setting.project,
            lane,
            setting.today,
            speaker=speaker,
            house=house,
            models=setting.policy.models.values(),
            rung=rung,
        )
        if wanted is not None:
            found, refused = of_model(found, refused, wanted, rung.routes)
        allowed = [offer for offer in found if setting.wishes.degrade or not offer.quote.degraded]
        before = {offer.quote.route.name: offer for offer in levels[-1].offers} if levels else {}
        shared = tuple(_shared(offer, before.get(offer.quote.route.name), jobs) for offer in allowed)
        levels.append(Level(rung.order, rung.pressure, shared, left_out=len(allowed) < len(found)))
        refusals += [refusal for refusal in refused if refusal.route not in known]
        known |= {route.name for route in rung.routes}
    return levels, refusals


def _shared(offer: Offer, before: Offer | None, jobs: dict[Job, Job]) -> Offer:
    """The offer, or the equal one of the rung before it; its job is one object with those like it."""
    if before is not None and before == offer:
        return before
    quote = offer.quote
    job = jobs.setdefault(quote.job, quote.job)
    return offer if job is quote.job else replace(offer, quote=replace(quote, job=job))


@dataclass(slots=True)
class _Stage:
    offers: Sequence[Offer]
    pressure: Pressure


def _climb(
    considered: Considered, prompt_bytes: int, wishes: Wishes, moment: Moment, troubles: Mapping[str, str]
) -> tuple[Placed, list[Refusal]]:
    """Rank each rung; one that has nothing to offer hands its range to the next, unless the client forbids what it has.

    Returns the offers that are left with their ranges of budget use, and why others were passed over or go last.
    """
    job_type, known = considered.job_type, set[str]()
    stages: list[_Stage] = []
    refusals: dict[str, Refusal] = {}
    below: int | None = None  # from where on rungs have offered nothing
    for level in considered.levels:
        kept, dear = affordable(level.offers, prompt_bytes, wishes, job_type)
        start = level.pressure.at_least if below is None else below
        refusals |= {each.route: each for each in dear if each.route not in known}
        known |= {each.route for each in dear}
        known |= {offer.quote.route.name for offer in kept}
        if not kept:
            below = None if level.left_out else start
            continue
        below = None
        kept = ordered(
            kept,
            level.order,
            prompt_bytes=prompt_bytes,
            weights=job_type.weights,
            conditions=moment.conditions,
            draw=_chance(level.order, moment.seed),
        )
        kept, last = troubled_last(put_first(kept, considered.wanted, considered.arm), troubles)
        refusals |= {each.route: each for each in last}
        _add(stages, _Stage(kept, Pressure(start, level.pressure.below)))
    return [(offer, stage.pressure) for stage in stages for offer in stage.offers], list(refusals.values())


def _chance(order: Order, seed: str) -> Callable[[], float]:
    if order is not Order.WEIGHTED or not seed:
        return random.random
    return random.Random(seed).random  # noqa: S311 - shares out work, protects nothing


def _add(stages: list[_Stage], stage: _Stage) -> None:
    """Add a stage, or widen the one before it if it offers the very same."""
    if stages:
        last = stages[-1]
        same = len(last.offers) == len(stage.offers) and all(
            one is other for one, other in zip(last.offers, stage.offers, strict=True)
        )
        if same and last.pressure.below == stage.pressure.at_least:
            last.pressure = Pressure(last.pressure.at_least, stage.pressure.below)
            return
    stages.append(stage)
