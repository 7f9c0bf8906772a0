"""Tried: what came of one try of a task's work, and what is told of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gateway.domain.errors import GatewayError
from gateway.observe.event import Event, Observer, RequestFinished, TaskRested
from gateway.request.answer_keeping import Whole
from gateway.tasks.recovery import EarlierAttempts


class Tried(NamedTuple):
    """What came of one try, its cost in nano-USD (route view), and what holds and counts still for the next one.

    `told` is what is to be told of it if there is no next one.
    """

    outcome: Whole | GatewayError
    cost: int | None
    queued: int | None
    before: EarlierAttempts | None
    told: Sequence[Event]


def with_earlier(tried: Tried, before: EarlierAttempts | None) -> Tried:
    """Return a try as it is told: of a task's work, whoever did it, one line tells all."""
    if before is None:
        return tried
    told = [before.ended(event) if isinstance(event, RequestFinished) else event for event in tried.told]
    return tried._replace(told=told)


def tell(observer: Observer, told: Sequence[Event], *, last: bool) -> None:
    """Tell how a try ended; one that is not the last refused nothing, and is no request that ended."""
    for event in told:
        if last:
            observer.emit(event)
        elif isinstance(event, RequestFinished):
            observer.emit(TaskRested(event))
