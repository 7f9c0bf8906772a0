"""What an earlier worker did for a task: what it cost is told, whoever goes on with it."""

from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.domain.batch import BatchLine, BatchTerms, Collecting
from gateway.domain.caller import Caller
from gateway.domain.errors import UpstreamError
from gateway.domain.job import Operation, Wishes
from gateway.domain.policy import JobType, OnUnknown, Policy, Project, Retry
from gateway.domain.retry import RetryBudgets
from gateway.domain.route import ProviderConfig, Route, Views
from gateway.domain.settlement import Outcome
from gateway.domain.task import TaskOrder, TaskRecord, TaskStatus
from gateway.domain.task_profile import TaskProfile
from gateway.observe.event import RequestFinished
from gateway.ports import Body, Inbound
from gateway.ports.provider import Call, UpstreamFailure
from gateway.providers.fanout import calls_of
from gateway.request.batching import by_batch
from gateway.request.exchange import Admitted, Exchange
from gateway.request.retrying import RetryPlan
from gateway.steps.price import price
from gateway.steps.rank import Ranked
from gateway.tasks.recovery import EarlierAttempts, earlier_attempts, recorded
from tests.builders import PROVIDER, TODAY, job, policy, route
from tests.providers.calls import MemoryBody

ORDER = TaskOrder("req_x", "team", "key_x", "generate", None, "m", {}, "application/json", "", 0.0, 1.0, 1)
CHARGE = 7_000
PLAIN = replace(PROVIDER, name="other")
TAKES_WORK = replace(PROVIDER, kind="task", profile=TaskProfile())
TAKES_LINES = replace(PROVIDER, batch=BatchTerms())
THIRD = {"attempts": 1, "route": "r3", "cost": 5, "estimate": 50, "source": "reported"}
"""The end of a try that called once more."""
WENT = {"route": "r1", "provider": PROVIDER.name, "upstream_model": "gpt-image-2-2026-04-21"}
"""What is on record of a call by the route of that name."""


def record(attempt: int) -> TaskRecord:
    """A task of which this attempt was sent last, and nothing was taken on."""
    return TaskRecord(ORDER, TaskStatus.PROCESSING, attempt=attempt)


def attempt(number: int, state: str) -> dict[str, Any]:
    """An attempt as the ledger tells it; one that is settled has cost something."""
    cost = Views(CHARGE, CHARGE, CHARGE) if state in ("settled", "presumed") else Views(0, 0, 0)
    source = {"settled": "usage", "presumed": "presumed"}.get(state)
    return {"attempt": number, "state": state, "facts": {"route": f"r{number}"}, "cost": cost, "source": source}


@pytest.mark.parametrize("states", [("void",), ("void", "void")], ids=str)
def test_what_came_to_nothing_is_as_if_it_had_not_been(states: tuple[str, ...]) -> None:
    """A task of which nothing can have been billed begins anew."""
    attempts = [attempt(number, state) for number, state in enumerate(states, 1)]
    assert earlier_attempts(record(len(states)), {"attempts": attempts}) is None


def test_a_refusal_that_was_charged_is_part_of_the_cost() -> None:
    """Refused at a charge, then given back by the next: the task goes on, and its cost includes the charge."""
    found = earlier_attempts(record(3), {"attempts": [attempt(1, "void"), attempt(2, "settled"), attempt(3, "void")]})
    assert found is not None
    assert (found.follow, found.unknown, found.cost) == (False, False, CHARGE)


def finished(**told: Any) -> RequestFinished:
    """The end of a try, of which only this is known."""
    return RequestFinished("req_x", "generate", 502, 1.0, 0.0, **told)


