"""Decision: what a request is for, and which routes may do it, in which order and at what price. Nothing is called.

    classify → find the job type → (experiment) → price → rank

The same for a request that is served, for a dry run, for a test of a policy and for history under another policy.

What rests on policy and the shape of the job alone is remembered with the policy: two hundred routes are fitted and
priced once, not for every request. The prompt's length, how routes are doing and what chance decides come on top.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import fields, replace
from datetime import date
from operator import attrgetter

from gateway.domain.caller import Caller
from gateway.domain.errors import Forbidden
from gateway.domain.job import Job, Wishes
from gateway.domain.naming import model_named
from gateway.domain.policy import ClientModel, JobType, Policy, Project
from gateway.domain.record import record
from gateway.domain.route import Route
from gateway.domain.trial import Arm
from gateway.ports.provider import Conditions
from gateway.routing.consideration import Considered, Moment, Setting, consider, rank
from gateway.steps.classify import find_job_type
from gateway.steps.experiment import assign
from gateway.steps.rank import Ranked, check_lane

_OF_ONE_REQUEST = ("client_model", "prompt_chars", "prompt_bytes", "user")
_OF_A_SHAPE = attrgetter(*(item.name for item in fields(Job) if item.name not in _OF_ONE_REQUEST))
"""What two jobs have alike of which one decision holds for both, but for what `_of_its_own` tells."""


@record(frozen=True, slots=True)
class Asked:
    """Who asks for what, under which policy, on which day (UTC). `conditions` is how routes are doing, if known.

    Chance is drawn from `seed`, the request's id: the same request is decided the same way. Without one it is chance.
    """

    job: Job
    wishes: Wishes
    caller: Caller
    project: Project
    policy: Policy
    today: date
    conditions: Conditions | None = None
    seed: str = ""


def job_type_of(asked: Asked) -> JobType:
    """Return what the images are for; raises the error to show."""
    return find_job_type(asked.job, asked.wishes, asked.caller, asked.project, asked.policy)


def decide(asked: Asked, job_type: JobType) -> Ranked:
    """Return what to try, in order, and why not the rest; raises the error to show where nothing is left."""
    setting = Setting(asked.project, asked.wishes, asked.policy, asked.today)
    return rank(weigh(asked, job_type, setting), asked.job, setting, Moment(asked.conditions, asked.seed))


def weigh(asked: Asked, job_type: JobType, setting: Setting) -> Considered:
    """Return what a decision rests on, whatever the moment; raises the error to show where no route can do the job.

    `setting` is that of what is asked.
    """
    check_lane(asked.wishes, asked.project)
    job, project = asked.job, asked.project
    arm = assign(job_type, project, asked.policy, job.client_model, key_id=asked.caller.key_id, user=job.user)
    return _considered(asked, job_type, arm, setting)


def _considered(asked: Asked, job_type: JobType, arm: Arm | None, setting: Setting) -> Considered:
    """What the decision rests on, from memory if such a job was considered before."""
    policy, project, wishes = asked.policy, asked.project, asked.wishes
    if policy.job_types.get(job_type.name) is not job_type:  # made up for the occasion
        return consider(_shape(asked, job_type), job_type, arm, setting)
    key: Hashable = (
        job_type.name,
        *_OF_A_SHAPE(asked.job),
        *_of_its_own(asked, job_type),
        project.lanes,
        project.client_model,
        wishes.lane,
        wishes.degrade,
        asked.today,
        arm.name if arm else None,
    )
    known = policy.memory.find(key)
    if isinstance(known, Considered):
        return known
    found = consider(_shape(asked, job_type), job_type, arm, setting)
    policy.memory.keep(key, found, found.weight)
    return found


def _shape(asked: Asked, job_type: JobType) -> Job:
    """The job without what is looked at for each request anew, so that many requests are alike."""
    client_model, prompt_chars = _of_its_own(asked, job_type)
    return replace(asked.job, client_model=client_model, prompt_chars=prompt_chars, prompt_bytes=0, user=None)


def _of_its_own(asked: Asked, job_type: JobType) -> tuple[str | None, int]:
    """What of the client's model and of the prompt's length makes a difference."""
    job, policy = asked.job, asked.policy
    heeded = asked.project.client_model is not ClientModel.IGNORE or model_named(job.client_model, policy) is not None
    too_long = job.prompt_chars > longest_prompt(job_type, policy)
    return job.client_model if heeded else None, job.prompt_chars if too_long else 0


def longest_prompt(job_type: JobType, policy: Policy) -> int:
    """Return how many characters of prompt every route takes that may be asked."""
    key, own = ("shortest prompt", job_type.name), policy.job_types.get(job_type.name) is job_type
    known = policy.memory.find(key) if own else None
    if isinstance(known, int):
        return known
    routes = [*job_type.routes, *(route for step in job_type.degrade for route in step.routes)]
    routes += job_type.experiment.routes if job_type.experiment else ()
    shortest = min((_takes(route) for route in routes), default=0)
    if own:
        policy.memory.keep(key, shortest, 1)
    return shortest


def _takes(route: Route) -> int:
    """The characters of prompt that a route takes, before and after its model's retirement."""
    takes = route.capabilities.prompt_chars
    return min(takes, _takes(route.successor)) if route.successor else takes


def project_of(caller: Caller, policy: Policy) -> Project:
    """Return the caller's project, or Forbidden if policy no longer names it."""
    project = policy.projects.get(caller.project)
    if project is None:
        message = f"Policy has no project {caller.project!r}, which this key belongs to; ask your platform team."
        raise Forbidden(message, code="project_not_found")
    return project
