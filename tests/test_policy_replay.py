"""Policy replay and its page: what was delivered where a request left it open, and money as people read it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gateway.cli.replay_page import page
from gateway.domain import pricing
from gateway.domain.job import Size
from gateway.domain.output_tokens import output_tokens
from gateway.domain.policy import JobType, Project
from gateway.domain.price import PixelTier
from gateway.domain.route import NOTHING, Model, Views
from gateway.domain.settlement import Usage
from gateway.ledger.entries import Entry, EntryKind
from gateway.reporting.policy_replay import PolicyReplay
from gateway.reporting.replay_costs import Fate, Verdict
from gateway.reporting.replaying import Replay
from gateway.reporting.reports import Period
from tests.builders import GPT_IMAGE_2, GPT_IMAGE_15, PROVIDER, policy, rates, route

NOW = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)
TWIN = replace(GPT_IMAGE_2, name="twin", snapshot=None)
"""Another model that makes the same pictures of as many tokens at the same price."""


def entry(model: Model = GPT_IMAGE_2, **changes: object) -> Entry:
    """A settled request for one picture of any size and quality, delivered in 1536x1024 medium."""
    tokens = output_tokens(model, (Size(1536, 1024),), ("medium",)) if model.name != "unknown" else 900
    usage = {"text_in": 11, "image_out": tokens}
    rates = model.prices[0].tokens
    assert rates is not None
    nano = pricing.cost_of_usage(Usage(**usage), rates)
    plain = Entry(
        id="1-0",
        time=NOW,
        kind=EntryKind.SETTLE,
        request_id="req_1",
        attempt=1,
        project="team",
        key="key_1",
        job_type="draft",
        operation="generate",
        route="main",
        model=model.name,
        provider=PROVIDER.name,
        n=1,
        size="1536x1024",
        quality="medium",
        images=1,
        cost=Views(nano, nano, nano),
        worst=Views(10 * nano, 10 * nano, 10 * nano),
        source="usage",
        tags={},
        usage=usage,
        lines={},
        about={"text_bytes": 40, "n": 1},
        facts={"size": "auto", "quality": "auto", "n": 1},
        answer={"size": "1536x1024", "quality": "medium"},
    )
    return replace(plain, **changes)  # type: ignore[arg-type]  # fields are checked by the dataclass


def judged(past: Entry, model: Model) -> Verdict:
    """What becomes of it under a policy that has a route to this model alone."""
    rules = policy(route("other", model))
    known = {**rules.models, model.name: model}
    return PolicyReplay(replace(rules, models=known)).judge(past)


def test_an_open_size_that_moves_costs_what_was_delivered() -> None:
    """On a model of the same pictures and prices the cost is the same to the nano-dollar, and told as an estimate."""
    past = entry()
    found = judged(past, TWIN)
    assert (found.fate, found.cost, found.estimated) == (Fate.MOVED, past.cost, True)


def test_without_usage_an_open_size_is_still_the_one_delivered() -> None:
    """Where no usage is on record the expected cost is that of the delivered picture, not of the dearest."""
    past = entry(usage=None)
    found = judged(past, TWIN)
    assert abs(found.cost.route - past.cost.route) < past.cost.route // 100
    assert found.estimated


def test_a_size_that_the_other_model_does_not_make_is_not_taken_over() -> None:
    """Its own expectation stands where what was delivered says nothing of it."""
    found = judged(entry(size="2048x1152", answer={"size": "2048x1152", "quality": "medium"}), GPT_IMAGE_15)
    assert found.fate is Fate.MOVED
    assert found.cost.route > 0
    assert found.estimated


def test_a_job_type_in_the_models_place_goes_before_the_keys_own() -> None:
    """Earlier versions wrote the key's own beside it, as if the client had named that in the header."""
    rules = policy(route("by_model", TWIN), route("by_header", TWIN))
    by_model, by_header = rules.routes.values()
    kinds = {"draft": JobType("draft", (by_model,)), "banner": JobType("banner", (by_header,))}
    team = Project("team", ("draft", "banner"), None)
    both = replace(rules, models={**rules.models, TWIN.name: TWIN}, job_types=kinds, projects={"team": team})
    past = entry(about={"text_bytes": 40, "n": 1, "client_model": "job:draft", "named_job_type": "banner"})
    assert PolicyReplay(both).judge(past).route == "by_model"
    assert PolicyReplay(both).judge(replace(past, job_type="banner")).route == "by_header"


def charging(text_in: str, model: Model = GPT_IMAGE_2) -> Model:
    """A model by tokens whose refusals are charged by those that they took."""
    [price] = model.prices
    tokens = rates(text_in, "1.25", "8", "2", "30")
    return replace(model, prices=(replace(price, tokens=tokens, charged_for=frozenset({"succeeded", "failed"})),))


