"""Planning: from a body to a request that is classified, priced and ranked. Nothing is held, nothing is sent."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import date

from gateway.domain.accounts import file_of, refused, shared
from gateway.domain.caller import Caller
from gateway.domain.input_urls import refuse_inside
from gateway.domain.job import Job
from gateway.domain.policy import JobType, Policy, Project
from gateway.images.archive import Archives
from gateway.images.linking import Linker
from gateway.images.own_images import WithOwnImages, own_images
from gateway.ports import Body
from gateway.ports.provider import Conditions
from gateway.ports.tracing import Choices
from gateway.request.exchange import Admitted, Exchange
from gateway.routing.consideration import Moment, Setting, rank
from gateway.routing.decision import Asked, job_type_of, weigh
from gateway.routing.decision_cache import Question, as_before, question_of, rank_again, recall, remember
from gateway.routing.task_terms import Guard, TaskTerms, plain_guard, task_terms
from gateway.steps.classify import classify
from gateway.steps.compatibility import modernized
from gateway.steps.rank import Ranked


@dataclass(frozen=True, slots=True)
class RequestPlanner:
    """What every request of a process is understood by. `guard` judges the URLs that clients want to be called."""

    today: Callable[[], date]
    conditions: Conditions
    archives: Archives
    guard: Guard = plain_guard
    choices: Choices | None = None

    @property
    def linker(self) -> Linker:
        """What makes links to images, and knows them again."""
        return self.archives.linker

    def admitted(
        self, exchange: Exchange, caller: Caller, project: Project, policy: Policy, body: Body
    ) -> tuple[Admitted, TaskTerms | None]:
        """Return the request, and the terms of its task if it asks for one; raises the error to show.

        The exchange has its wishes already; it learns the rest here.
        """
        if self.choices is not None:
            return self._traced(exchange, caller, project, policy, body)
        wishes, today, ranked = exchange.wishes, self.today(), None
        question = question_of(exchange.inbound, body, caller, project, wishes, policy=policy, today=today)
        known = None if question is None else recall(question, policy)
        terms: TaskTerms | None = None
        if question is None or known is None:
            setting = Setting(project, wishes, policy, today)
            body, job, job_type, ranked, terms = self._anew(exchange, caller, setting, body, question)
        else:
            exchange.job = job = known.job
            exchange.job_type = job_type = known.considered.job_type
            ranked = as_before(known, wishes, self.conditions)
            if ranked is None:
                setting = Setting(project, wishes, policy, today)
                ranked = rank_again(question, known, setting, self.conditions, exchange.inbound.request_id)
        exchange.arm = ranked.arm
        self.archives.equip(exchange, project, job_type)
        if body.images:
            exchange.uploads = self.linker.uploads(project.name)
        return Admitted(exchange, caller, project, job, job_type, policy, ranked, body, today), terms

    def _traced(
        self, exchange: Exchange, caller: Caller, project: Project, policy: Policy, body: Body
    ) -> tuple[Admitted, TaskTerms | None]:
        assert self.choices is not None
        with self.choices.choosing() as choice:
            untraced = replace(self, choices=None)
            admitted, terms = untraced.admitted(exchange, caller, project, policy, body)
            ranked = admitted.ranked
            choice.made(ranked.quotes[0].route.name, len(ranked.quotes), len(ranked.refusals))
        return admitted, terms

    def _anew(
        self, exchange: Exchange, caller: Caller, setting: Setting, body: Body, question: Question | None
    ) -> tuple[Body, Job, JobType, Ranked, TaskTerms | None]:
        """Work a request out, and remember what it came to under the question, if there is one."""
        inbound, wishes, project, policy = exchange.inbound, setting.wishes, setting.project, setting.policy
        job = classify(inbound.operation, inbound.path_model, body)
        own: dict[str, str] = {}
        if body.images and body.encoding == "json":
            own = own_images(body.fields, self.linker, project.name, self.linker.base(inbound.headers))
            body = WithOwnImages(body, own, self.linker) if own else body
        refuse_inside(body.fields, policy.egress, self._public(own))
        exchange.job = job = modernized(job, body.fields, project, policy, setting.today)
        terms = task_terms(job, body.fields, wishes, project, self.guard)
        asked = Asked(job, wishes, caller, project, policy, setting.today, self.conditions, inbound.request_id)
        exchange.job_type = job_type = job_type_of(asked)
        considered = weigh(asked, job_type, setting)
        ranked = rank(considered, job, setting, Moment(self.conditions, inbound.request_id))
        if body.images and (file := file_of(body.fields)) is not None:
            ranked = _of_its_own(ranked, file, asked)
        if question is not None and terms is None:
            remember(question, policy, job, considered, ranked)
        return body, job, job_type, ranked, terms

    def _public(self, own: Collection[str]) -> Collection[str]:
        return [url for url in own if self.linker.is_public(url)]


def _of_its_own(ranked: Ranked, file: str, asked: Asked) -> Ranked:
    """Return the routes at accounts of the project's own, for a file that is named by its id; the error if none is."""
    others = shared(asked.policy, asked.project)
    quotes = [quote for quote in ranked.quotes if quote.route.provider.name not in others]
    if not quotes:
        raise refused(file)
    return replace(ranked, quotes=quotes)
