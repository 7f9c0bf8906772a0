"""What a provider took on for a task is noted for the attempt that it was submitted for, however late."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from gateway.ports import LedgerUnavailable
from gateway.ports.provider import Submitted
from gateway.tasks import submissions as task_submissions
from gateway.tasks.submissions import NotedInQueue


class Queue:
    """Stands for a store that fails at the first note, which a real one does not do on demand."""

    def __init__(self) -> None:
        self.attempts: list[int | None] = []
        self.told = asyncio.Event()

    async def submitted(self, *_: object, attempt: int | None = None) -> None:
        """Fail once, then take note of the attempt."""
        self.attempts.append(attempt)
        if len(self.attempts) == 1:
            raise LedgerUnavailable("away")
        self.told.set()

    async def announced(self, _: str, token: str, *__: object, attempt: int) -> bool:
        """Fail twice, then tell whether the task is still whose it was."""
        self.attempts.append(attempt)
        if len(self.attempts) <= 2:
            raise LedgerUnavailable("away")
        return token == "mine"


async def test_what_is_noted_late_belongs_to_its_own_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work of a first attempt, told again once a second one has begun, is not taken for work of the second."""
    monkeypatch.setattr(task_submissions, "PAUSES", (0.05,))
    queue: Any = Queue()
    known: Mapping[int, Mapping[str, object]] = {0: {"id": "old"}}
    noted = NotedInQueue(queue, "task_x", "token", known)
    assert noted.known == {0: Submitted("old")}
    noted.begin(1)
    assert noted.known is None
    await noted.note(0, Submitted("first"))
    noted.begin(2)
    async with asyncio.timeout(30):
        await queue.told.wait()
    assert queue.attempts == [1, 1]
    await noted.note(0, Submitted("second"))
    assert queue.attempts == [1, 1, 2]
    noted.close()


@pytest.mark.parametrize("token", ["mine", "lost"])
async def test_what_is_announced_waits_for_the_store(monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    """It is told again while the store is away, and then whether the work may still be submitted."""
    monkeypatch.setattr(task_submissions, "PAUSES", (0.01, 0.02))
    queue: Any = Queue()
    noted = NotedInQueue(queue, "task_x", token)
    noted.begin(3)
    assert await noted.announce(0, Submitted("batch")) is (token == "mine")
    assert queue.attempts == [3, 3, 3]


async def test_what_cannot_be_announced_is_not_submitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that stays away is an error: nobody knows whose the work is."""
    monkeypatch.setattr(task_submissions, "PAUSES", (0.01,))
    queue: Any = Queue()
    noted = NotedInQueue(queue, "task_x", "mine")
    noted.begin(1)
    with pytest.raises(LedgerUnavailable):
        await noted.announce(0, Submitted("batch"))
