"""What a provider took on for a task is noted for the attempt that it was submitted for, however late."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import date
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.domain.job import Size
from gateway.domain.price import PixelTier, Price
from gateway.ledger.tasks import RedisTasks
from gateway.ports import LedgerUnavailable
from gateway.ports.provider import Submitted
from gateway.tasks import submissions as task_submissions
from gateway.tasks.submissions import NotedInQueue, settled_by
from tests.ledger.work import queued
from tests.rig import rigged


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


@pytest.mark.parametrize(("cells", "noted"), [(20, True), (600, False)])
async def test_a_call_is_noted_however_large_its_price_table_is(tmp_path: Path, cells: int, noted: bool) -> None:
    """Its prices are noted with it as far as there is room for them; without them a batch takes its line as well."""
    sizes = [f"{1024 + 16 * number}x1024" for number in range(cells)]
    tiers = tuple(PixelTier(f"{size} high", 200_000_000, None, Size.parse(size), "high") for size in sizes)
    price = Price(date(2026, 1, 1), "", per_image=tiers)
    submitted = Submitted("x" * 64, {"status": "https://provider.example/" + "x" * 500}, {"custom_id": "y" * 64})
    async with rigged(tmp_path) as rig:
        tasks = RedisTasks(rig.store, worker="one")
        task_id = await queued(rig.ledger, tasks)
        [taken] = await tasks.take(1)
        assert await tasks.began(task_id, taken.token, route="r", attempt=1)
        submissions = NotedInQueue(tasks, task_id, taken.token)
        submissions.begin(1, partial(settled_by, price, price, Fraction(3, 2)))
        assert await submissions.announce(0, submitted)
        found = await tasks.find(task_id)
    assert found is not None
    assert ("rows" in found.submitted[0], found.submitted[0]["multiplier"]) == (noted, "3/2")
