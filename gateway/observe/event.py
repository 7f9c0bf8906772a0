"""What happened, as frozen records; metrics and logs are fed from these and from nothing else.

Amounts are nano-USD, times are seconds. Names of projects, job types and routes come from policy, or are "none".
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import field
from typing import Any, Protocol, runtime_checkable

from gateway.domain.record import record
from gateway.domain.route import Views
from gateway.domain.settlement import CostSource, Usage
from gateway.ports import RequestFacts
from gateway.ports.provider import UpstreamFailure

NONE = "none"


@record(frozen=True, slots=True)
class RequestStarted:
    """An image request came in, or a task's work begins; `facts` are those of the request, where there are any."""

    operation: str
    facts: RequestFacts | None = None
    task: bool = False


@record(frozen=True, slots=True)
class RequestFinished:
    """An image request ended: its last byte is out, or the client is gone and the money is settled.

    `status` is what the client got (or would have got). `overhead` is `duration` less the wait for providers and, where
    the answer of an earlier request is `replayed`, for that one. `error_type` is a bounded word for what went wrong,
    where `code` is a provider's own.
    """

    request_id: str
    operation: str
    status: int
    duration: float
    overhead: float
    project: str = NONE
    key_id: str = NONE
    job_type: str = NONE
    route: str = NONE
    attempts: int = 0
    n: int = 0
    size: str = ""
    quality: str = ""
    images: int = 0
    estimate: int | None = None
    cost: int | None = None
    source: str = ""
    code: str = ""
    client_gone: bool = False
    bytes_out: int = 0
    replayed: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    experiment: str = NONE
    arm: str = NONE
    waited: float = 0.0
    """What of `duration` was spent in a queue for a slot on a route."""
    began: str = ""
    """The operation that it began as, where its body made another of it."""
    error_type: str = ""
    at: float = field(default_factory=time.time, init=False, compare=False)
    """When it ended, Unix seconds."""


@record(frozen=True, slots=True)
class TaskRested:
    """A try of a task's work ended, as `ended` tells, and the task did not: another try follows, here or elsewhere."""

    ended: RequestFinished


@record(frozen=True, slots=True)
class UpstreamFinished:
    """A provider answered to the end; `seconds` from sending to the last byte."""

    route: str
    seconds: float


@record(frozen=True, slots=True)
class UpstreamFailed:
    """A call failed; `reason` is a bounded word such as connect, timeout, reset, status_429, status_5xx, garbage.

    `status` and `code`, a plain word, are what the provider answered with, where it did: for logs alone.
    """

    route: str
    reason: str
    status: int | None = None
    code: str = ""

    @classmethod
    def of(cls, route: str, failure: UpstreamFailure) -> UpstreamFailed:
        """Return that of a failure on a route."""
        return cls(route, failure.reason, failure.status, failure.code)


@record(frozen=True, slots=True)
class FellBack:
    """A request went on to another route."""

    from_route: str
    to_route: str
    reason: str


@record(frozen=True, slots=True)
class Degraded:
    """Policy changed what was asked for to save money; `change` is such as `quality=medium`."""

    job_type: str
    change: str


@record(frozen=True, slots=True)
class Replaced:
    """A request was served by the model that replaces a retired one."""

    route: str
    model: str
    replacement: str


@record(frozen=True, slots=True)
class RouteEjected:
    """A route is left alone for a while, since it kept failing."""

    route: str
    seconds: float


@record(frozen=True, slots=True)
class RequestDenied:
    """Policy, a budget or a quota refused a request; `reason` is the error's code."""

    project: str
    reason: str


@record(frozen=True, slots=True)
class HoldEnded:
    """A hold was settled or presumed spent, by this process."""

    project: str
    job_type: str
    route: str
    quality: str
    cost: Views
    estimate: Views
    source: CostSource
    images: int
    usage: Usage | None = None
    experiment: str = NONE
    arm: str = NONE
    shadow: bool = False
    """Whether it was that of a shadow request, on the shadow's own budget."""
    late: bool = False
    """Whether it had been presumed spent before, and told so with its cost."""


@record(frozen=True, slots=True)
class ShadowEnded:
    """A request was repeated on its job type's shadow route, or was to be: ok, failed, denied, unable or dropped."""

    job_type: str
    route: str
    result: str


@record(frozen=True, slots=True)
class CallbackSent:
    """A callback was tried for the `tries`-th time: delivered, failed (and tried again later) or dead."""

    project: str
    callback_id: str
    result: str
    error: str
    tries: int


@record(frozen=True, slots=True)
class BatchMoved:
    """A batch of so many requests was created, was not (not_created), or came to an end: completed, failed, …."""

    provider: str
    status: str
    requests: int


@record(frozen=True, slots=True)
class AssetNotKept:
    """Images were to be stored and are not: full, slow, unavailable, behind, busy or not_an_image."""

    reason: str
    images: int = 1


@record(frozen=True, slots=True)
class CacheAsked:
    """A request was looked up among earlier ones: hit, miss, skipped, or failed where the storage did not serve."""

    job_type: str
    result: str


@record(frozen=True, slots=True)
class LedgerCalled:
    """The store answered; `operation`: hold, settle, void, renew, expire, task, response, callback, batch or read."""

    operation: str
    seconds: float


@record(frozen=True, slots=True)
class LedgerFailed:
    """A call to the store failed, which is told instead. `refused`: it did answer, and will not do this."""

    operation: str
    seconds: float
    refused: bool = False


@record(frozen=True, slots=True)
class PolicyLoaded:
    """Policy was read at start or again; a failed reload leaves the old one serving."""

    digest: str
    ok: bool


@record(frozen=True, slots=True)
class RequestShed:
    """A request was refused at the door, unread, since the process is at its limit: requests, bodies or memory."""

    reason: str


Event = (
    RequestStarted
    | RequestFinished
    | TaskRested
    | UpstreamFinished
    | UpstreamFailed
    | FellBack
    | Degraded
    | Replaced
    | RouteEjected
    | RequestDenied
    | HoldEnded
    | ShadowEnded
    | CallbackSent
    | BatchMoved
    | AssetNotKept
    | CacheAsked
    | LedgerCalled
    | LedgerFailed
    | PolicyLoaded
    | RequestShed
)


class Observer(Protocol):
    """Takes events; must not block and must not raise."""

    def emit(self, event: Event) -> None:
        """Take note of one event."""


@runtime_checkable
class Selective(Protocol):
    """An Observer that takes some types of events only, each by a function of its own."""

    @property
    def takers(self) -> Mapping[type[Event], Callable[[Any], None]]:
        """What takes an event, by its type; fixed from the start."""


@runtime_checkable
class Patient(Selective, Protocol):
    """A Selective that may hear of some types of events a moment after they happened, many of them together."""

    @property
    def patient(self) -> Collection[type[Event]]:
        """Those types; fixed from the start."""


def taker_of(observer: Observer, kind: type[Event]) -> Callable[[Any], None]:
    """Return what passes events of one type on to an observer, for whoever tells of many."""
    if isinstance(observer, Selective):
        return observer.takers.get(kind, lambda _: None)
    return observer.emit
