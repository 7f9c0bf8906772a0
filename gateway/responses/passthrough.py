"""Passthrough: requests for paths that policy names, under the same keys and quotas, to an account as they are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from gateway.domain import money
from gateway.domain.budget import Budget, Candidate, Counted, Denied, Held, Line, Pressure, Quota, View
from gateway.domain.caller import Caller
from gateway.domain.denial import check_holdable, denial
from gateway.domain.errors import BudgetExceeded, ClientGone, GatewayError, InternalError, NotFound, ledger_unavailable
from gateway.domain.idempotency import Binding, Bound
from gateway.domain.job import Operation, Wishes
from gateway.domain.passing import METHODS, PassRules, read_path, remedy
from gateway.domain.policy import Policy, Project
from gateway.domain.pricing import views
from gateway.domain.route import Views
from gateway.domain.settlement import CostSource, Outcome, Settlement
from gateway.observe.event import NONE, HoldEnded, Observer, RequestDenied
from gateway.observe.hold_ends import tell_hold
from gateway.ports import Ledger, LedgerUnavailable, Outbound, Rendered, Settlements
from gateway.ports.envelope import Envelope
from gateway.ports.provider import UpstreamFailure
from gateway.ports.responses import PassthroughAccounts, PassthroughAnswer, PassthroughRequest
from gateway.request.duplicates import not_kept, reused
from gateway.request.repetition import Ties, digest, tied
from gateway.responses.conversations import FAILED, Conversations, unanswered
from gateway.responses.disconnect import ClientDisconnect
from gateway.responses.passthrough_report import PassthroughReport, ReportedAnswer
from gateway.steps.accept import check_for_real, envelope_of

Asks = Callable[[Caller | None], Awaitable[tuple[Caller, Project, Policy]]]
"""Tells who asks, and by which policy: None is nobody who is known yet, anybody else is asked for again."""


@dataclass(frozen=True, slots=True)
class PassthroughService:
    """Lets requests go through. One instance per process."""

    accounts: PassthroughAccounts
    ledger: Ledger
    settlements: Settlements
    observer: Observer

    async def send(
        self,
        passing: PassthroughRequest,
        headers: Mapping[str, str],
        received: float,
        who: Asks,
    ) -> Outbound:
        """Return the account's answer; NotFound where policy lets nothing by, or the error to show.

        `headers` are all of the client's.
        """
        report = PassthroughReport(self.observer, passing.request_id, received)
        try:
            caller, project, policy = await who(None)
            report.know(project=project.name, key_id=caller.key_id)
            rules = _rules(passing, project)  # an unknown path is unknown whatever its headers say
            asked = envelope_of(headers)
            _check(rules, asked.wishes)
            report.know(tags=asked.wishes.tags)
            return await self._sent(passing, _Who(rules, caller, project, policy, asked), who, report)
        except GatewayError as error:
            if error.status in (402, 403, 429):  # 404 is a path that nobody serves, which refuses nobody
                self.observer.emit(RequestDenied(report.told.project, error.code))
            error.headers += report.headers()
            gone = error.status == ClientGone.status
            report.know(bytes_out=0 if gone else len(error.written()))
            report.end(error.status, error.code, gone=gone)
            raise
        except asyncio.CancelledError:
            report.end(ClientGone.status, ClientGone.default_code, gone=True)
            raise
        except BaseException:
            report.end(InternalError.status, InternalError.default_code)
            raise

    async def _sent(self, passing: PassthroughRequest, who: _Who, again: Asks, report: PassthroughReport) -> Outbound:
        report.know(route=who.rules.route)
        with report.elsewhere():
            body, fingerprint = (None, "") if passing.body is None else await passing.body()
        try:
            if body is not None:  # while it came, key and policy may have become others
                caller, project, policy = await again(who.caller)
                who = _Who(_rules(passing, project), caller, project, policy, who.asked)
                _check(who.rules, who.asked.wishes)
                report.know(route=who.rules.route)
            return await self._with_body(passing, body, who, _ties(passing, who, fingerprint), report)
        except BaseException:
            if body is not None:
                await body.aclose()
            raise

    async def _with_body(
        self, passing: PassthroughRequest, body: Rendered | None, who: _Who, tied: Ties, report: PassthroughReport
    ) -> Outbound:
        rules, held = who.rules, await self._hold(passing, who, tied.binding)
        disconnect = ClientDisconnect(self.ledger, tied.orphan_name, passing.request_id)
        if disconnect.name is not None:
            passing.spare(disconnect.begin)
        report.know(attempts=1, estimate=rules.price)
        try:
            answer = await self._ask(passing, body, who, held, report)
        except GatewayError:
            raise
        except BaseException:
            await disconnect.finish()
            raise
        headers = [*answer.headers, *report.headers(), ("x-request-id", passing.request_id)]
        if answer.status >= FAILED and answer.refusal is None and not _may_repeat(passing, rules):
            headers.append(("x-should-retry", "false"))
        # It may begin before the upload ends. What was refused may be done again.
        told = ReportedAnswer(answer, body, report, disconnect.finish if answer.refusal is None else None)
        return Outbound(answer.status, headers, told)

    async def _ask(
        self,
        passing: PassthroughRequest,
        body: Rendered | None,
        who: _Who,
        held: Held | None,
        report: PassthroughReport,
    ) -> PassthroughAnswer:
        """Return the account's answer once what was held is booked or given back, or raise the error in its place."""
        rules, below = who.rules, passing.path.removeprefix("/v1")
        try:
            with report.elsewhere():
                answer = await self.accounts.send(rules.provider, replace(passing, path=below), body)
        except UpstreamFailure as failure:
            if held is not None and failure.outcome is Outcome.UNKNOWN:
                await self._settle(report, who, held, CostSource.PRESUMED)
            elif held is not None:
                await self.settlements.void(passing.request_id, held.attempt, failure.reason)
            raise unanswered(failure, may_repeat=_may_repeat(passing, rules)) from failure
        except BaseException:
            if held is not None:
                await self._settle(report, who, held, CostSource.PRESUMED)
            raise
        try:
            if held is not None and answer.refusal is not None:
                await self.settlements.void(passing.request_id, held.attempt, answer.refusal)
            elif held is not None:
                await self._settle(report, who, held, CostSource.ESTIMATE, answer.upstream_request_id)
        except BaseException:
            await answer.aclose()
            raise
        return answer

    async def _hold(self, passing: PassthroughRequest, who: _Who, binding: Binding | None) -> Held | None:
        """Hold the price, if there is one, and count the request; None where no price, budget or quota is about it.

        What repeats a request that may have been done is refused.
        """
        rules, caller, project, policy, asked = who
        candidate = _candidate(rules, caller, project, policy)
        if not candidate.lines and not rules.price and binding is None:
            return None
        about = {
            "project": project.name,
            "key": caller.key_id,
            "job_type": NONE,
            "operation": str(Operation.PASSTHROUGH),
            "method": passing.method,
            "tags": dict(asked.wishes.tags),
        }
        try:
            answer = await self.ledger.choose_and_hold(
                passing.request_id, [candidate], about=about, binding=binding, allowance=project.offline_allowance
            )
        except LedgerUnavailable as error:
            raise ledger_unavailable() from error
        if isinstance(answer, Bound):
            raise not_kept(answer.request_id) if answer.same else reused()
        if isinstance(answer, Denied):
            raise denial(answer, (), (), may_degrade=False)
        return answer

    async def _settle(
        self, report: PassthroughReport, who: _Who, held: Held, source: CostSource, own_id: str | None = None
    ) -> None:
        rules, project = who.rules, who.project
        cost = views(rules.price or 0, rules.price or 0, project.multiplier)
        facts: dict[str, object] = {} if own_id is None else {"upstream_request_id": own_id}
        settlement = Settlement(report.told.request_id, held.attempt, cost, source, 0, facts=facts)
        ended = HoldEnded(
            project=project.name,
            job_type=NONE,
            route=rules.route,
            quality="auto",
            cost=cost,
            estimate=cost,
            source=source,
            images=0,
        )
        # Without a price the hold was there for quotas alone: no money has ended.
        tell = partial(tell_hold, self.observer, ended) if rules.price else None
        await self.settlements.settle(settlement, ended=tell)
        if rules.price is not None:
            report.know(cost=cost.route, source=source)


