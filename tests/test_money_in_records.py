"""What a request's record and the admin plane tell of money: the state of all attempts, and each budget's view."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gateway.admin.views import admin_views
from gateway.observe.scrape import BudgetState
from gateway.routing.explanation import record

ABOUT = {"project": "team", "key": "key_1", "job_type": "draft", "operation": "generate"}


@pytest.mark.parametrize(
    ("states", "told"),
    [
        (["void"], "void"),
        (["presumed", "void"], "presumed"),
        (["settled", "void"], "settled"),
        (["presumed", "settled", "void"], "presumed"),
        (["void", "settled"], "settled"),
        (["presumed", "settled"], "settled"),
        (["settled", "sent"], "sent"),
        (["presumed", "queued"], "queued"),
    ],
)
def test_a_request_that_cost_something_is_not_told_as_given_back(states: list[str], told: str) -> None:
    """An attempt after one that may have been billed came to nothing: the request did not."""
    cost = {"official": 1, "route": 1, "internal": 1}
    attempts: list[dict[str, Any]] = [
        {
            "attempt": number,
            "state": state,
            "facts": {"route": "r", "model": "m", "worst": {"official": "1", "route": "1", "internal": "1"}},
            **({"cost": cost} if state in ("settled", "presumed") else {}),
        }
        for number, state in enumerate(states, 1)
    ]
    assert record({"id": "r", "created": 0, "about": ABOUT, "attempts": attempts})["state"] == told


async def test_budgets_that_differ_by_their_view_alone_are_told_apart() -> None:
    """Two limits of one project in one window: the vendor's price, and the project's own."""
    states = [BudgetState("project:a", "total", 50, 1, 0, view) for view in ("route", "internal")]

    async def snapshot() -> object:
        return SimpleNamespace(budgets=states)

    application: Any = SimpleNamespace(snapshot=snapshot)
    found: Any = await admin_views(application)["budgets"]({})
    assert [budget["view"] for budget in found] == ["route", "internal"]