@pytest.mark.parametrize(
    ("states", "told", "expected"),
    [
        (("sent",), {}, ("r1", 1, 9_000, 9_000, "presumed")),
        (("presumed",), {}, ("r1", 1, CHARGE, None, "presumed")),
        (("settled", "void"), {}, ("r1", 1, CHARGE, None, "usage")),
        (("presumed", "void"), THIRD, ("r3", 2, CHARGE + 5, 50, "presumed")),
        (("settled", "void"), THIRD, ("r3", 2, CHARGE + 5, 50, "reported")),
    ],
    ids=str,
)
def test_a_try_is_told_with_the_calls_before_it(
    states: tuple[str, ...], told: dict[str, Any], expected: tuple[object, ...]
) -> None:
    """One line tells of a task's work, and says of route, calls and cost what the record says."""
    attempts = [attempt(number, state) for number, state in enumerate(states, 1)]
    for each in attempts:
        if each["state"] == "sent":  # nothing is booked yet: its worst case will be
            del each["cost"]
            each["facts"]["worst"] = {"route": 9_000}
    found = earlier_attempts(record(len(states)), {"attempts": attempts})
    assert found is not None
    ended = found.ended(finished(**told))
    assert (ended.route, ended.attempts, ended.cost, ended.estimate, ended.source) == expected


@pytest.mark.parametrize(("attempts", "calls"), [(1, 1), (0, 1)])
def test_a_call_that_is_followed_is_told_once(attempts: int, calls: int) -> None:
    """By the try that followed it; where none came to that, as what was done before."""
    found = earlier_attempts(replace(record(1), submitted={0: {"id": "t1"}}), {"attempts": [attempt(1, "presumed")]})
    assert found is not None
    ended = found.ended(finished(attempts=attempts, cost=5 if attempts else None))
    assert (ended.attempts, ended.cost) == (calls, 5 if attempts else CHARGE)


@pytest.mark.parametrize("now", [1, 2, 4, 10])
@pytest.mark.parametrize(("held", "noted"), [(1, 1), (2, 1), (4, 2), (3, 3)])
def test_work_is_followed_in_as_many_calls_as_it_was_held_for(held: int, noted: int, now: int) -> None:
    """However many images a route makes in one call by now: each of the calls that were sent is followed, no other."""
    way = route("r1", provider=TAKES_WORK)
    way = replace(way, capabilities=replace(way.capabilities, n=now))
    kind, project = JobType("draft", (way,)), Project("team", ("draft",), "draft")
    asked, body = job(n=4, quality="low", size="1024x1024"), MemoryBody({})
    quotes, _ = price(asked, kind, project, None, TODAY)
    exchange = Exchange(_inbound())
    rules, caller = at(TAKES_WORK, policy(way, job_type=kind, project=project)), Caller("key_x", "team", None)
    admitted = Admitted(exchange, caller, project, asked, kind, rules, Ranked(quotes, ()), body, TODAY)
    facts: dict[str, Any] = {**WENT, **({"calls": held} if held > 1 else {})}
    submitted = {number: {"id": f"t{number}"} for number in range(noted)}
    found = earlier_attempts(
        replace(record(1), submitted=submitted), {"attempts": [{**attempt(1, "sent"), "facts": facts}]}
    )
    assert found is not None

    resumed = found.resumed(admitted, TODAY, ORDER.not_after)

    assert resumed is not None
    quote = resumed.quote
    sent = calls_of(Call("req_x", quote.route, quote.job, body, quote.changes, quote.calls))
    assert (len(sent), sum(each.job.n for each in sent)) == (held, 4)


