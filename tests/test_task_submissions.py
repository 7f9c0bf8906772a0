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
