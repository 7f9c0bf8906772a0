"""Policy replay of requests that a route made by several calls: each has its fee, by the other policy's rows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.domain.price import AddOns, Price
from gateway.domain.route import Views
from gateway.ledger.entries import Entry
from gateway.reporting.policy_replay import PolicyReplay
from gateway.reporting.replay_costs import Verdict
from tests.builders import GPT_IMAGE_2, policy, route
from tests.test_policy_replay import entry

[BY_TOKENS] = GPT_IMAGE_2.prices
SET = {"size": "1536x1024", "quality": "medium"}
OPEN = {"size": "auto", "quality": "auto"}


def made(facts: dict[str, str], *, images: int = 3, usage: dict[str, int] | None = None) -> Entry:
    """A request for three images, each asked for by a call of its own on route `main`, of which so many came."""
    answer = {"complete": True, "calls": 3} | SET
    booked = Views(*[images * 40_000_000] * 3)
    about, facts = {"text_bytes": 40, "n": 3}, {**facts, "n": 3, "calls": 3}  # type: ignore[dict-item]  # as on record
    return entry(n=3, images=images, usage=usage, cost=booked, worst=booked, about=about, facts=facts, answer=answer)


def judged(past: Entry, price: Price, *, on: str, each: int) -> Verdict:
    """What becomes of it on this route alone, whose price this is, and which makes so many images a call."""
    can = replace(GPT_IMAGE_2.capabilities, n=each)
    model = replace(GPT_IMAGE_2, prices=(price,), capabilities=can)
    rules = policy(route(on, model))
    return PolicyReplay(replace(rules, models={**rules.models, model.name: model})).judge(past)


@pytest.mark.parametrize(("on", "each", "calls"), [("main", 1, 3), ("other", 1, 3), ("other", 2, 2), ("other", 4, 1)])
def test_each_call_is_charged_that_the_work_takes_there(on: str, each: int, calls: int) -> None:
    """Three images at 0.05 USD a request: by the calls of the route that makes them under the other policy."""
    fee = replace(BY_TOKENS, tokens=None, per_request=50_000_000)
    found = judged(made(SET), fee, on=on, each=each)
    assert (found.cost, found.estimated) == (Views(*[calls * fee.per_request] * 3), False)  # type: ignore[operator]


@pytest.mark.parametrize(("images", "each", "calls"), [(3, 1, 3), (2, 1, 2), (3, 3, 1)])
@pytest.mark.parametrize("on", ["main", "other"])
@pytest.mark.parametrize(
    ("facts", "counted"),
    [(SET, True), (OPEN, True), (OPEN, False)],
    ids=["counted", "in proportion", "uncounted"],
)
def test_a_fee_added_to_each_call_adds_as_much(
    facts: dict[str, str], *, counted: bool, on: str, images: int, each: int, calls: int
) -> None:
    """Whether tokens are known, estimated or guessed at; a call that was refused for nothing has no fee."""
    past = made(facts, images=images, usage={"text_in": 11 * images, "image_out": 1000 * images} if counted else None)
    without = judged(past, BY_TOKENS, on=on, each=each)
    found = judged(past, replace(BY_TOKENS, add_ons=AddOns(request=1_000_000)), on=on, each=each)
    assert found.cost.official - without.cost.official == calls * 1_000_000
    assert found.cost.route - without.cost.route == calls * 1_000_000
