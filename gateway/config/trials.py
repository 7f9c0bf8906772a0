"""Ways to try a route beside the ones that serve: experiments on a share of the requests, and shadow requests."""

from __future__ import annotations

from gateway.config.fields import Fields, as_table
from gateway.config.lookup import Known
from gateway.config.problems import Report
from gateway.config.schema import EXPERIMENT, SHADOW, SHADOW_BUDGET
from gateway.config.values import micro_usd, name, one_of, percent
from gateway.domain import money
from gateway.domain.budget import Budget, Scope, Window
from gateway.domain.policy import Experiment, Shadow, SplitBy
from gateway.domain.route import Route

_WHOLE = 10_000
_SHADOWS_A_DAY = 5 * money.MICRO_PER_USD
"""What the shadows of a job type may cost a day where policy does not say, micro-USD: nobody asked for their images."""


def read_experiment(owner: Fields, routes: Known[Route], report: Report) -> Experiment | None:
    """Read `experiment`; None if there is none, or one of its routes cannot be told."""
    fields = owner.within("experiment", EXPERIMENT)
    if fields is None:
        return None
    called = fields.required("name", name)
    by = fields.read("by", one_of(SplitBy))
    node = fields.node("split")
    if node is None:
        if fields.lacks("split"):
            report.problem(fields.place, "split is missing: the share of each route, as {route: 10%}")
        return None
    table = as_table(node, report)
    if not table.nodes:
        report.problem(fields.at("split"), "needs at least one route, as {route: 10%}")
    split: dict[str, int] = {}
    for arm, share in table.nodes.items():
        if arm not in routes.things and routes.complete:
            report.problem(table.keys[arm], routes.unknown(arm))
        if (points := percent(share, report)) is not None:
            split[arm] = points
    if sum(split.values()) > _WHOLE:
        total = f"{sum(split.values()) / 100:g}%"
        report.problem(fields.at("split"), f"the shares add up to {total}; at most 100%, the rest is the arm control")
    found = tuple(route for each in split if (route := routes.things.get(each)))
    if called is None or not split or len(found) < len(split):
        return None
    return Experiment(called, split, found, SplitBy(by) if by else SplitBy.USER)


def read_shadow(type_name: str, owner: Fields, routes: Known[Route], report: Report) -> Shadow | None:
    """Read `shadow`; None if there is none or it is wrong. Its budget is its own: nothing else counts on it."""
    fields = owner.within("shadow", SHADOW)
    if fields is None:
        return None
    route = fields.required("route", routes.find)
    sample = fields.required("sample", percent)
    budget = _budget(type_name, fields, report)
    return Shadow(route, sample, budget) if route and sample and budget else None


def _budget(type_name: str, owner: Fields, report: Report) -> Budget | None:
    fields = owner.within("budget", SHADOW_BUDGET)
    if fields is None:
        return Budget(Scope(shadow=type_name), Window.DAY, _SHADOWS_A_DAY)
    window, limit = fields.required("window", one_of(Window)), fields.required("limit", micro_usd)
    if limit == 0:
        report.problem(fields.at("limit"), "0 admits no shadow request; remove shadow instead")
    if window is None or limit is None:
        return None
    return Budget(Scope(shadow=type_name), Window(window), limit)
