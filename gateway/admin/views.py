"""What the admin plane shows as JSON: spend, budgets, routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict

from gateway.domain import money
from gateway.domain.budget import Window
from gateway.domain.errors import InvalidRequest
from gateway.domain.policy import Policy
from gateway.observe.scrape import RouteState
from gateway.process.app import Application
from gateway.reporting.experiments import ArmsReport, arms_report
from gateway.reporting.reports import ReportError, ReportSource, SpendReport, check_project, period_of, spend_report
from gateway.routing.health import RouteHealth

View = Callable[[Mapping[str, str]], Awaitable[object]]


def admin_views(application: Application, *, makes_calls: bool = True) -> dict[str, View]:
    """Return every view by its name under `/admin/`; each takes the query's parameters.

    A process that makes no calls knows nothing of the health of routes, and shows none.
    """

    async def spend(query: Mapping[str, str]) -> object:
        by = [name for name in query.get("by", "project,job_type,route").split(",") if name]
        window = _window(query)
        try:
            period = period_of(window, query.get("since"), query.get("until"))
        except ReportError as error:
            raise InvalidRequest(str(error), param="until" if "until" in query else "since") from error
        source = ReportSource(application.store, application.realm, period, query.get("project"))
        shadows, name = _shadows(query), query.get("experiment")
        found: SpendReport | ArmsReport
        try:
            if name is not None:
                known = _experiments(application.policy)
                found = await arms_report(source, name, known=known)
            else:
                found = await spend_report(source, by, shadows=shadows)
        except ReportError as error:
            raise InvalidRequest(str(error), param="by" if name is None else "experiment") from error
        if not found.table():
            await _check_project(application, source)
        return found.as_json()

    async def budgets(_: Mapping[str, str]) -> object:
        found = (await application.snapshot()).budgets
        return [
            {
                "scope": budget.scope,
                "window": budget.window,
                "view": budget.view,
                "limit_usd": _usd(budget.limit),
                "used_usd": _usd(budget.used),
                "held_usd": _usd(budget.held),
                "left_usd": _usd(max(budget.limit - budget.used - budget.held, 0)),
            }
            for budget in found
        ]

    async def routes(_: Mapping[str, str]) -> object:
        found = (await application.snapshot()).routes
        return [_route(route, application.health.of(route.route) if makes_calls else None) for route in found]

    return {"spend": spend, "budgets": budgets, "routes": routes}


def _window(query: Mapping[str, str]) -> Window:
    """Return the window of a question about spend; InvalidRequest if it asks for what is not there."""
    if "window" in query and query.keys() & {"since", "until"}:
        raise InvalidRequest("window is a period of its own: give that, or since and until.", param="window")
    window = query.get("window", Window.MONTH.value)
    if window not in list(Window):
        raise InvalidRequest(f"window must be one of {', '.join(Window)}.", param="window")
    return Window(window)


async def _check_project(application: Application, source: ReportSource) -> None:
    """Raise InvalidRequest for a project that neither the policy nor the records know."""
    try:
        await check_project(source, known=application.policy.projects)
    except ReportError as error:
        raise InvalidRequest(str(error), param="project") from error


def _shadows(query: Mapping[str, str]) -> bool:
    """Return whether shadow requests are asked for too; InvalidRequest for another word, or beside an experiment."""
    if "experiment" in query and (other := next((name for name in ("by", "shadow") if name in query), None)):
        raise InvalidRequest("experiment is a report of its own: it takes neither by nor shadow.", param=other)
    shadow = query.get("shadow", "false")
    if shadow not in {"true", "false"}:
        raise InvalidRequest("shadow must be true or false.", param="shadow")
    return shadow == "true"


def _experiments(policy: Policy) -> set[str]:
    return {job_type.experiment.name for job_type in policy.job_types.values() if job_type.experiment}


def _route(route: RouteState, health: RouteHealth | None) -> dict[str, object]:
    return {
        "route": route.route,
        "available": route.available,
        "images_remaining": route.images_remaining,
        "health": None if health is None else _health(health),
        "limits": [asdict(limit) for limit in route.limits],
    }


def _health(health: RouteHealth) -> dict[str, object]:
    return {
        "circuit": health.circuit,
        "ejected_for_seconds": round(health.seconds, 3),
        "weight": round(health.weight, 3),
        "failures_in_a_row": health.failures,
        "ejections_in_a_row": health.ejections,
    }


def _usd(micro: int) -> str:
    return money.format_usd(micro * money.NANO_PER_MICRO)
