"""What an earlier worker did for a task: what it cost is told, whoever goes on with it."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.domain.route import Views
from gateway.domain.task import TaskOrder, TaskRecord, TaskStatus
from gateway.tasks.past import past

ORDER = TaskOrder("req_x", "team", "key_x", "generate", None, "m", {}, "application/json", "", 0.0, 1.0, 1)
CHARGE = 7_000


def record(attempt: int) -> TaskRecord:
    """A task of which this attempt was sent last, and nothing was taken on."""
    return TaskRecord(ORDER, TaskStatus.PROCESSING, 0.0, attempt=attempt)


def attempt(number: int, state: str) -> dict[str, Any]:
    """An attempt as the ledger tells it; one that is settled has cost something."""
    cost = Views(CHARGE, CHARGE, CHARGE) if state == "settled" else Views(0, 0, 0)
    return {"attempt": number, "state": state, "facts": {"route": f"r{number}"}, "cost": cost}


@pytest.mark.parametrize("states", [("void",), ("void", "void")], ids=str)
def test_what_came_to_nothing_is_as_if_it_had_not_been(states: tuple[str, ...]) -> None:
    """A task of which nothing can have been billed begins anew."""
    attempts = [attempt(number, state) for number, state in enumerate(states, 1)]
    assert past(record(len(states)), {"attempts": attempts}) is None


def test_a_refusal_that_was_charged_is_part_of_the_cost() -> None:
    """Refused at a charge, then given back by the next: the task goes on, and its cost includes the charge."""
    found = past(record(3), {"attempts": [attempt(1, "void"), attempt(2, "settled"), attempt(3, "void")]})
    assert found is not None
    assert (found.follow, found.unknown, found.cost) == (False, False, CHARGE)
