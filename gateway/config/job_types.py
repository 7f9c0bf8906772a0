"""Job types: what an image is for, which routes may make it, within what."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from gateway.config.ability import allows, unable
from gateway.config.batch import read_collecting
from gateway.config.durations import keeping
from gateway.config.fields import Fields, as_table
from gateway.config.fitness import check_affordable, check_defaults, check_trials
from gateway.config.ladder import check_ladder, read_ladder, read_throttled
from gateway.config.lookup import Known
from gateway.config.match import check_match
from gateway.config.models import ModelEntry
from gateway.config.problems import Report, did_you_mean, shown
from gateway.config.responses import Talkers, read_responses
from gateway.config.schema import JOB_FIELDS, JOB_TYPE, MATCH, RETRY
from gateway.config.sources import Entry
from gateway.config.trials import read_experiment, read_shadow
from gateway.config.values import (
    Reader,
    listed,
    name,
    one_of,
    one_or_listed,
    shape,
    shape_or_auto,
    truth,
    usd,
    whole,
)
from gateway.domain.job import Operation
from gateway.domain.policy import JobType, Match, OnUnknown, Order, Retry
from gateway.domain.route import Route

_MOST_ATTEMPTS = 10
_MOST_IMAGES = 10
_MOST_REFERENCES = 100
_MOST_WEIGHT = 1_000_000
_FIELDS: Mapping[str, Reader[str]] = {
    "quality": name,
    "size": shape,
    "background": one_of(("transparent", "opaque")),
    "output_format": name,
}
_MATCHERS: Mapping[str, Reader[str | int | bool]] = {
    "operation": one_of((Operation.GENERATE, Operation.EDIT)),
    "model": name,
    "quality": name,
    "size": shape_or_auto,
    "background": one_of(("transparent", "opaque", "auto")),
    "output_format": name,
    "mask": truth,
    "stream": truth,
    "n": whole(1, _MOST_IMAGES),
    "references": whole(0, _MOST_REFERENCES),
}


def read_job_type(
    type_name: str,
    entry: Entry,
    routes: Known[Route],
    models: Known[ModelEntry],
    talkers: Talkers,
    *,
    today: date,
    report: Report,
) -> JobType:
    """Read one entry of the `job_types` section."""
    fields = Fields(entry.node, JOB_TYPE, report, entry.place)
    before = len(report.problems)
    found = _routes(fields, routes)
    order = Order(fields.read("order", one_of(Order)) or Order.LISTED)
    defaults, allow = _values(fields, found or (), report)
    maximum = fields.read("max_cost_per_image", usd)
    if maximum == 0:
        report.problem(fields.at("max_cost_per_image"), "0 would refuse every image")
    rungs = read_ladder(fields, routes, report)
    job_type = JobType(
        name=type_name,
        routes=found or (),
        match=_match(fields, report),
        defaults=defaults,
        allow=allow,
        max_cost_per_image=maximum,
        retry=_retry(fields),
        order=order,
        weights=_weights(fields, order, report),
        degrade=tuple(rung.step for rung in rungs),
        throttled=read_throttled(fields, report),
        experiment=read_experiment(fields, routes, report),
        shadow=read_shadow(type_name, fields, routes, report),
        cache=fields.read("cache", keeping),
        responses=read_responses(fields, found or (), talkers, report),
        batch=read_collecting(fields, found or (), report),
    )
    if found:
        check_defaults(job_type, fields, report)
        check_match(job_type, fields, models, routes, report)
        check_trials(job_type, fields, report)
    if found and len(report.problems) == before:
        check_affordable(job_type, fields, report)
        check_ladder(job_type, rungs, today, report)
    return job_type


def _values(
    fields: Fields, routes: tuple[Route, ...], report: Report
) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """Return the defaults, and what is allowed: the former, and some of the latter, are what a route can do."""
    defaults_at, allow_at = fields.within("defaults", JOB_FIELDS), fields.within("allow", JOB_FIELDS)
    defaults = _defaults(defaults_at) if defaults_at else {}
    allow = _allow(allow_at) if allow_at else {}
    for key, value in defaults.items():
        if defaults_at and key in allow and not allows(key, value, allow[key]):
            report.problem(defaults_at.at(key), f"{value} is not in allow ({', '.join(allow[key])})")
        if defaults_at and (no_route := unable(key, value, routes)):
            report.problem(defaults_at.at(key), no_route)
    if allow_at:
        _check_allowed(allow_at, allow, routes, report)
    return defaults, allow


def _check_allowed(
    fields: Fields, allow: Mapping[str, tuple[str, ...]], routes: tuple[Route, ...], report: Report
) -> None:
    for key, values in allow.items():
        refusals = [no_route for value in values if (no_route := unable(key, value, routes))]
        # Where none can be done, only those who ask for none would be served, and by what is not allowed.
        tell = report.problem if len(refusals) == len(values) else report.warn
        for no_route in refusals:
            tell(fields.at(key), no_route)


def _routes(fields: Fields, routes: Known[Route]) -> tuple[Route, ...] | None:
    """Return the routes in order; None if any of them is not known or was wrong itself."""
    names = fields.required("routes", listed(routes.checked))
    if names is None or len(names) < len(fields.items("routes")):
        return None
    found = tuple(route for each in names if (route := routes.things.get(each)))
    return found if len(found) == len(names) else None


def _weights(fields: Fields, order: Order, report: Report) -> dict[str, int]:
    node = fields.node("weights")
    if node is None:
        return {}
    table = as_table(node, report)
    if order is not Order.WEIGHTED:
        report.problem(fields.at("weights"), f"order {order} knows no weights; use order: weighted, or remove them")
    names = [getattr(each, "text", "") for each in fields.items("routes")]
    weights: dict[str, int] = {}
    for route, each in table.nodes.items():
        if route not in names:
            hint = did_you_mean(route, names)
            report.problem(
                table.keys[route],
                f"{shown(route)} is not among the job type's routes{hint}; add it there, or remove it here",
            )
        elif getattr(each, "text", "") == "0":
            report.problem(each.place, "a weight of 0 would never choose it; take the route out of routes instead")
        elif weight := whole(1, _MOST_WEIGHT)(each, report):
            weights[route] = weight
    return weights


def _match(owner: Fields, report: Report) -> Match | None:
    fields = owner.within("match", MATCH)
    if fields is None:
        return None
    found: dict[str, tuple[str | int | bool, ...]] = {}
    for key, reader in _MATCHERS.items():
        several: Reader[tuple[str | int | bool, ...]] = one_or_listed(reader)
        if values := fields.read(key, several):
            found[key] = values
    if fields.lacks(*MATCH.known):
        report.problem(owner.at("match"), "names no field, so it would take every request; use default_job_type")
    return Match(found)


def _defaults(fields: Fields) -> dict[str, str]:
    return {key: value for key, reader in _FIELDS.items() if (value := fields.read(key, reader)) is not None}


def _allow(fields: Fields) -> dict[str, tuple[str, ...]]:
    return {key: values for key, reader in _FIELDS.items() if (values := fields.read(key, listed(reader)))}


def _retry(owner: Fields) -> Retry:
    fields = owner.within("retry", RETRY)
    if fields is None:
        return Retry()
    unknown = fields.read("on_unknown", one_of(OnUnknown))
    return Retry(
        attempts=fields.read("attempts", whole(1, _MOST_ATTEMPTS)) or Retry().attempts,
        on_unknown=OnUnknown(unknown) if unknown else OnUnknown.HOLD,
    )
