"""Policy replay: what another policy would have made of work on record. Prompts are not; the request's shape is.

A booking stays as it was where the policy says the same of such requests as the one that made it, and the budgets
stand where they stood. Otherwise it is decided anew, with what was spent until then under the new policy, and without
the routes that failed it then. Conversations keep their route and are priced by what both models used, where that is on
record. Rates, requests in flight and the health of routes are not played again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from fractions import Fraction

from gateway.domain import money
from gateway.domain.about import job_of
from gateway.domain.batch import IfLate
from gateway.domain.budget import Budget, Candidate, Quota, View
from gateway.domain.caller import Caller
from gateway.domain.choosing import Stands, choose
from gateway.domain.errors import GatewayError
from gateway.domain.job import JOB_PREFIX, Job, Operation, Wishes
from gateway.domain.mark import mark
from gateway.domain.period import window_id
from gateway.domain.policy import JobType, Policy
from gateway.domain.repricing import Repricer
from gateway.domain.route import NOTHING, Views
from gateway.domain.spend import NO_REQUEST, PRESUME, AttemptKey, attempt_of, is_booking
from gateway.domain.trial import Arm
from gateway.ledger.entries import Entry
from gateway.reporting.replay_costs import Fate, ReplayedBooking, Verdict, denied, followed, served
from gateway.request.batching import batch_quote
from gateway.routing.decision import Asked, job_type_of, project_of
from gateway.routing.dry_run import Decided, Undecided, decide_asked
from gateway.steps.experiment import with_arm
from gateway.steps.rank import GOES_LAST


class PolicyReplay:
    """Judges entries, oldest first, by one policy. What came before the period is only remembered."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._repricer = Repricer(policy)
        self._spent: dict[str, int] = {}
        self._apart: dict[str, int] = {}
        """By balance cell, how much more is spent on it than was (micro-USD); cells that stand where they stood not."""
        self._past: dict[AttemptKey, ReplayedBooking] = {}

    def remember(self, entry: Entry) -> None:
        """Take note of what was spent before the period."""
        self._spend(entry, entry.route, entry.provider, entry.cost)

    def judge(self, entry: Entry) -> Verdict:
        """Return what the entry comes to."""
        key = attempt_of(entry)
        if is_booking(entry):
            past = self._decide(entry)
            verdict = past.verdict
            if verdict.fate not in {Fate.KEPT, Fate.LEFT}:  # what follows on one that was kept is kept too
                self._past[key] = past
        elif key in self._past:
            multiplier = (
                self._policy.projects[entry.project].multiplier if entry.project in self._policy.projects else 1
            )
            verdict, self._past[key] = followed(entry, self._past[key], Fraction(multiplier))
        else:
            verdict = Verdict(Fate.KEPT, entry.cost, entry.route)
        self._book(entry, verdict)
        return verdict

    def _book(self, entry: Entry, verdict: Verdict) -> None:
        if verdict.fate in {Fate.KEPT, Fate.LEFT} and verdict.cost == entry.cost:
            self._spend(entry, entry.route, entry.provider, entry.cost)
            return
        for cell, micro in self._cells(entry, entry.route, entry.provider, entry.cost):
            self._shift(cell, -micro)
        route = self._policy.routes.get(verdict.route)
        provider = route.provider.name if route else entry.provider
        for cell, micro in self._spend(entry, verdict.route, provider, verdict.cost):
            self._shift(cell, micro)

    def _shift(self, cell: str, micro: int) -> None:
        apart = self._apart.get(cell, 0) + micro
        if apart:
            self._apart[cell] = apart
        else:
            self._apart.pop(cell, None)

    def _spend(self, entry: Entry, route: str, provider: str, cost: Views) -> list[tuple[str, int]]:
        cells = list(self._cells(entry, route, provider, cost))
        for cell, micro in cells:
            self._spent[cell] = self._spent.get(cell, 0) + micro
        return cells

    def _cells(self, entry: Entry, route: str, provider: str, cost: Views) -> Iterator[tuple[str, int]]:
        if entry.request_id == NO_REQUEST or entry.about.get("shadow"):
            return  # these fall under no budget of a project
        project = self._policy.projects.get(entry.project)
        for budget in (*self._policy.budgets, *(project.budgets if project else ())):
            if budget.scope.covers(
                project=entry.project, key=entry.key, job_type=entry.job_type, route=route, provider=provider
            ):
                micro = {View.OFFICIAL: cost.official, View.ROUTE: cost.route, View.INTERNAL: cost.internal}[
                    budget.view
                ]
                yield _cell(budget, entry.time), money.micro_from_nano(micro)

    def _decide(self, entry: Entry) -> ReplayedBooking:
        kept = ReplayedBooking(
            Verdict(Fate.KEPT, entry.cost, entry.route, _degraded(entry)), None, entry.cost, entry.cost
        )
        if entry.request_id == NO_REQUEST or entry.about.get("shadow"):
            return kept
        on_its_route = entry.operation in {Operation.RESPOND, Operation.PASSTHROUGH}
        return self._repriced(entry, kept) if on_its_route else self._played(entry, kept)

    def _played(self, entry: Entry, kept: ReplayedBooking) -> ReplayedBooking:
        """Return the booking as it is decided anew."""
        try:
            asked = _asked(entry, self._policy)
            if self._is_alike(entry, job_type_of(asked)):
                return kept
            decided = _decided(asked, entry)
        except GatewayError as error:
            return denied(entry, error.code)
        except Undecided as undecided:
            return denied(entry, undecided.error.code)
        decided = _by_batch(_without_failed(decided, entry), entry)
        offered = [_money_alone(candidate) for candidate in decided.candidates]
        choice = choose(offered, lambda rule: self._stands(rule, entry.time))
        if choice.index is None:
            return denied(entry, decided.denial(choice).code)
        maker = self._policy.models.get(entry.model)
        return served(entry, decided.ranked.quotes[choice.index], asked.project.multiplier, maker) or kept

    def _repriced(self, entry: Entry, kept: ReplayedBooking) -> ReplayedBooking:
        """Return what no job on paper stands for on the route that it took, at this policy's prices."""
        project, job_type = self._policy.projects.get(entry.project), self._policy.job_types.get(entry.job_type)
        if project and job_type and entry.about.get("rules") == mark(self._policy, project, job_type):
            return kept
        cost = None if entry.kind == PRESUME else self._repricer.price(entry)
        if cost is None:
            return replace(kept, verdict=replace(kept.verdict, fate=Fate.LEFT))
        verdict = Verdict(Fate.REPRICED, cost, entry.route, _degraded(entry))
        return kept if cost == entry.cost else ReplayedBooking(verdict, None, cost, entry.cost)

    def _is_alike(self, entry: Entry, job_type: JobType) -> bool:
        """Whether the policy says the same of it as the one that it was decided by, and the budgets say so too."""
        project = self._policy.projects[entry.project]
        if job_type.name != entry.job_type or entry.about.get("rules") != mark(self._policy, project, job_type):
            return False
        cells = self._cells(entry, entry.route, entry.provider, NOTHING)
        return not self._apart or all(cell not in self._apart for cell, _ in cells)

    def _stands(self, rule: Budget | Quota, moment: datetime) -> Stands:
        return Stands(max(self._spent.get(_cell(rule, moment), 0), 0)) if isinstance(rule, Budget) else Stands()


