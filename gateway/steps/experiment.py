"""Experiment: which arm the request is in, and that its route is priced, and tried first.

A request is in an experiment only if every route on trial is open to it, so that the arms have the same kind of
requests: lanes that the project lacks, and a model that the client insists on, leave it out of all of them.
"""

from __future__ import annotations

from dataclasses import replace

from gateway.domain.naming import model_named
from gateway.domain.policy import ClientModel, Experiment, JobType, Policy, Project
from gateway.domain.route import Route
from gateway.domain.trial import PRODUCTION, Arm, arm_of


def assign(
    job_type: JobType, project: Project, policy: Policy, client_model: str | None, *, key_id: str, user: str | None
) -> Arm | None:
    """Return the arm of the job type's experiment that the caller meets; None if the request is in none."""
    experiment = job_type.experiment
    if experiment is None:
        return None
    insisted = None if project.client_model is ClientModel.IGNORE else client_model
    if insisted is not None and not _is_known(insisted, job_type, experiment, policy):
        insisted = None
    if not all(_is_open(route, project, insisted) for route in experiment.routes):
        return None
    return arm_of(experiment, key_id=key_id, user=user)


def _is_known(name: str, job_type: JobType, experiment: Experiment, policy: Policy) -> bool:
    """Tell whether a name is a model's, or what a provider calls one; a job type's is neither."""
    sold = (*job_type.routes, *experiment.routes)
    return model_named(name, policy) is not None or any(route.upstream_model == name for route in sold)


def _is_open(route: Route, project: Project, insisted: str | None) -> bool:
    if route.lane not in project.lanes:
        return False
    return insisted is None or insisted in (route.model.name, route.model.snapshot, route.upstream_model)


def with_arm(job_type: JobType, arm: Arm | None) -> JobType:
    """Return the job type with the arm's route first; it serves without being asked for by its lane."""
    if arm is None or arm.route is None:
        return job_type
    route = arm.route if arm.route.lane == PRODUCTION else replace(arm.route, lane=PRODUCTION)
    return replace(job_type, routes=(route, *(other for other in job_type.routes if other.name != route.name)))
