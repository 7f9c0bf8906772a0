"""What a job type does as money or room runs out: the steps of its ladder, and what waits when routes are full."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from fractions import Fraction
from itertools import pairwise

from gateway.config.ability import unable
from gateway.config.durations import duration
from gateway.config.fields import Fields
from gateway.config.lookup import Known
from gateway.config.problems import Place, Report
from gateway.config.samples import usual
from gateway.config.savings import cost, saves
from gateway.config.schema import DEGRADE, DEGRADE_SET, THROTTLED
from gateway.config.values import listed, name, one_of, percent, shape, whole
from gateway.domain.ladder import Rung, rungs
from gateway.domain.policy import DegradeStep, JobType, Order, Throttled, WhenFull
from gateway.domain.route import Route

_PATIENCE = 300.0
_MOST_IMAGES = 10


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the ladder with its fields, for problems found once the whole job type is known."""

    step: DegradeStep
    fields: Fields
    settings: Fields | None
    sound: bool

    def at(self, key: str) -> Place:
        """Return the place of a key of the step, or of one of the values that it sets."""
        if self.settings is not None and key in DEGRADE_SET.known:
            return self.settings.at(key)
        return self.fields.at(key)


def read_ladder(owner: Fields, routes: Known[Route], report: Report) -> tuple[Step, ...]:
    """Read `degrade`; steps whose share of the budget cannot be told are reported and left out."""
    steps: list[Step] = []
    for node in owner.items("degrade"):
        before = len(report.problems)
        fields = Fields(node, DEGRADE, report)
        used = fields.required("budget_used", percent, ": from which share of a budget on, as 80%")
        settings = fields.within("set", DEGRADE_SET)
        order = fields.read("order", one_of(Order))
        found = _routes(fields, routes)
        if used is None:
            continue
        if steps and used <= steps[-1].step.budget_used:
            report.problem(
                fields.at("budget_used"),
                f"must be above the {_percentage(steps[-1].step.budget_used)} of the step before it",
            )
        if fields.lacks("set", "order", "route", "routes"):
            report.problem(fields.place, "changes nothing; give at least one of set, order, route and routes")
        elif settings is not None and settings.lacks(*DEGRADE_SET.known):
            report.problem(fields.at("set"), f"sets nothing; give at least one of {', '.join(DEGRADE_SET.known)}")
        read = DegradeStep(used, _settings(settings), Order(order) if order else None, found)
        steps.append(Step(read, fields, settings, sound=len(report.problems) == before))
    return tuple(steps)


def _settings(fields: Fields | None) -> dict[str, str | int]:
    if fields is None:
        return {}
    found: dict[str, str | int | None] = {
        "quality": fields.read("quality", name),
        "size": fields.read("size", shape),
        "n": fields.read("n", whole(1, _MOST_IMAGES)),
    }
    return {key: value for key, value in found.items() if value is not None}


def _routes(fields: Fields, routes: Known[Route]) -> tuple[Route, ...]:
    single, several = fields.read("route", routes.find), fields.read("routes", listed(routes.checked))
    if fields.node("route") is not None and fields.node("routes") is not None:
        fields.report.problem(fields.at("route"), "give one of route and routes, not both")
    if single is not None:
        return (single,)
    return tuple(route for each in several or () if (route := routes.things.get(each)))


def _percentage(points: int) -> str:
    return f"{points / 100:g}%"


def check_ladder(job_type: JobType, steps: tuple[Step, ...], today: date, report: Report) -> None:
    """Report steps that set what no route can do, that change nothing, or that save nothing."""
    if not all(each.sound for each in steps):
        return
    house = job_type.routes[0].model
    for each, (before, after) in zip(steps, pairwise(rungs(job_type)), strict=True):
        words = [(key, each.step.fields.get(key)) for key in ("quality", "size")]
        wrong = [
            (key, no) for key, word in words if isinstance(word, str) and (no := unable(key, word, after.routes, house))
        ]
        for key, message in wrong:
            report.problem(each.at(key), message)
        if not wrong:
            _check_saving(job_type, each, (before, after), today, report)


def _check_saving(job_type: JobType, step: Step, rungs: tuple[Rung, Rung], today: date, report: Report) -> None:
    before, after = rungs
    if replace(before, pressure=after.pressure) == after:
        report.problem(step.fields.place, "changes nothing: all of it is so already below it; remove the step")
        return
    saved = saves(job_type, before, after)
    if saved is False:
        report.problem(
            step.fields.place,
            "saves nothing: no request is cheaper with it than just below it; "
            "lower quality, size or n further, name a cheaper route, or remove the step",
        )
        return
    request = usual(job_type)
    was, becomes = cost(job_type, before, request, today), cost(job_type, after, request, today)
    if was is None or becomes is None:
        return
    if becomes > was:
        report.warn(
            step.fields.place,
            f"makes the request that `defaults` describe dearer: at most {_usd(becomes)} USD instead of {_usd(was)}",
        )
    elif becomes == was and "n" not in step.step.fields:  # fewer images are for requests of several
        report.warn(
            step.fields.place,
            f"saves nothing for the request that `defaults` describe, which costs at most {_usd(was)} USD as before, "
            f"though it {'does' if saved else 'may'} for others",
        )


def _usd(nano: Fraction) -> str:
    return f"{float(nano) / 10**9:.4f}"


def read_throttled(owner: Fields, report: Report) -> Throttled:
    """Read `throttled`; without it no request waits, and the next route is taken."""
    fields = owner.within("throttled", THROTTLED)
    if fields is None:
        return Throttled()
    wait = fields.read("wait", duration) or 0.0
    if wait > _PATIENCE:
        report.warn(fields.at("wait"), f"many clients give up after {_PATIENCE:g}s without an answer; wait less")
    then = fields.read("then", one_of(WhenFull))
    return Throttled(wait, WhenFull(then) if then else WhenFull.NEXT_ROUTE)
