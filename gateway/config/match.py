"""Whether the rule that finds a job type finds requests that its routes can serve."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from gateway.config.ability import able_operations, faces, unable
from gateway.config.fields import Fields
from gateway.config.lookup import Known
from gateway.config.models import ModelEntry
from gateway.config.problems import Report, did_you_mean, shown
from gateway.config.schema import MATCH
from gateway.domain.job import AUTO, Operation
from gateway.domain.naming import quality_on, translated
from gateway.domain.policy import JobType
from gateway.domain.route import Model, Route

Wanted = Mapping[str, tuple[str | int | bool, ...]]


def check_match(
    job_type: JobType, fields: Fields, models: Known[ModelEntry], routes: Known[Route], report: Report
) -> None:
    """Report a match that finds requests which none of the routes can serve, and names that nobody knows.

    `models` and `routes` are all of the policy and the catalog: a client may speak of any of them.
    """
    match = fields.within("match", MATCH) if job_type.match else None
    if match is None or job_type.match is None:
        return
    wanted = job_type.match.fields
    known = {name: entry.model for name, entry in models.things.items() if entry}
    _check_abilities(job_type, match, wanted, report)
    if models.complete:
        _check_values(job_type, match, wanted, known, report)
    if "model" in wanted and models.complete and routes.complete:
        _check_models(match, wanted, _names(known, routes), report)


def _check_abilities(job_type: JobType, match: Fields, wanted: Wanted, report: Report) -> None:
    able = [face.capabilities for route in job_type.routes for face in faces(route)]
    operations = wanted.get("operation")
    if operations and not able_operations(job_type.routes) & set(operations):
        named = " and ".join(map(str, operations))
        report.problem(match.at("operation"), f"no route of this job type can {named}; add a route that can")
    if wanted.get("mask") == (True,) and operations == (Operation.GENERATE,):
        report.problem(match.at("mask"), "only an edit has a mask, so this never holds; use operation: edit")
    elif wanted.get("mask") == (True,) and not any(each.mask for each in able):
        report.problem(match.at("mask"), "no route of this job type takes a mask; add a route that does")
    if wanted.get("background") == ("transparent",) and not any(each.transparent for each in able):
        report.problem(
            match.at("background"), "no route of this job type has a transparent background; add a route that has"
        )
    most = max(each.references for each in able)
    references = [each for each in wanted.get("references", ()) if isinstance(each, int)]
    if references and 0 not in references and operations == (Operation.GENERATE,):
        report.problem(
            match.at("references"), "only an edit has input images, so this never holds; use operation: edit"
        )
    elif references and min(references) > most:
        report.problem(match.at("references"), f"no route of this job type takes more than {most} input images")


def _check_values(
    job_type: JobType, match: Fields, wanted: Wanted, models: Mapping[str, Model], report: Report
) -> None:
    """Report values that nobody makes; a size, or a quality of some model, beside one that is made is a warning."""
    words = {word for model in models.values() for word in _qualities(model)}
    for key in ("quality", "size", "output_format"):
        values = [str(value) for value in wanted.get(key, ())]
        wrong = {value: no for value in values if (no := _unserved(key, value, job_type, models))}
        for value, message in wrong.items():
            misspelt = key == "output_format" or (key == "quality" and value not in words)
            tell = report.problem if misspelt or len(wrong) == len(values) else report.warn
            tell(match.at(key), message)


def _unserved(key: str, value: str, job_type: JobType, models: Mapping[str, Model]) -> str | None:
    if value == AUTO and key != "output_format":
        return None
    refusal = unable(key, value, job_type.routes)
    if refusal is None:
        return None
    legacies = [model.legacy for model in models.values() if model.legacy is not None]
    if key == "size":
        meant = {legacy.sizes[value] for legacy in legacies if value in legacy.sizes}
    elif key == "quality":
        meant = {legacy.quality[value] for legacy in legacies if value in legacy.quality}
        if any(_makes(value, speaker, job_type) for speaker in models.values()):
            return None
    else:
        meant = set()
    return None if any(unable(key, each, job_type.routes) is None for each in meant) else refusal


def _makes(word: str, speaker: Model, job_type: JobType) -> bool:
    """Tell whether a route makes a quality of this model, under its own word, by any way that requests take."""
    if word not in speaker.capabilities.quality:
        return False
    house = job_type.routes[0].model
    ways = ((word, speaker), (translated(word, speaker, house), house))
    return any(
        quality_on(route, face, each, whose) in face.capabilities.quality
        for route in job_type.routes
        for face in faces(route)
        for each, whose in ways
    )


def _qualities(model: Model) -> Iterator[str]:
    yield AUTO
    yield from model.capabilities.quality
    yield from model.legacy.quality if model.legacy else ()


def _names(models: Mapping[str, Model], routes: Known[Route]) -> set[str]:
    snapshots = {model.snapshot for model in models.values() if model.snapshot}
    upstream = {route.upstream_model for route in routes.things.values() if route}
    return {*models, *snapshots, *upstream}


def _check_models(match: Fields, wanted: Wanted, known: Collection[str], report: Report) -> None:
    for name in map(str, wanted.get("model", ())):
        if name not in known:
            report.warn(
                match.at("model"),
                f"no model, snapshot or upstream_model is called {shown(name)}{did_you_mean(name, known)}; "
                "right only if clients do send that name",
            )