class _Who(NamedTuple):
    rules: PassRules
    caller: Caller
    project: Project
    policy: Policy
    asked: Envelope


class OtherEndpoints(NamedTuple):
    """What is served besides images."""

    conversations: Conversations
    passthrough: PassthroughService


def _may_repeat(passing: PassthroughRequest, rules: PassRules) -> bool:
    """Tell whether SDKs may repeat by themselves what may have been done: what changes nothing and costs nothing."""
    return passing.method == "GET" and not rules.price


def _check(rules: PassRules, wishes: Wishes) -> None:
    """Refuse what its client wants no more than a decision of, or not at its price."""
    check_for_real(wishes)
    if wishes.max_cost is not None and (rules.price or 0) > wishes.max_cost:
        price, most = money.format_usd(rules.price or 0), money.format_usd(wishes.max_cost)
        message = f"The request costs ${price}; X-Gateway-Max-Cost allows ${most}."
        raise BudgetExceeded(message, code="max_cost_exceeded", param="X-Gateway-Max-Cost")


def _ties(passing: PassthroughRequest, who: _Who, fingerprint: str) -> Ties:
    """Return how it may be repeated; what may be done any number of times is tied to nothing."""
    if _may_repeat(passing, who.rules):
        return Ties(None, None)
    asked = digest(str(Operation.PASSTHROUGH), passing.method, passing.path, passing.query, fingerprint)
    return tied(who.caller, asked, key=who.asked.idempotency_key, retries=who.asked.retries)