def refused(*, calls: int = 1, counted: bool = True) -> Entry:
    """Refusals that were booked by six tokens each, at 5 USD a million."""
    cost, tokens = Views(*[calls * 6 * 5_000] * 3), {"text_in": calls * 6}
    facts = {"charged_for": "failed", "charged_calls": calls} | ({"charged_tokens": tokens} if counted else {})
    return entry(cost=cost, n=calls, images=0, usage=tokens if counted else None, answer=facts, size="", quality="")


@pytest.mark.parametrize("calls", [1, 3])
def test_refusals_that_counted_tokens_cost_those(calls: int) -> None:
    """By the rates of the other policy, and no estimate; on another model as many are taken, and told as one."""
    past = refused(calls=calls)
    found = judged(past, charging("10"))
    assert (found.cost.route, found.estimated) == (2 * past.cost.route, False)
    moved = judged(past, charging("10", TWIN))
    assert (moved.cost.route, moved.estimated) == (2 * past.cost.route, True)
    assert judged(past, GPT_IMAGE_2).cost == NOTHING


def test_refusals_whose_tokens_were_not_written_down_cost_what_was_booked() -> None:
    """Earlier versions wrote none: their booking is nearer than the worst case of an image."""
    past = refused(counted=False)
    found = judged(past, charging("10"))
    assert (found.cost, found.estimated) == (past.cost, True)


def test_refusals_beside_an_answer_are_priced_by_themselves() -> None:
    """Their tokens are no tokens of the answer: a row that charges for none leaves them out, as `spend` does."""
    answered, refusal = {"text_in": 20, "image_out": 1756}, {"text_in": 5_000}
    every = {"text_in": 5_020, "image_out": 1756}
    facts = {"charged_for": "failed", "charged_calls": 1, "charged_tokens": refusal, "calls": 2}
    booked = Views(*[5_020 * 5_000 + 1756 * 30_000] * 3)
    past = entry(n=2, about={"text_bytes": 40, "n": 2}, cost=booked, usage=every, answer=facts)
    past = replace(past, facts={"size": "auto", "quality": "auto", "calls": 2})
    uncounted = replace(past, usage=answered, answer={"charged_for": "failed", "charged_calls": 1, "calls": 2})
    [row] = charging("5").prices
    by_image = replace(row, tokens=None, per_image=(PixelTier("any", 40_000_000, None),))

    for text_in in (5, 10):
        found = judged(past, charging(str(text_in)))
        assert (found.cost.route, found.estimated) == (5_020 * text_in * 1_000 + 1756 * 30_000, False)
    assert judged(past, charging("10", TWIN)).estimated
    free = replace(row, charged_for=frozenset({"succeeded"}))
    found = judged(past, replace(GPT_IMAGE_2, prices=(free,)))
    assert (found.cost.route, found.estimated) == (20 * 5_000 + 1756 * 30_000, False)
    assert judged(past, replace(GPT_IMAGE_2, prices=(by_image,))).cost.route == 2 * 40_000_000
    assert judged(uncounted, charging("10")).cost == uncounted.cost


def history(*spent: tuple[timedelta, int, Verdict]) -> Replay:
    """A replay of requests so long after another, at so many nano-USD, and what became of them."""
    found = Replay("0" * 16, Period(None))
    for after, nano, verdict in spent:
        found.add(entry(time=NOW + after, cost=Views(nano, nano, nano)), verdict)
    return found


def kept(nano: int, **changes: object) -> Verdict:
    """A verdict at this cost."""
    plain = Verdict(Fate.KEPT, Views(nano, nano, nano), "main")
    return replace(plain, **changes)  # type: ignore[arg-type]  # fields are checked by the dataclass


def test_the_headline_says_what_the_table_says_in_money_as_people_write_it() -> None:
    """Denials and estimates stand beside the difference, with the sign before the currency."""
    told = page(
        history(
            (timedelta(), 969_580_000, kept(0, fate=Fate.DENIED, reason="budget")),
            (timedelta(hours=1), 100_000_000, kept(100_000_000, fate=Fate.MOVED, estimated=True)),
        )
    )
    assert "a difference of -$0.97 over 2 requests, 1 denied. 1 of 2 costs are estimates" in told
    assert "$0.10<" in told
    assert "$-" not in told


def test_a_short_history_is_drawn_by_the_hour_and_one_hour_as_a_point() -> None:
    """One day has a line with its hours; one hour has a point for each; a longer history goes by the day."""
    one = page(history((timedelta(), 5_000_000, kept(5_000_000))))
    assert (one.count("<circle"), "2026-11-20 12:00 UTC" in one, "$0.0050<" in one) == (2, True, True)
    day = page(history(*((timedelta(hours=hour), 10**9, kept(10**9)) for hour in range(3))))
    assert (day.count("<polyline"), "2026-11-20 14:00 UTC" in day) == (2, True)
    week = page(history(*((timedelta(days=days), 10**9, kept(10**9)) for days in range(7))))
    assert (week.count("<polyline"), "UTC" in week, ">2026-11-26<" in week) == (2, False, True)
