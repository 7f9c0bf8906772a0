"""Whether a job type's own routes are fit for what it says: its match, its price limit, its trials."""

from __future__ import annotations

from gateway.config.ability import able_operations, faces
from gateway.config.fields import Fields
from gateway.config.problems import Report
from gateway.config.savings import least_above
from gateway.config.schema import MATCH
from gateway.domain.policy import JobType

_OPAQUE = ("jpeg", "jpg")


def check_defaults(job_type: JobType, fields: Fields, report: Report) -> None:
    """Report defaults that no image can have together."""
    defaults = job_type.defaults
    if defaults.get("background") == "transparent" and defaults.get("output_format") in _OPAQUE:
        report.problem(
            fields.at("defaults"),
            f"background transparent and output_format {defaults['output_format']} exclude each other; use png or webp",
        )


def check_match(job_type: JobType, fields: Fields, report: Report) -> None:
    """Report a match that only finds requests which none of the routes can serve."""
    match = fields.within("match", MATCH) if job_type.match else None
    if match is None or job_type.match is None:
        return
    able = [face.capabilities for route in job_type.routes for face in faces(route)]
    wanted = job_type.match.fields
    operations = wanted.get("operation")
    if operations and not able_operations(job_type.routes) & set(operations):
        named = " and ".join(map(str, operations))
        report.problem(match.at("operation"), f"no route of this job type can {named}; add a route that can")
    if wanted.get("mask") == (True,) and not any(each.mask for each in able):
        report.problem(match.at("mask"), "no route of this job type takes a mask; add a route that does")
    if wanted.get("background") == ("transparent",) and not any(each.transparent for each in able):
        report.problem(
            match.at("background"), "no route of this job type has a transparent background; add a route that has"
        )
    most = max(each.references for each in able)
    references = [each for each in wanted.get("references", ()) if isinstance(each, int)]
    if references and min(references) > most:
        report.problem(match.at("references"), f"no route of this job type takes more than {most} input images")


def check_trials(job_type: JobType, fields: Fields, report: Report) -> None:
    """Report an experiment or shadow that compares a route with itself."""
    only = job_type.routes[0].name if len(job_type.routes) == 1 else None
    if job_type.shadow and job_type.shadow.route.name == only:
        report.problem(
            fields.at("shadow"), f"{only} is the only route, so it would be compared with itself; name another route"
        )
    if job_type.experiment and only in job_type.experiment.split:
        report.problem(
            fields.at("experiment"),
            f"{only} is the only route, so both arms would be the same; name another route in split",
        )


def check_affordable(job_type: JobType, fields: Fields, report: Report) -> None:
    """Report a price limit that every image would exceed."""
    limit = job_type.max_cost_per_image
    least = least_above(job_type, limit) if limit else None
    if least is not None:
        report.problem(
            fields.at("max_cost_per_image"),
            f"every image costs more: the cheapest that is allowed may cost {float(least) / 10**9:.4f} USD; "
            "raise it, allow a lower quality or size, or add a cheaper route",
        )
