"""Dry run: decides a described request, for `explain` and policy tests. Nothing is read, held or called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from typing import Literal

from gateway.domain.addresses import Egress
from gateway.domain.budget import Budget, Candidate, Quota
from gateway.domain.caller import Caller
from gateway.domain.choosing import Choice, State, choose
from gateway.domain.denial import denial
from gateway.domain.errors import GatewayError, InvalidRequest
from gateway.domain.job import Operation
from gateway.domain.policy import JobType, Policy
from gateway.domain.web_address import BadUrl, check_url
from gateway.ports.provider import Conditions
from gateway.routing.decision import Asked, decide, job_type_of, project_of
from gateway.routing.task_terms import TaskTerms, task_terms
from gateway.steps.accept import accept
from gateway.steps.classify import classify
from gateway.steps.compatibility import modernized
from gateway.steps.rank import Ranked
from gateway.steps.reserve import PayerDetails, candidate

PAPER_KEY = "key_of_nobody"
"""The key's id where a request on paper names none."""

_IMAGES = ("image", "image[]", "images", "image_urls")
_MASKS = ("mask",)


@dataclass(frozen=True, slots=True)
class Sketch:
    """A request on paper: the body's `fields` as a client would send them, header names in lower case.

    Input images are counted by what the fields name; `images` and `mask` say so where they name none.
    """

    project: str
    fields: Mapping[str, object]
    headers: Mapping[str, str] = field(default_factory=dict)
    operation: Operation = Operation.GENERATE
    images: int = 0
    mask: bool = False
    key: str = PAPER_KEY
    key_job_type: str | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """A body's `ports.Shape`."""

    fields: Mapping[str, object]
    images: int
    mask: bool
    encoding: Literal["json"] = "json"


@dataclass(frozen=True, slots=True)
class Decided:
    """A request that is understood, priced and ranked."""

    asked: Asked
    job_type: JobType
    ranked: Ranked
    task_terms: TaskTerms | None = None
    """The terms of the task that it becomes, if it does."""

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """What would be offered to the ledger, in order: one for each quote."""
        asked = self.asked
        payer = PayerDetails(asked.caller, asked.project, self.job_type, asked.policy, may_degrade=asked.wishes.degrade)
        return tuple(candidate(quote, payer) for quote in self.ranked.quotes)

    def rules(self) -> list[Budget | Quota]:
        """Every budget and quota that a candidate would be held on, each once."""
        return list(dict.fromkeys(line.rule for candidate in self.candidates for line in candidate.lines))

    def choice(self, state: State) -> Choice:
        """Return what a hold would come to where the rules stand so."""
        return choose(self.candidates, state)

    def denial(self, choice: Choice) -> GatewayError:
        """Return the error of a choice that is none."""
        quotes, ladder = self.ranked.quotes, self.job_type.degrade
        return denial(choice.denied, quotes, ladder, may_degrade=self.asked.wishes.degrade)


class Undecided(Exception):
    """Nothing is left to try; `error` is what the client is shown. `job_type` is None where it was not even found."""

    def __init__(self, error: GatewayError, job_type: JobType | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.job_type = job_type


def dry_run(sketch: Sketch, policy: Policy, today: date, conditions: Conditions | None = None) -> Decided:
    """Decide a request on paper as it would be decided on that day (UTC); Undecided holds the error to show."""
    try:
        wishes = accept(sketch.headers)
        caller = Caller(sketch.key, sketch.project, sketch.key_job_type)
        project = project_of(caller, policy)
        if "prompt" not in sketch.fields and "input" in sketch.fields:
            message = "A conversation is explained by a dry run alone: POST it with X-Gateway-Dry-Run: true."
            raise InvalidRequest(message, param="input")
        shape = Shape(sketch.fields, _images(sketch), sketch.mask or any(map(sketch.fields.get, _MASKS)))
        job = modernized(classify(sketch.operation, None, shape), shape.fields, project, policy, today)
        terms = task_terms(job, shape.fields, wishes, project, partial(_refusal, policy.egress))
    except GatewayError as error:
        raise Undecided(error) from error
    return replace(decide_asked(Asked(job, wishes, caller, project, policy, today, conditions)), task_terms=terms)


def _refusal(egress: Egress, url: str) -> str | None:
    """Say why policy lets no callback go to a URL; names are looked up only when it is called."""
    try:
        check_url(url, egress)
    except BadUrl as refused:
        return refused.message
    return None


def decide_asked(asked: Asked, prepared: Callable[[JobType], JobType] | None = None) -> Decided:
    """Decide what is asked, by the job type as it stands or `prepared`; Undecided holds the error to show."""
    job_type = None
    try:
        job_type = job_type_of(asked)
        return Decided(asked, job_type, decide(asked, prepared(job_type) if prepared else job_type))
    except GatewayError as error:
        raise Undecided(error, job_type) from error


def _images(sketch: Sketch) -> int:
    named = (sketch.fields.get(name) for name in _IMAGES)
    return sketch.images or sum(len(value) if isinstance(value, list) else 1 for value in named if value)