def _rules(passing: PassthroughRequest, project: Project) -> PassRules:
    """Return what lets a request by, the project's own first; NotFound where nothing does."""
    path = read_path(passing.path)
    if path is not None and passing.method in METHODS:
        for rules in project.passthrough:
            if rules.takes(passing.method, path):
                return rules
    raise NotFound(
        f"Unknown path: {passing.method} {passing.path[:100]}. It is none of the gateway's own, and policy passes it "
        f"to no provider (`passthrough`). {remedy(passing.path)}"
    )


def _candidate(rules: PassRules, caller: Caller, project: Project, policy: Policy) -> Candidate:
    names = {
        "project": project.name,
        "key": caller.key_id,
        "job_type": NONE,
        "route": rules.route,
        "provider": rules.provider,
    }
    worst = views(rules.price or 0, rules.price or 0, project.multiplier)
    check_holdable(rules.route, worst)
    every: list[Budget | Quota] = [*policy.budgets, *project.budgets, *project.quotas]
    lines = [line for rule in every if rule.scope.covers(**names) and (line := _line(rule, worst)) is not None]
    facts: dict[str, object] = {
        "route": rules.route,
        "model": NONE,
        "provider": rules.provider,
        "upstream_model": NONE,
        "size": "",
        "quality": "",
        "worst": {"official": str(worst.official), "route": str(worst.route), "internal": str(worst.internal)},
        "price_from": "",
    }
    return Candidate(rules.route, tuple(lines), facts, Pressure())


def _line(rule: Budget | Quota, worst: Views) -> Line | None:
    if isinstance(rule, Quota):
        return Line(rule, 1) if rule.counted in (Counted.REQUESTS, Counted.CONCURRENT) else None
    if not worst.route:
        return None
    amount = {View.OFFICIAL: worst.official, View.ROUTE: worst.route, View.INTERNAL: worst.internal}[rule.view]
    return Line(rule, money.micro_from_nano(amount))
