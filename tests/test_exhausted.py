"""The error of a request whose calls all failed tells whether it is worth another try, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from gateway.domain.batch import BatchLine, BatchTerms
from gateway.domain.errors import RateLimited, UpstreamError
from gateway.domain.policy import Retry
from gateway.domain.retry import RetryBudgets
from gateway.domain.route import Quote, Views
from gateway.domain.settlement import Outcome
from gateway.ports.provider import UpstreamFailure
from gateway.request.exhausted import failed
from gateway.request.retrying import RetryPlan
from tests.builders import GPT_IMAGE_2, job, route

ROW = GPT_IMAGE_2.prices[0]
ALONE = Quote(route("a"), job(), {}, Views(1, 1, 1), ROW, ROW)
BATCH = replace(ALONE, batch=BatchLine(BatchTerms()))
OTHER = replace(BATCH, route=route("b"))


def failure(reason: str, wait: float | None = None, *, charged: bool = False) -> UpstreamFailure:
    """A call that failed for nothing, or at a charge."""
    made = UpstreamFailure(Outcome.REJECTED, reason, reason, retry_after=wait)
    made.charged = charged
    return made


EXPIRED, FULL, LIMITED = failure("batch_expired"), failure("batch_full", 50.0), failure("status_429", 20.0)
Calls = Sequence[tuple[Quote, UpstreamFailure]]


def after(calls: Calls) -> RetryPlan:
    """A course on which these calls failed."""
    plan = RetryPlan([], Retry(), RetryBudgets(lambda: 0.0), clock=lambda: 0.0, draw=lambda: 0.0)
    for quote, what in calls:
        plan.failed(quote, what)
    return plan


@pytest.mark.parametrize(
    ("calls", "wait"),
    [
        ([(BATCH, FULL)], 50.0),
        ([(BATCH, EXPIRED), (BATCH, FULL)], 50.0),
        ([(OTHER, failure("batch_failed")), (BATCH, EXPIRED), (BATCH, FULL)], 50.0),
        ([(OTHER, FULL), (BATCH, EXPIRED)], 50.0),
        ([(BATCH, EXPIRED), (ALONE, LIMITED)], 20.0),
        ([(BATCH, FULL), (ALONE, LIMITED)], 20.0),
    ],
)
def test_what_a_batch_left_undone_waits_for_room_as_all_else_does(calls: Calls, wait: float) -> None:
    """An earlier batch that failed makes nothing final; nobody is asked again before there may be room."""
    error = failed(after(calls))
    assert isinstance(error, RateLimited)
    assert error.retry_after == pytest.approx(wait)


@pytest.mark.parametrize(
    "calls",
    [
        [(BATCH, EXPIRED), (BATCH, EXPIRED)],
        [(BATCH, FULL), (ALONE, failure("status_5xx"))],
        [(BATCH, failure("no_image", charged=True)), (BATCH, FULL)],
    ],
    ids=["no room is not why", "failed by itself", "charged"],
)
def test_what_failed_otherwise_is_told_as_such(calls: Calls) -> None:
    """A call that failed by itself, or at a charge, is not repeated for a batch's sake."""
    assert isinstance(failed(after(calls)), UpstreamError)
