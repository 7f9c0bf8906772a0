"""Policy replay of what is no plain request: work that went by batch, conversations, paths that went through."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from fractions import Fraction

import pytest

from gateway.domain.batch import BatchTerms, Collecting, IfLate
from gateway.domain.mark import mark
from gateway.domain.policy import Policy
from gateway.domain.repricing import Repricer
from gateway.domain.responses import TextModel, TextPrice, TextRates
from gateway.domain.route import Views
from gateway.ledger.entries import EntryKind
from gateway.reporting.policy_replay import PolicyReplay
from gateway.reporting.replay_costs import Fate
from gateway.reporting.replaying import Replay
from gateway.reporting.reports import Period
from tests import builders
from tests.builders import PROVIDER
from tests.test_policy_replay import entry

RATES = TextRates(2_000_000, 500_000, 2_000_000, 10_000_000)
TEXT = TextModel("writer", 100_000, 1_000, (TextPrice(date(2026, 1, 1), "test", RATES),))
"""Its prices are $2, $0.50 and $10 per million tokens."""
FULL = entry().cost.route
BY_BATCH = entry(cost=Views(FULL // 2, FULL // 2, FULL // 2), facts={**entry().facts, "batch": "1/2"})
SPOKEN = {"in": 1_000, "cached": 400, "out": 100}
WORDS = 600 * 2_000 + 400 * 500 + 100 * 10_000
"""Nano-USD of that."""


def by_batch(multiplier: str | None, *, collecting: bool = True) -> Policy:
    """A policy whose account takes batches at a part of the price, and whose job type collects for them."""
    terms = None if multiplier is None else BatchTerms(multiplier=Fraction(multiplier))
    made = builders.policy(builders.route("main", provider=replace(PROVIDER, batch=terms)))
    draft = replace(made.job_types["draft"], batch=Collecting(if_late=IfLate.FAIL) if collecting else None)
    return replace(made, job_types={**made.job_types, "draft": draft})


@pytest.mark.parametrize(
    ("multiplier", "collecting", "part"),
    [("1/2", True, Fraction(1, 2)), ("1/4", True, Fraction(1, 4)), ("1/2", False, Fraction(1)), (None, True, 1)],
)
def test_what_went_by_batch_costs_what_a_batch_costs_there(
    multiplier: str | None, collecting: bool, part: Fraction
) -> None:
    """By another policy it has that policy's price of batches, and the full one where that has none."""
    found = PolicyReplay(by_batch(multiplier, collecting=collecting)).judge(BY_BATCH)

    assert abs(found.cost.route - FULL * part) <= 1
    assert found.route == "main"


@pytest.mark.parametrize(("multiplier", "part"), [("1/4", Fraction(1, 4)), (None, Fraction(1, 2))])
def test_a_report_reprices_a_batch_as_a_batch(multiplier: str | None, part: Fraction) -> None:
    """The account's own terms count, and where the other policy has none those on record."""
    assert abs(Repricer(by_batch(multiplier)).cost(BY_BATCH).route - FULL * part) <= 1
    gone = replace(BY_BATCH, route="gone")
    assert abs(Repricer(by_batch(multiplier)).cost(gone).route - Fraction(FULL, 2)) <= 1


def talks(*models: TextModel) -> Policy:
    """A policy that knows these text models."""
    made = builders.policy(builders.route("main"))
    return replace(made, text_models={model.name: model for model in models})


def test_a_conversation_is_priced_by_what_both_models_used() -> None:
    """Text tokens by the text model's price of that day and the tool's usage by the image's, on the route it took."""
    answer = {"text_model": "writer", "text_tokens": SPOKEN}
    past = entry(operation="respond", answer=answer, cost=Views(1, 1, 1))
    found = PolicyReplay(talks(TEXT)).judge(past)

    assert (found.fate, found.cost.route) == (Fate.REPRICED, FULL + WORDS)
    assert Repricer(talks(TEXT)).cost(past).route == FULL + WORDS
    alone = replace(past, usage=None, images=0)
    assert PolicyReplay(talks(TEXT)).judge(alone).cost.route == WORDS


def test_a_correction_of_a_conversation_changes_in_proportion() -> None:
    """What an invoice took off a conversation comes off what it would have cost, by the same part."""
    policy_replay = PolicyReplay(talks(TEXT))
    answer = {"text_model": "writer", "text_tokens": SPOKEN}
    policy_replay.judge(entry(operation="respond", answer=answer, cost=Views(100, 100, 100)))
    found = policy_replay.judge(
        entry(operation="respond", kind=EntryKind.ADJUST, cost=Views(-50, -50, -50), usage=None)
    )

    assert abs(found.cost.route + (FULL + WORDS) // 2) <= 1


@pytest.mark.parametrize(
    ("answer", "changes"),
    [
        ({"text_model": "unknown", "text_tokens": SPOKEN}, {}),
        ({"text_model": "writer"}, {}),
        ({"text_model": "writer", "text_tokens": SPOKEN, "estimated": "images"}, {}),
        ({"text_model": "writer", "text_tokens": SPOKEN}, {"kind": EntryKind.PRESUME}),
        ({}, {"operation": "passthrough"}),
    ],
)
def test_what_nothing_tells_of_is_left_and_counted(answer: dict[str, object], changes: dict[str, object]) -> None:
    """Without usage, a price, or a word of what it was, it costs what it cost, and the report says how many did."""
    past = replace(entry(operation="respond", answer=answer), **changes)  # type: ignore[arg-type]  # as in `entry`
    found = PolicyReplay(talks(TEXT)).judge(past)
    report = Replay("0" * 16, Period(None))
    report.add(past, found)

    assert (found.fate, found.cost) == (Fate.LEFT, past.cost)
    assert report.total.as_json()["left"] == 1
    assert "1 of 1 cannot be played" in report.total.left_out()


def test_the_policy_that_a_conversation_was_made_under_keeps_it() -> None:
    """Where the mark is the same it is kept to the nano-dollar, whatever is on record of it."""
    rules = talks(TEXT)
    made_by = mark(rules, rules.projects["team"], rules.job_types["draft"])
    past = entry(operation="respond", answer={}, about={"rules": made_by}, cost=Views(7, 7, 7))
    found = PolicyReplay(rules).judge(past)

    assert (found.fate, found.cost) == (Fate.KEPT, past.cost)


def test_what_was_presumed_lower_changes_in_proportion() -> None:
    """By another policy it was worth the worst case there; what it turned out not to be worth comes off by its part."""
    policy_replay = PolicyReplay(builders.policy(builders.route("other")))
    presumed = entry(kind=EntryKind.PRESUME, source="presumed", usage=None, images=0, answer={})
    first = policy_replay.judge(presumed)
    lower = replace(presumed, kind=EntryKind.CORRECT, cost=Views(*(-each // 2 for each in (FULL, FULL, FULL))))
    found = policy_replay.judge(lower)

    assert first.fate is Fate.MOVED
    assert abs(found.cost.route + first.cost.route // 2) <= first.cost.route // FULL + 1