@pytest.mark.parametrize("batch", [True, False])
async def test_where_policy_admits_a_request_no_more_nothing_is_sent_after_the_call_that_is_followed(
    *, batch: bool
) -> None:
    """Not even into another batch: size and quality that a job type filled in before are known to nobody now."""
    account = TAKES_LINES if batch else TAKES_WORK
    way = route("r1", provider=account)
    asked, exchange = job(size="1024x1024", quality="low"), Exchange(_inbound())
    rules, caller = at(account, policy(way)), Caller("key_x", "team", None)
    facts = {**WENT, "size": asked.size, "quality": asked.quality, **({"batch": "0.5"} if batch else {})}
    kept = {"attempts": [{**attempt(1, "sent"), "facts": facts}], "about": {"job_type": "gone"}}
    found = earlier_attempts(replace(record(1), submitted={0: {"id": "batch_1"}}), kept)
    assert found is not None

    admitted = found.admitted(exchange, caller, rules, MemoryBody({"prompt": "a cat"}), TODAY)

    resumed = found.resumed(admitted, TODAY, due=7.0)
    assert resumed is not None
    if batch:  # which is given up in time, whatever job types say of batches now
        assert resumed.quote.batch == BatchLine(BatchTerms(), 7.0)
    plan = RetryPlan(admitted.ranked.quotes, admitted.job_type.retry, RetryBudgets(time.monotonic))
    [quote] = admitted.ranked.quotes
    assert (quote.batch is not None) is batch
    reason = "batch_expired" if batch else "status_5xx"
    plan.failed(quote, UpstreamFailure(Outcome.REJECTED, reason, "not done"))
    assert plan.next() is None


@pytest.mark.parametrize("way_now", ["either way", "by itself alone"])
def test_a_line_of_a_batch_is_followed_in_its_batch(way_now: str) -> None:
    """Whatever ways policy pays for by now: an account that makes images at once would make them a second time."""
    way = route("r1", provider=TAKES_LINES)
    found, admitted = under_way(way, TAKES_LINES, batch=True)
    by_itself, _ = price(admitted.job, admitted.job_type, admitted.project, None, TODAY)
    in_a_batch = admitted.ranked.quotes if way_now == "either way" else []
    admitted = replace(admitted, ranked=Ranked([*by_itself, *in_a_batch], ()))

    resumed = found.resumed(admitted, TODAY, ORDER.not_after)

    assert resumed is not None
    assert resumed.quote.batch is not None


@pytest.mark.parametrize("went", [{}, {"n": "1"}], ids=str)
def test_a_call_is_followed_as_it_was_degraded(went: dict[str, str]) -> None:
    """Its route stands on two rungs: what it made, and so what it costs, is that of the rung by which it went."""
    way = route("r1", provider=TAKES_WORK)
    kind, project = JobType("draft", (way,)), Project("team", ("draft",), "draft")
    rules, asked = at(TAKES_WORK, policy(way, job_type=kind, project=project)), job(n=4, size="1024x1024")
    [whole], _ = price(asked, kind, project, None, TODAY)
    [lowered], _ = price(replace(asked, n=1), kind, project, None, TODAY)
    ranked, caller = Ranked([whole, replace(lowered, degraded={"n": "1"})], ()), Caller("key_x", "team", None)
    admitted = Admitted(Exchange(_inbound()), caller, project, asked, kind, rules, ranked, MemoryBody({}), TODAY)
    kept = {"attempts": [{**attempt(1, "sent"), "facts": {**WENT, **({"degraded": went} if went else {})}}]}
    found = earlier_attempts(replace(record(1), submitted={0: {"id": "work_1"}}), kept)
    assert found is not None

    resumed = found.resumed(admitted, TODAY, ORDER.not_after)

    assert resumed is not None
    assert resumed.quote.job.n == (1 if went else 4)


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("admits", [True, False])
@pytest.mark.parametrize("leads", ["to another account", "to another model"])
def test_a_call_is_followed_at_the_account_that_took_it_on(*, batch: bool, admits: bool, leads: str) -> None:
    """Wherever its route leads by now, and whether policy still admits such a request: it is asked there alone."""
    account, other = (TAKES_LINES, replace(TAKES_LINES, name="other")) if batch else (TAKES_WORK, PLAIN)
    way = route("r1", provider=other if leads == "to another account" else account, upstream_model="another")
    found, admitted = under_way(way, account, batch=batch)
    if not admits:
        admitted = found.admitted(Exchange(_inbound()), admitted.caller, admitted.policy, admitted.body, TODAY)

    resumed = found.resumed(admitted, TODAY, ORDER.not_after)

    assert resumed is not None
    asked = resumed.quote.route
    assert (asked.name, asked.provider, asked.upstream_model) == ("r1", account, WENT["upstream_model"])
    assert (resumed.quote.batch is not None) is batch


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("now", ["gone", "only ever sent to"])
def test_a_call_whose_account_cannot_be_asked_is_lost_sight_of(*, batch: bool, now: str) -> None:
    """What its route leads to by now is sent nothing: the work may have been done, and would be paid for twice."""
    account = replace(PLAIN, name="other" if now == "gone" else PROVIDER.name)
    account = replace(account, batch=BatchTerms()) if batch and now == "gone" else account
    found, admitted = under_way(route("r1", provider=account), account, batch=batch)

    with pytest.raises(UpstreamError, match="worst case was booked"):
        found.resumed(admitted, TODAY, ORDER.not_after)
    with pytest.raises(UpstreamError, match="worst case was booked"):
        found.admitted(Exchange(_inbound()), admitted.caller, admitted.policy, admitted.body, TODAY)


