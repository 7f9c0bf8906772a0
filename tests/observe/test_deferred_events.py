"""What every request brings is counted a moment later, many events together, and none of it is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway.observe.deferred_events import TOGETHER_SECONDS
from gateway.observe.event import Event, LedgerCalled, RequestStarted, UpstreamFailed, UpstreamFinished
from gateway.observe.fanout import Observers
from gateway.observe.metrics import Metrics
from gateway.observe.scrape import Snapshot, scrape
from tests.observe.samples import LABELS, ROUTE, value

ONE, OTHER, URGENT = LedgerCalled("hold", 0.1), UpstreamFinished(ROUTE, 1.0), UpstreamFailed(ROUTE, "reset")


class Notes:
    """Keeps the events of some types; has time with all but those that failed."""

    patient: Collection[type[Event]] = frozenset({LedgerCalled, UpstreamFinished})

    def __init__(self) -> None:
        self.kept: list[Event] = []
        kinds = (LedgerCalled, UpstreamFinished, UpstreamFailed)
        self.takers: Mapping[type[Event], Callable[[Any], None]] = dict.fromkeys(kinds, self.emit)

    def emit(self, event: Event) -> None:
        """Keep an event."""
        self.kept.append(event)


class Hasty:
    """Keeps all events."""

    def __init__(self) -> None:
        self.kept: list[Event] = []

    def emit(self, event: Event) -> None:
        """Keep an event."""
        self.kept.append(event)


async def a_moment() -> None:
    """Wait until what was told is passed on, however long the machine stands still meanwhile."""
    await asyncio.sleep(0)  # so that the pause of the first event has begun
    await asyncio.sleep(2 * TOGETHER_SECONDS)
    for _ in range(3):  # where both sleeps end in one turn of the loop
        await asyncio.sleep(0)


async def test_who_has_time_hears_of_many_at_once() -> None:
    """Each observer gets what it takes, in its order; only what may wait does, and only for those that let it."""
    notes, hasty = Notes(), Hasty()
    observers = Observers([notes, hasty])
    for event in (ONE, OTHER, URGENT, ONE):
        observers.emit(event)
    observers.takers[UpstreamFinished](OTHER)

    assert notes.kept == [URGENT]
    assert hasty.kept == [ONE, OTHER, URGENT, ONE, OTHER]
    await a_moment()
    assert notes.kept == [URGENT, ONE, OTHER, ONE, OTHER]
    observers.emit(ONE)
    await a_moment()
    assert notes.kept[5:] == [ONE]


def test_without_a_loop_nothing_waits() -> None:
    """A command that serves nobody counts at once."""
    notes = Notes()
    Observers([notes]).emit(ONE)

    assert notes.kept == [ONE]


def test_nothing_is_lost_when_the_loop_ends() -> None:
    """What happened last is passed on before the process is at its end, and a loop after it begins anew."""
    notes = Notes()
    observers = Observers([notes])

    async def last() -> None:
        observers.emit(ONE)

    async def pause_and_last() -> None:
        await asyncio.sleep(0)
        observers.emit(OTHER)
        await asyncio.sleep(0)

    asyncio.run(last())
    assert notes.kept == [ONE]
    asyncio.run(pause_and_last())
    assert notes.kept == [ONE, OTHER]


async def test_a_scrape_counts_what_happened_before_it() -> None:
    """Whoever asks after an answer finds its request counted."""
    registry = CollectorRegistry()
    observers = Observers([Metrics(registry, LABELS)])

    async def nothing() -> Snapshot:
        return Snapshot()

    async def healthy() -> list[str]:
        return []

    observers.emit(RequestStarted("edit"))
    observers.emit(ONE)
    text, _ = await scrape(registry, nothing, healthy)

    assert value(text, "in_flight", operation="edit") == 1
    assert value(text, "ledger_duration_seconds_count", operation="hold") == 1
    assert value(text, "ready") == 1


async def test_one_that_cannot_be_counted_holds_up_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """Its fault is logged; those behind it are counted, however many there are, and it by others."""
    notes, others = Notes(), Notes()

    def picky(event: Event) -> None:
        raise ValueError(f"no such label: {event}")

    notes.takers = {**notes.takers, UpstreamFinished: picky}
    observers = Observers([notes, others])
    for _ in range(50):
        observers.emit(OTHER)
        observers.emit(ONE)
    await a_moment()
    assert notes.kept == [ONE] * 50
    assert others.kept == [OTHER, ONE] * 50
    assert len(caplog.records) == 50
    assert {record.getMessage() for record in caplog.records} == {"an event could not be counted: UpstreamFinished"}


async def test_what_was_told_may_be_asked_for_at_once() -> None:
    """Before labels change, say; and it is told no second time."""
    notes = Notes()
    observers = Observers([notes])
    observers.emit(ONE)
    observers.flush()
    assert notes.kept == [ONE]
    await a_moment()
    observers.emit(OTHER)
    await a_moment()
    assert notes.kept == [ONE, OTHER]
