"""Telling: what is told of a task's tries and of its end, to logs, metrics and traces."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from contextvars import copy_context
from dataclasses import replace
from typing import Protocol

from gateway.domain.caller import Caller
from gateway.domain.errors import GatewayError
from gateway.domain.task import TaskOrder, task_of
from gateway.observe.event import Event, Observer, RequestFinished, RequestStarted, TaskRested
from gateway.request.answer_keeping import Whole
from gateway.request.exchange import Exchange
from gateway.steps.accept import accept
from gateway.tasks.answer import read
from gateway.tasks.flight import KeptRequest

log = logging.getLogger(__name__)


class Earlier(Protocol):
    """What other workers did for a task."""

    def ended(self, event: RequestFinished) -> RequestFinished:
        """Return the end of a try as that of all the task's work."""


class Telling:
    """What is told of a task: each try as it ends, and the end of all once, by whoever ended it in the queue.

    `before` is what other workers did for it, which the end's line has too: one line tells all of a task's work.
    `body_lost` tells that what it was to make was not there, as it is not either once another worker has ended it.
    """

    def __init__(self, observer: Observer, order: TaskOrder) -> None:
        self.before: Earlier | None = None
        self.body_lost = False
        self._observer = observer
        self._order = order
        self._open: Sequence[Event] = ()
        self._last: RequestFinished | None = None

    def tried(self, told: Sequence[Event]) -> None:
        """Take note of what tells of a try; whether that was the last one is known later."""
        self._open = told

    def rests(self) -> None:
        """Tell of the try, if one is not told yet, that it was not the last: it refused nothing and ended no task."""
        told, self._open = self._open, ()
        for event in told:
            if isinstance(event, RequestFinished):
                self._last = event
                self._observer.emit(TaskRested(event))

    def ended(self, outcome: Whole | GatewayError) -> None:
        """Tell of the end, with its outcome; one that no try has led to is for the rest as the last try here."""
        told, self._open = self._open, ()
        if self.body_lost:
            task_id = task_of(self._order.request_id)
            log.error("the body of task %s is not here: gateways on one store need one --assets", task_id)
        if not told:
            copy_context().run(self._ended_at_rest, outcome)  # whose span is nobody else's
        for event in told:
            self._observer.emit(self._whole(event, outcome) if isinstance(event, RequestFinished) else event)

    def _ended_at_rest(self, outcome: Whole | GatewayError) -> None:
        asked = KeptRequest.of(self._order)
        self._observer.emit(RequestStarted(self._order.operation, asked, task=True))
        self._observer.emit(self._whole(_ended_by(outcome, self._last or self._untried(asked)), outcome))

    def _untried(self, asked: KeptRequest) -> RequestFinished:
        order = self._order
        exchange = Exchange(asked, caller=Caller(order.key_id, order.project, order.key_job_type))
        with suppress(GatewayError):  # of headers that this version does not know
            exchange.wishes = accept(order.headers)
        return exchange.finished(0)

    def _whole(self, event: RequestFinished, outcome: Whole | GatewayError) -> RequestFinished:
        if event.status != outcome.status:  # the try ended otherwise than the task
            event = _ended_by(outcome, event)
        return event if self.before is None else self.before.ended(event)


def _ended_by(outcome: Whole | GatewayError, event: RequestFinished) -> RequestFinished:
    """Return an end with the status and the error's code that a client would have got."""
    return replace(event, status=outcome.status, code=_code(outcome), error_type="")


def _code(outcome: Whole | GatewayError) -> str:
    if isinstance(outcome, GatewayError):
        return outcome.code
    said = read(outcome.body) if outcome.status >= 400 else {}  # noqa: PLR2004 - what is no answer with images
    error = said.get("error") if isinstance(said, dict) else None
    return str(error.get("code") or "") if isinstance(error, dict) else ""