@pytest.mark.parametrize(
    ("states", "told"), [(["presumed"], "worst case was booked"), (["settled", "void"], "A refusal was billed")]
)
def test_what_other_workers_spent_counts_for_the_maximum(states: list[str], told: str) -> None:
    """A task goes on by what its own maximum leaves after the calls of workers that had it before."""
    ways = route("r1"), route("r2")
    kind = JobType("draft", ways, retry=Retry(attempts=3, on_unknown=OnUnknown.NEXT_ROUTE))
    project, asked = Project("team", ("draft",), "draft"), job(quality="low", size="1024x1024")
    quotes, _ = price(asked, kind, project, None, TODAY)
    rules, caller = policy(*ways, job_type=kind, project=project), Caller("key_x", "team", None)
    found = earlier_attempts(
        record(len(states)), {"attempts": [attempt(each, state) for each, state in enumerate(states, 1)]}
    )
    assert found is not None

    def under(most: int) -> Admitted:
        exchange = Exchange(_inbound())
        exchange.wishes, exchange.spent_before = Wishes(max_cost=most), CHARGE
        return Admitted(exchange, caller, project, asked, kind, rules, Ranked(quotes, ()), MemoryBody({}), TODAY)

    enough, left = CHARGE + quotes[1].worst.route, ["r2"] if found.unknown else ["r1", "r2"]
    assert [quote.route.name for quote in found.carried_on(under(enough)).ranked.quotes] == left
    assert found.cost == CHARGE
    with pytest.raises(UpstreamError, match=told):
        found.carried_on(under(enough - 1))


@pytest.mark.parametrize(
    ("states", "batch", "submitted", "left"),
    [
        (["presumed"], False, {}, 3),
        (["settled", "void"], False, {}, 3),
        (["presumed", "void", "sent"], False, {}, 2),
        (["presumed", "sent"], True, {}, 3),
        (["presumed", "sent"], False, {0: {"id": "work_1"}}, 3),
        (["sent"], False, {0: {"id": "work_1"}}, 4),
    ],
)
def test_what_other_workers_called_counts_among_attempts(
    states: list[str], submitted: dict[int, Any], left: int, *, batch: bool
) -> None:
    """But for what came to nothing, what went by batch, and the call that is followed, which counts by itself."""
    ways = tuple(route(f"r{number}") for number in range(1, 6))
    kind = JobType("draft", ways, retry=Retry(attempts=4, on_unknown=OnUnknown.NEXT_ROUTE))
    project, asked = Project("team", ("draft",), "draft"), job(quality="low", size="1024x1024")
    quotes, _ = price(asked, kind, project, None, TODAY)
    rules, caller = policy(*ways, job_type=kind, project=project), Caller("key_x", "team", None)
    attempts = [attempt(number, state) for number, state in enumerate(states, 1)]
    if batch:
        attempts[0]["facts"]["batch"] = "0.5"
    found = earlier_attempts(replace(record(len(states)), submitted=submitted), {"attempts": attempts})
    assert found is not None
    exchange, ranked = Exchange(_inbound()), Ranked(quotes, ())
    admitted = Admitted(exchange, caller, project, asked, kind, rules, ranked, MemoryBody({}), TODAY)
    assert found.carried_on(admitted).job_type.retry.attempts == left


