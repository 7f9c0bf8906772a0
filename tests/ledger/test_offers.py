"""What is offered, and how what was taken of it is kept."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.domain.budget import Budget, Pressure, Quota, Scope, View, Window
from gateway.ledger import hold_candidates
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from tests.ledger.rules import balances, budget, candidate, concurrent, entries, hold, images, settlement

ODD = ["50 % of %s, %d and %%", 'a "quoted" name', "],[ and ]]", "back\\slash/slash", "Übung\n\t\x7f", "%"]
"""Parts of names that mean something to a format, to JSON or to a pattern."""


async def kept(store: Store, ledger: RedisLedger) -> Any:
    """The first attempt of request `r` as it is kept."""
    return json.loads(await store.execute("HGET", ledger._names.request("r"), "a1"))


@pytest.mark.parametrize("name", ["p", *ODD])
async def test_a_hold_is_kept_the_same_when_it_is_put_back(name: str, ledger: RedisLedger, store: Store) -> None:
    """The store has lost it all: what is put back is what was held, of every kind of line and any name."""
    scope = Scope(project=name)
    rules = [
        budget(10**6, window, scope=scope, view=view) for window, view in zip(Window, [*View, *View], strict=False)
    ]
    lines: list[tuple[Budget | Quota, int]] = [
        *((rule, 5) for rule in rules),
        (images(9, scope=scope), 1),
        (images(7, scope=scope), 3),
    ]
    await hold(ledger, "r", candidate(*lines, (concurrent(4, scope=scope), 1), worst=5000))
    names = ledger._names
    taken, record, had = (
        await kept(store, ledger),
        ledger.record_of("r", 1),
        await store.execute("HGETALL", names.balances),
    )
    assert record is not None
    assert [line[0] for line in taken["lines"]] == [*["usd"] * 5, "rolling", "live"]
    assert {line[1] for line in taken["lines"]} == had.keys()
    assert {line[2] for line in taken["lines"][:5]} == {"5"}
    assert taken["lines"][5][2] == "3"  # two rules count in one cell, which is taken once, at the larger amount
    await store.execute("DEL", names.request("r"), names.balances, names.due)
    await ledger.put_back(record)
    assert await kept(store, ledger) == taken
    assert await store.execute("HGETALL", names.balances) == had


@pytest.mark.parametrize("name", ["p", *ODD])
async def test_any_name_is_settled_as_it_was_held(name: str, ledger: RedisLedger, store: Store, realm: str) -> None:
    """The cell that was held on is the one that is spent of, and the entry names it."""
    rule = budget(1000, scope=Scope(project=name))
    await hold(ledger, "r", candidate((rule, 5), (concurrent(9, scope=Scope(project=name)), 1)))
    await ledger.settle(settlement("r", 4000))
    assert (await balances(store, realm))[f"{rule.meter}@total"] == (4, 0)
    [entry] = await entries(store, realm)
    assert dict(entry.lines) == {f"{rule.meter}@total": 4}


def test_an_offer_says_what_the_script_reads() -> None:
    """Figures, facts and the attempt with its gaps, a line each; a negative limit admits nothing."""
    figures, facts, attempt, rest = hold_candidates.offer_arg(
        candidate((budget(-1), 3), (images(5), 1), worst=9)
    ).split("\n")
    assert json.loads(figures) == [2, "total", "usd|everything|route|total", 3, 0, 60, "images|everything|60", 1, 5]
    assert json.loads(facts)["route"] == "r"
    assert json.loads(attempt % (1, "123", "total", "456", "")) == {
        "index": 1,
        "at": "123",
        "worst": ["9", "9", "9"],
        "lines": [
            ["usd", "usd|everything|route|total@total", "3", "route"],
            ["rolling", "images|everything|60", "1", "60", "456"],
        ],
    }
    assert rest == ""


def test_an_offer_tells_of_its_range_and_of_lines_that_are_taken_otherwise() -> None:
    """Of two lines of one meter the first takes the larger amount, and the second nothing."""
    made = candidate((images(5), 1), (images(9), 4))
    object.__setattr__(made, "pressure", Pressure(at_least=8000, below=9500))
    assert json.loads(hold_candidates.offer_arg(made).split("\n")[0])[9:] == [8000, 9500, 1, 4, 2, -1]
