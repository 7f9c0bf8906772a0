"""Running policy tests: each request is decided as it would be, and what differs from what was expected is told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from gateway.config.policy_test_cases import Case, Used
from gateway.config.policy_tests import read_policy_tests
from gateway.config.problems import Problem
from gateway.domain import money
from gateway.domain.budget import Budget, Quota
from gateway.domain.choosing import WHOLE, Choice, Stands
from gateway.domain.errors import GatewayError
from gateway.domain.policy import Policy
from gateway.domain.route import Quote, Refusal
from gateway.routing.dry_run import Decided, Undecided, dry_run
from gateway.steps.reserve import limits_of


@dataclass(frozen=True, slots=True)
class PolicyTestRun:
    """How many tests passed and failed, and what failed, sorted; mistakes in the tests themselves are failures too."""

    passed: int
    failed: int
    failures: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of a request: a quote, or an error; and why routes were passed over."""

    job_type: str | None
    quote: Quote | None = None
    error: GatewayError | None = None
    refusals: Sequence[Refusal] = ()


def run_policy_tests(directory: Path, policy: Policy, today: date) -> PolicyTestRun:
    """Run every test in the folder `tests` of a policy directory; a test that names no date is about `today` (UTC)."""
    read = read_policy_tests(directory, policy)
    found = [list(_failures(case, policy, today)) for case in read.cases]
    failed = sum(map(bool, found))
    failures = {failure for each in found for failure in each}
    return PolicyTestRun(len(found) - failed, failed + read.mistaken, tuple(sorted({*read.problems, *failures})))


def _failures(case: Case, policy: Policy, today: date) -> Iterator[Problem]:
    place = case.place
    for message in _unknown_budgets(case, policy):
        yield Problem(place.file, place.line, place.key, message)
    outcome = _outcome(case, policy, today)
    for key, message in (*_served(case, outcome), *_refused(case, outcome)):
        at = case.expected.places.get(key, place)
        yield Problem(at.file, at.line, place.key, message)


def _outcome(case: Case, policy: Policy, today: date) -> _Outcome:
    try:
        decided = dry_run(case.sketch, policy, case.date or today)
    except Undecided as undecided:
        return _Outcome(undecided.job_type.name if undecided.job_type else None, error=undecided.error)
    choice = _choice(case, decided)
    job_type, refusals = decided.job_type.name, decided.ranked.refusals
    if choice.index is None:
        return _Outcome(job_type, error=decided.denial(choice), refusals=refusals)
    return _Outcome(job_type, quote=decided.ranked.quotes[choice.index], refusals=refusals)


def _choice(case: Case, decided: Decided) -> Choice:
    def stands(rule: Budget | Quota) -> Stands:
        if isinstance(rule, Quota):
            return Stands(rule.limit, reset=1.0) if _is_full(rule, case.full, decided) else Stands()
        found = [used for used in case.used if _is_meant(used, rule)]
        # The last one counts, so that a narrow one may follow a broad one.
        return Stands(_micro(found[-1], rule)) if found else Stands()

    return decided.choice(stands)


def _is_full(rule: Quota, full: Sequence[str], decided: Decided) -> bool:
    """Whether a route that is said to be full, or its account, has this limit."""
    routes = decided.asked.policy.routes
    return any(rule in limits_of(routes[name]) for name in full)


def _micro(used: Used, rule: Budget) -> int:
    """What is used: just so much that the share is reached."""
    return used.amount if used.amount is not None else -(-rule.limit * (used.share or 0) // WHOLE)


def _is_meant(used: Used, rule: Budget) -> bool:
    scope = rule.scope
    wanted = (
        (used.job_type, scope.job_type),
        (used.key, scope.key),
        (used.route, scope.route),
        (used.view, rule.view),
        (used.common, scope.project is None),
    )
    return used.window is rule.window and all(mine is None or mine == theirs for mine, theirs in wanted)


def _unknown_budgets(case: Case, policy: Policy) -> Iterator[str]:
    """Tell of budgets said to be used, and routes said to be full, that the test's project does not have."""
    project = policy.projects[case.sketch.project]
    budgets = (*policy.budgets, *project.budgets)
    for used in case.used:
        if not any(_is_meant(used, rule) for rule in budgets):
            have = ", ".join(f"{rule.scope.label()} per {rule.window}" for rule in budgets) or "no budget"
            yield f"budget_used: {_called(used)} is no budget of project {project.name}, which has {have}"
    for name in case.full:
        if not limits_of(policy.routes[name]):
            yield f"full: route {name} has no limits, so it is never full"


def _called(used: Used) -> str:
    parts = [f"window {used.window}"]
    named = (("job_type", used.job_type), ("key", used.key), ("route", used.route), ("view", used.view))
    parts += [f"{key} {value}" for key, value in named if value is not None]
    parts += [] if used.common is None else [f"common {str(used.common).lower()}"]
    return ", ".join(parts)


def _served(case: Case, outcome: _Outcome) -> Iterator[tuple[str, str]]:
    """What differs of the decision, by key of `expect`."""
    expected, quote, error = case.expected, outcome.quote, outcome.error
    if expected.job_type is not None and expected.job_type != outcome.job_type:
        yield "job_type", _differs("job_type", expected.job_type, outcome.job_type or _told(outcome))
    if expected.error is not None:
        got = (error.code, str(error.status)) if error else ()
        if expected.error not in got:
            yield "error", _differs("error", expected.error, _told(outcome))
        return
    if quote is None:
        yield "route", f"expected {_wanted(case)}, got {_told(outcome)}"
        return
    if expected.route is not None and quote.route.name not in expected.route:
        yield "route", _differs("route", " or ".join(expected.route), quote.route.name)
    got_by_key = {
        "model": (expected.model, quote.route.model.name),
        "quality": (expected.quality, quote.job.quality),
        "size": (expected.size, quote.job.size),
        "n": (expected.n, quote.job.n),
        "replaced": (expected.replaced, quote.replaced),
    }
    for key, (wanted, found) in got_by_key.items():
        if wanted is not None and wanted != found:
            yield key, _differs(key, str(wanted), str(found or "none"))
    if expected.degraded is not None and expected.degraded != dict(quote.degraded):
        yield "degraded", _differs("degraded", _pairs(expected.degraded), _pairs(dict(quote.degraded)))
    if expected.cost is not None and expected.cost != quote.worst.route:
        yield "cost", _differs("cost", money.format_usd(expected.cost), money.format_usd(quote.worst.route))


def _refused(case: Case, outcome: _Outcome) -> Iterator[tuple[str, str]]:
    """Routes that were expected to be passed over for a reason, and were not; words are looked for in the reason."""
    reasons = {refusal.route: refusal.reason for refusal in outcome.refusals}
    for route, words in case.expected.refused.items():
        # Where every route was refused, the error's message tells of each.
        told = reasons.get(route) or (outcome.error.message if outcome.error and route in outcome.error.message else "")
        if words.lower() not in told.lower() or not told:
            yield "refused", f"expected {route} to be refused with {words!r}, got {told or 'no refusal'}"


def _wanted(case: Case) -> str:
    return f"route {' or '.join(case.expected.route)}" if case.expected.route else "a route"


def _differs(key: str, wanted: str, got: str) -> str:
    return f"expected {key} {wanted}, got {got}"


def _told(outcome: _Outcome) -> str:
    if outcome.error is not None:
        return f"error {outcome.error.status} {outcome.error.code}: {outcome.error.message}"
    return f"route {outcome.quote.route.name}" if outcome.quote else "nothing"


def _pairs(pairs: dict[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in pairs.items()) or "nothing"
