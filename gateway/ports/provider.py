"""What the core needs of providers: calls, their answers, and what goes wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeGuard, runtime_checkable

from gateway.domain.batch import BatchLine
from gateway.domain.job import Job
from gateway.domain.record import record
from gateway.domain.route import Route
from gateway.domain.settlement import Outcome, Reading
from gateway.ports import Body, Headers
from gateway.ports.batches import Batches
from gateway.ports.egress import Fetcher


class Links(Protocol):
    """Where the images of one request are kept, to be fetched by link."""

    async def keep(self, content: AsyncIterator[bytes]) -> str:
        """Keep an image and return its URL; raises StorageUnavailable, or what `content` raises."""


class Archive(Protocol):
    """Where the images of one answer are kept that its client has inline."""

    def take(
        self,
        images: Sequence[Callable[[], AsyncIterator[bytes]]],
        document: Mapping[str, object],
        free: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        """Keep the images of an answer that is whole, and call `free` in the end; returns at once, raises nothing.

        `document` is what the answer says, without its long strings; empty for a stream. There are no images where it
        named them by links.
        """

    def lost(self, reason: str, images: int) -> None:
        """Count images that could not be taken in passing."""


class NotConvertible(Exception):
    """An image that cannot be had in another format, or not without losing some of it. The message is for logs."""


class Converter(Protocol):
    """Makes images of another format out of images."""

    async def convert(self, content: AsyncIterator[bytes], media_type: str) -> bytes:
        """Return an image in this format; raises NotConvertible, or what `content` raises."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """Work that a provider has taken on and does in its own time: what is needed to find it again.

    `id` is the provider's; `urls` are those it told, by purpose (`status`, `result`, `cancel`); `facts` are small
    values of its answer that settling needs (a cost told at once). All of it is kept as JSON; no secret is among it.
    """

    id: str
    urls: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)


class Submissions(Protocol):
    """What one attempt has submitted, kept where another process finds it if this one dies."""

    @property
    def known(self) -> Mapping[int, Submitted] | None:
        """What an earlier process submitted, by the number of the call (0 if there is but one).

        It is followed, never sent again; a call that is missing may have been sent, and its outcome is unknown. None:
        nothing was sent before.
        """

    async def note(self, number: int, submitted: Submitted) -> None:
        """Keep what was submitted; raises nothing, for the work goes on either way."""

    async def announce(self, number: int, submitted: Submitted) -> bool:
        """Keep what is about to be submitted, so that an attempt without it was surely not sent.

        False if it must not be, since the work is another process's by now. Raises LedgerUnavailable, or ValueError if
        it is too large.
        """

    def advanced(self, number: int, progress: int) -> None:
        """Take note of how far a call is, 0 to 100; returns at once and raises nothing."""


class Hints(Protocol):
    """Where providers call back. A callback is only a hint to look again: it changes nothing by itself."""

    def expect(self, take: Callable[[Mapping[str, str], bytes], bool]) -> Expected | None:
        """Open an unguessable URL; None where the gateway has no address that providers could reach.

        `take` is given the headers (names in lower case) and body of each call to it, and returns whether it is one.
        """


class Expected(Protocol):
    """A URL that a provider may call."""

    @property
    def url(self) -> str:
        """The URL, token included."""

    def close(self) -> None:
        """Stop listening; harmless when repeated."""


@dataclass(frozen=True, slots=True)
class ProviderServices:
    """What kinds of providers may need besides their own endpoint; None where a gateway has it not."""

    fetcher: Fetcher | None = None  # for URLs that providers tell
    hints: Hints | None = None
    batches: Batches | None = None
    batch_told: Callable[[str, str, int], None] = lambda _provider, _status, _requests: None
    """Is told of a provider's batch: what became of it, and how many requests it has."""
    client_fetcher: Fetcher | None = None  # for those of clients


@record(frozen=True, slots=True)
class Call:
    """One job for a provider: the route, and the fields that must differ from what the client sent.

    `calls` is how many upstream calls it takes, `number` which of them this is, and `as_events` whether a whole answer
    is to be told as a stream. With `links` its images are kept there, and the answer names their URLs. `uploads` is
    where input images may be kept for a provider that takes them by URL alone; None where it could not reach them.
    With `archive` the images of the answer are kept as it goes by, and with `converter` those that came in another
    format than was asked for are converted.
    """

    request_id: str
    route: Route
    job: Job
    body: Body
    changes: Mapping[str, str | int | None] = field(default_factory=dict)
    calls: int = 1
    as_events: bool = False
    links: Links | None = None
    number: int = 0
    uploads: Links | None = None
    submissions: Submissions | None = None
    archive: Archive | None = None
    converter: Converter | None = None
    batch: BatchLine | None = None
    """If it is to go by a batch."""
    repeats: Repeats | None = None
    """Whether calls that failed may be done again while others of the same answer succeeded."""
    prepared: object = field(default=None, init=False, repr=False, compare=False)
    """What its provider has made ready of it, and alone understands."""


