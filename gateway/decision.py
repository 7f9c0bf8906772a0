"""Decision: what a request is for, and which routes may do it, in which order and at what price. Nothing is called.

    classify → find the job type → price → rank

The same for a request that is served, for a dry run, for a test of a policy and for history under another policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from gateway.domain.caller import Caller
from gateway.domain.job import Job, Wishes
from gateway.domain.policy import JobType, Policy, Project
from gateway.ports import Conditions
from gateway.steps.classify import find_job_type
from gateway.steps.price import able_routes, price
from gateway.steps.rank import Ranked, rank


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks for what, under which policy, on which day (UTC). `conditions` is how routes are doing, if known."""

    job: Job
    wishes: Wishes
    caller: Caller
    project: Project
    policy: Policy
    today: date
    conditions: Conditions | None = None


def job_type_of(asked: Asked) -> JobType:
    """Return what the images are for; raises the error to show."""
    return find_job_type(asked.job, asked.wishes, asked.caller, asked.project, asked.policy)


def decide(asked: Asked, job_type: JobType) -> Ranked:
    """Return what to try, in order, and why not the rest; raises the error to show where nothing is left."""
    job, wishes, project, policy = asked.job, asked.wishes, asked.project, asked.policy
    quotes, refusals = price(job, job_type, project, wishes.lane, asked.today)
    able = [] if quotes else able_routes(job, policy, project, wishes.lane, asked.today)
    return rank(
        quotes,
        refusals,
        client_model=job.client_model,
        wishes=wishes,
        job_type=job_type,
        project=project,
        policy=policy,
        able=able,
    )
