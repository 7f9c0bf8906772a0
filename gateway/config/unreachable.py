"""What nobody can reach: unused routes and job types, lanes that no project has, matches that others take before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from itertools import combinations

from gateway.config.documents import Table
from gateway.config.problems import Place, Report
from gateway.config.sources import Entry
from gateway.domain.naming import serving
from gateway.domain.policy import JobType, Match, Project
from gateway.domain.route import Route

Entries = Mapping[str, Mapping[str, Entry]]


def check_matches(
    entries: Entries, job_types: Mapping[str, JobType], projects: Mapping[str, Project], report: Report
) -> None:
    """Report matches of one project's job types that hold for the same requests: the first one listed takes them."""
    matching = [(name, found.match) for name, found in job_types.items() if found.match and found.match.fields]
    for (first, one), (second, other) in combinations(matching, 2):
        if not _overlap(one, other):
            continue
        sharing = [each.name for each in projects.values() if {first, second} <= set(each.job_types)]
        if not sharing:
            continue
        place = _place(entries["job_types"][second], "match")
        if one.fields == other.fields:
            report.problem(
                place,
                f"is the same as that of {first}, which takes every such request of project {sharing[0]}; change one",
            )
        elif _covers(one, other):
            report.warn(
                place,
                f"never holds in project {sharing[0]}: {first} stands before it and takes all such requests; "
                f"list {second} first, or narrow {first}",
            )
        elif not _covers(other, one):
            report.warn(
                place,
                f"holds for some of the requests that {first} matches too, in project {sharing[0]}; "
                f"{first} wins, being listed first; tell them apart by another field if that is not meant",
            )


def _overlap(one: Match, other: Match) -> bool:
    shared = one.fields.keys() & other.fields.keys()
    return all(set(one.fields[key]) & set(other.fields[key]) for key in shared)


def _covers(wide: Match, narrow: Match) -> bool:
    """Tell whether every request that the narrow one matches is matched by the wide one."""
    return all(set(values) >= set(narrow.fields.get(key, (None,))) for key, values in wide.fields.items())


def warn_unreached(
    entries: Entries, job_types: Mapping[str, JobType], projects: Mapping[str, Project], report: Report
) -> None:
    """Warn of what is defined and never used, in a policy that is otherwise sound."""
    used = {route.name for job_type in job_types.values() for route in _routes(job_type)}
    _warn_missing(entries["routes"], used, "no job type uses this route", report)
    served = {name for project in projects.values() for name in project.job_types}
    _warn_missing(entries["job_types"], served, "no project uses this job type", report)


def _routes(job_type: JobType) -> Iterator[Route]:
    yield from job_type.routes
    for step in job_type.degrade:
        yield from step.routes
    if job_type.experiment:
        yield from job_type.experiment.routes
    if job_type.shadow:
        yield job_type.shadow.route


def _warn_missing(entries: Mapping[str, Entry], used: Iterable[str], message: str, report: Report) -> None:
    wanted = set(used)
    for name, entry in entries.items():
        if name not in wanted:
            report.warn(entry.place, message)


def warn_of_lanes(
    entries: Entries, job_types: Mapping[str, JobType], projects: Mapping[str, Project], report: Report
) -> None:
    """Warn of routes in a lane that no project with their job type has, so that no request ever goes there."""
    for name, job_type in job_types.items():
        lanes: set[str] = set()
        for project in projects.values():
            lanes |= project.lanes if name in project.job_types else frozenset()
        trial = job_type.experiment.routes if job_type.experiment else ()
        steps = [route for step in job_type.degrade for route in step.routes]
        for key, routes in (("routes", job_type.routes), ("degrade", steps), ("experiment", trial)):
            for route in dict.fromkeys(each.name for each in routes if lanes and each.lane not in lanes):
                place = _place(entries["job_types"][name], key)
                report.warn(
                    place,
                    f"{route} serves only the testing lane, which no project with this job type has; "
                    "add `testing` to the lanes of one, or leave the route out",
                )


def warn_of_dead(entries: Entries, job_types: Mapping[str, JobType], today: date, report: Report) -> None:
    """Warn of job types all of whose routes have retired with nothing to serve instead."""
    for name, job_type in job_types.items():
        if job_type.routes and all(serving(route, today) is None for route in job_type.routes):
            report.warn(
                _place(entries["job_types"][name], "routes"),
                "the models of all these routes have retired, so every request is refused; add a route that answers",
            )


def _place(entry: Entry, key: str) -> Place:
    return entry.node.keys.get(key, entry.place) if isinstance(entry.node, Table) else entry.place