class Repeats(Protocol):
    """Says which calls of an answer may be done again, and when."""

    async def again(self, failure: UpstreamFailure, tries: int) -> bool:
        """Wait until a call may be repeated that failed after so many tries, and return True; False if it may not.

        `ended` must follow a True.
        """

    def ended(self, *, failed: bool | None) -> None:
        """Take note of how a repeat ended; None: it was broken off here."""


class Answer(Protocol):
    """A 2xx answer whose body is still on its way."""

    @property
    def status(self) -> int:
        """The provider's status code."""

    @property
    def headers(self) -> Headers:
        """What may be passed to the client: content type, length if known, limits; no credentials, no cookies."""

    @property
    def content_length(self) -> int | None:
        """Length of the body in bytes, if the provider named it."""

    @property
    def event_stream(self) -> bool:
        """Whether the body is server-sent events."""

    @property
    def upstream_request_id(self) -> str | None:
        """The provider's own id of the request, which its support and its invoice go by."""

    @property
    def rate_limits(self) -> Mapping[str, str]:
        """What the provider said of the account's limits: `x-ratelimit-*` and `retry-after*` headers, in lower case."""

    def at_once(self) -> bytes | None:
        """Return all of a short body that is here, so that nothing is to be closed; None if `chunks` are to be read."""

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes; raise UpstreamFailure (unknown outcome) if it breaks off or stalls."""

    def reading(self) -> Reading:
        """Return what was picked out so far."""

    async def aclose(self) -> None:
        """Give the connection back, or close it if the body was not read to its end."""


class UpstreamFailure(Exception):
    """An upstream call that gave no usable answer. `reason` is a bounded word for metrics.

    `status`, `headers` and `body` are the provider's answer where one came. `pass_on` tells that it is the caller's
    own fault and may be shown as it came (a 400, moderation). `retry_after` is seconds; `rate_limits` as in `Answer`.
    `code` is the provider's word for it, if it is a short and plain one.
    Of several calls that all failed it stands for `others` too, and `images` is how many may be billed (None: all).
    `charged_for` is what the provider judged a refusal to be, a word of `domain.price.Charged`, if it may charge for
    such: the price row says whether. `reading` is what it said of the cost then. `charged` tells, afterwards, that a
    charge was booked.
    """

    def __init__(
        self,
        outcome: Outcome,
        reason: str,
        message: str,
        *,
        status: int | None = None,
        code: str = "",
        headers: Headers = (),
        body: bytes = b"",
        pass_on: bool = False,
        retry_after: float | None = None,
        rate_limits: Mapping[str, str] | None = None,
        charged_for: str | None = None,
        reading: Reading | None = None,
    ) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.reason = reason
        self.message = message
        self.status = status
        self.code = code
        self.headers = headers
        self.body = body
        self.pass_on = pass_on
        self.retry_after = retry_after
        self.rate_limits = rate_limits or {}
        self.charged_for = charged_for
        self.charged = False
        self.reading = reading
        self.images: int | None = None
        self.others: Sequence[UpstreamFailure] = ()


class Collected(Protocol):
    """An answer of several calls, besides what any answer is."""

    @property
    def failures(self) -> Sequence[UpstreamFailure]:
        """What became of those that failed."""


def is_collected(answer: object) -> TypeGuard[Collected]:
    """Tell whether an answer is one of several calls; asking a protocol would take twenty times as long."""
    return hasattr(answer, "failures")


class Conditions(Protocol):
    """How routes are doing just now, as far as this process knows."""

    def suspects(self) -> Collection[str]:
        """Return the routes that may be in trouble; no other is."""

    def trouble(self, route: str) -> str | None:
        """Say why a route had better not be called now, in words; None if nothing is known against it."""

    def latency(self, route: str, job: Job) -> float | None:
        """Return the decayed mean seconds of such jobs on a route; None if it has done none lately."""


class Provider(Protocol):
    """A kind of provider, speaking to one account."""

    async def send(self, call: Call) -> Answer:
        """Send the job; return once a 2xx status line is in, or raise UpstreamFailure."""

    async def aclose(self) -> None:
        """Close connections."""


@runtime_checkable
class Cancellable(Protocol):
    """A provider that can be asked to give up work that it has taken on."""

    async def cancel(self, route: Route, submitted: Submitted) -> bool:
        """Ask for it, and return whether the provider agreed; raises nothing. What it bills for it is not told."""