BATCH = {"route": "r2", "batch": "0.5"}
NOTED = {0: {"id": "batch_1"}}


@pytest.mark.parametrize(
    ("facts", "submitted", "state", "given_back", "after"),
    [
        (BATCH, {}, "sent", [2, 3], "void"),
        (BATCH, {}, "presumed", [2, 3], "void"),
        (BATCH, {}, "settled", [3], "settled"),
        (BATCH, NOTED, "sent", [3], "sent"),
        ({"route": "r2"}, {}, "sent", [3], "sent"),
    ],
)
async def test_a_call_by_batch_that_was_not_announced_was_not_sent(
    facts: dict[str, Any], submitted: dict[int, Any], state: str, given_back: list[int], after: str
) -> None:
    """It is given back, as what had not begun is; one that goes by itself may have left all the same."""
    attempts = [attempt(1, "settled"), {**attempt(2, state), "facts": facts}, attempt(3, "sent")]
    voided: list[int] = []

    async def void(_: str, number: int, __: str) -> None:
        voided.append(number)

    async def request(_: str) -> dict[str, Any]:
        return {"attempts": attempts}

    async def holds(_: str, token: str) -> bool:
        return token == "mine"

    flight_context = SimpleNamespace(ledger=SimpleNamespace(request=request), settlements=SimpleNamespace(void=void))
    context: Any = SimpleNamespace(flight_context=flight_context, holds=holds)
    found = await recorded(context, replace(record(2), submitted=submitted), "mine", 0.0)

    assert found is not None
    assert sorted(voided) == given_back
    assert [each["state"] for each in found["attempts"]] == ["settled", after]


def at(account: ProviderConfig, rules: Policy) -> Policy:
    """A policy in which this account is set up, too if it has not the name of the one that there is."""
    return replace(rules, providers={PLAIN.name: PLAIN, account.name: account})


def under_way(way: Route, account: ProviderConfig, *, batch: bool) -> tuple[EarlierAttempts, Admitted]:
    """A call that was taken on, and its request as a policy admits it with this route and this account."""
    kind, project = JobType("draft", (way,), batch=Collecting()), Project("team", ("draft",), "draft")
    rules = at(account, policy(way, job_type=kind, project=project))
    asked, body = job(size="1024x1024", quality="low"), MemoryBody({"prompt": "a cat"})
    quotes, _ = price(asked, kind, project, None, TODAY)
    caller = Caller("key_x", "team", None)
    admitted = Admitted(Exchange(_inbound()), caller, project, asked, kind, rules, Ranked(quotes, ()), body, TODAY)
    admitted = by_batch(admitted, 3600.0 if batch else None)
    facts = {**WENT, "size": asked.size, "quality": asked.quality, **({"batch": "0.5"} if batch else {})}
    kept = {"attempts": [{**attempt(1, "sent"), "facts": facts}], "about": {"job_type": "draft"}}
    found = earlier_attempts(replace(record(1), submitted={0: {"id": "work_1"}}), kept)
    assert found is not None
    return found, admitted


def _inbound() -> Inbound:
    return Inbound("req_x", Operation.GENERATE, None, {}, _never_read, 0.0)


async def _never_read() -> Body:
    raise AssertionError("a task's body is kept")