def _cell(budget: Budget, moment: datetime) -> str:
    return f"{budget.meter}@{window_id(budget.window, moment)}"


def _money_alone(candidate: Candidate) -> Candidate:
    return replace(candidate, lines=tuple(line for line in candidate.lines if isinstance(line.rule, Budget)))


def _degraded(entry: Entry) -> Mapping[str, str]:
    told = entry.facts.get("degraded")
    return told if isinstance(told, dict) else {}


def _without_failed(decided: Decided, entry: Entry) -> Decided:
    """The decision without the routes that failed the request then, if that leaves any."""
    failed = {str(name) for name in entry.about.get("failed") or ()} - {entry.route}
    left = tuple(quote for quote in decided.ranked.quotes if quote.route.name not in failed)
    return replace(decided, ranked=replace(decided.ranked, quotes=left)) if left else decided


def _by_batch(decided: Decided, entry: Entry) -> Decided:
    """The decision at the prices of batches, for what went by one and may by this policy too."""
    rules = decided.job_type.batch
    if rules is None or "batch" not in entry.facts:
        return decided
    quotes = tuple(
        batch_quote(quote, terms, full=rules.if_late is IfLate.SEND)
        for quote in decided.ranked.quotes
        if (terms := quote.route.provider.batch) and quote.calls == 1 and quote.job.operation in terms.endpoints
    )
    return replace(decided, ranked=replace(decided.ranked, quotes=quotes)) if quotes else decided


def _decided(asked: Asked, entry: Entry) -> Decided:
    """Decide, in the arm of the experiment that the request was in: callers are not on record."""
    name, arm = entry.about.get("experiment"), entry.about.get("arm")

    def prepared(job_type: JobType) -> JobType:
        trial = job_type.experiment
        if trial is None:
            return job_type
        found = next((route for route in trial.routes if route.name == arm), None)
        there = Arm(trial.name, str(arm), found) if trial.name == name else None
        return replace(with_arm(job_type, there), experiment=None)

    return decide_asked(asked, prepared)


class _RecordedConditions:
    """Implements `ports.Conditions`: routes that were in trouble then; what else was known of them is not on record."""

    def __init__(self, entry: Entry) -> None:
        told = entry.about.get("passed_over") or ()
        reasons = {str(each.get("route")): str(each.get("reason")) for each in told if isinstance(each, dict)}
        self._troubles = {route: reason for route, reason in reasons.items() if reason.startswith(GOES_LAST)}

    def suspects(self) -> Collection[str]:
        """Those that were in trouble."""
        return self._troubles.keys()

    def trouble(self, route: str) -> str | None:
        """As recorded."""
        return self._troubles.get(route)

    def latency(self, route: str, job: Job) -> float | None:  # noqa: ARG002 - the contract's
        """Not on record."""
        return None


def _asked(entry: Entry, policy: Policy) -> Asked:
    about = entry.about
    job = job_of(about, entry.operation)
    by_model = job.client_model == JOB_PREFIX + entry.job_type  # what else is named is the key's own, and gave way
    wishes = Wishes(
        job_type=None if by_model else about.get("named_job_type"),
        lane=about.get("lane"),
        max_cost=about.get("max_cost"),
        degrade=about.get("degrade") != "never",
        tags=entry.tags,
    )
    caller = Caller(entry.key, entry.project)
    project, conditions = project_of(caller, policy), _RecordedConditions(entry)
    return Asked(job, wishes, caller, project, policy, entry.time.date(), conditions, seed=entry.request_id)
