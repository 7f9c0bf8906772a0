"""Experiment: which arm the request is in, and that its route is priced, and tried first.

A request is in an experiment only if every route on trial is open to it, so that the arms have the same kind of
requests: lanes that the project lacks, and a model that the client insists on, leave it out of all of them.
"""

from __future__ import annotations

from dataclasses import replace

from gateway.domain.job import JOB_PREFIX
from gateway.domain.policy import ClientModel, JobType, Project
from gateway.domain.route import Route
from gateway.domain.trial import PRODUCTION, Arm, arm_of


def assign(
    job_type: JobType, project: Project, client_model: str | None, *, key_id: str, user: str | None
) -> Arm | None:
    """Return the arm of the job type's experiment that the caller meets; None if the request is in none."""
    experiment = job_type.experiment
    if experiment is None or not all(_is_open(route, project, client_model) for route in experiment.routes):
        return None
    return arm_of(experiment, key_id=key_id, user=user)


def _is_open(route: Route, project: Project, client_model: str | None) -> bool:
    if route.lane not in project.lanes:
        return False
    if client_model is None or client_model.startswith(JOB_PREFIX) or project.client_model is ClientModel.IGNORE:
        return True
    return client_model in (route.model.name, route.model.snapshot, route.upstream_model)


def with_arm(job_type: JobType, arm: Arm | None) -> JobType:
    """Return the job type with the arm's route first; it serves without being asked for by its lane."""
    if arm is None or arm.route is None:
        return job_type
    route = arm.route if arm.route.lane == PRODUCTION else replace(arm.route, lane=PRODUCTION)
    return replace(job_type, routes=(route, *(other for other in job_type.routes if other.name != route.name)))
