"""Whether a job type's own routes are fit for what it says: its defaults, its price limit, its trials."""

from __future__ import annotations

from gateway.config.fields import Fields
from gateway.config.problems import Report
from gateway.config.savings import least_above
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
