"""Told calls: what became of the calls of an answer, each told for itself, whether or not it failed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway.domain.settlement import Outcome, Reading
from gateway.observe.event import Observer, UpstreamFailed, UpstreamFinished
from gateway.ports.provider import Answer, UpstreamFailure
from gateway.ports.wrapped import IN_ANSWER, several


def tell_failed(observer: Observer, route: str, failures: Iterable[UpstreamFailure]) -> None:
    """Tell of calls that failed."""
    for failure in failures:
        observer.emit(UpstreamFailed.of(route, failure))


def tell_answered(observer: Observer, route: str, answer: Answer, reading: Reading, seconds: float) -> None:
    """Tell of the calls of an answer that was read to its end in so many seconds, of which some may have failed."""
    calls = several(answer)
    if calls.failed:
        tell_failed(observer, route, calls.failed)
    if is_error(reading):
        observer.emit(UpstreamFailed(route, IN_ANSWER, answer.status, reading.error or ""))
    else:
        for each in calls.seconds or (seconds,):
            observer.emit(UpstreamFinished(route, each))


def is_error(reading: Reading) -> bool:
    """Tell whether an answer that came to its end says that there is an error, and has no image."""
    return reading.error is not None and not reading.images


def failed(answer: Answer, failure: UpstreamFailure) -> Sequence[UpstreamFailure]:
    """Return what became of the calls of an answer that failed as a whole, of which the failure may be one."""
    calls = several(answer).failed
    return calls if failure in calls else [failure, *calls]


def no_answer(message: str) -> UpstreamFailure:
    """Return the failure of a call that was answered with something that is no answer."""
    return UpstreamFailure(Outcome.UNKNOWN, "garbage", message)
