"""What the core needs from outside, as contracts: bodies, keyring, ledger, providers.

Everything that implements one of these lives in an adapter (`web`, `ledger`, `providers`); `app.py` joins them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from gateway.domain.budget import Candidate, Denied, Held
from gateway.domain.caller import Caller
from gateway.domain.idempotency import Binding, Bound
from gateway.domain.job import Job, Operation
from gateway.domain.route import Route
from gateway.domain.settlement import Outcome, Reading, Settlement, SettleResult

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Rendered:
    """A body ready to be sent: `chunks()` may be called again for a second route. `length` is in bytes."""

    content_type: str
    length: int
    chunks: Callable[[], AsyncIterator[bytes]]


class Shape(Protocol):
    """What decisions need of a request body."""

    @property
    def encoding(self) -> Literal["json", "multipart"]:
        """How the client sent it."""

    @property
    def fields(self) -> Mapping[str, object]:
        """Every top-level field: JSON values, or the text of form fields. Images appear as opaque markers in JSON."""

    @property
    def images(self) -> int:
        """How many input images it carries (uploaded, by URL or by file id), the mask not counted."""

    @property
    def mask(self) -> bool:
        """Whether a mask is among them."""


class Body(Shape, Protocol):
    """A request body that was read and validated as JSON or multipart; large parts lie on disk, not in memory."""

    @property
    def fingerprint(self) -> str | None:
        """Hex SHA-256 of what the body says, the same for a form with another boundary; None if it was not taken."""

    def render(self, changes: Mapping[str, str | int | None]) -> Rendered:
        """Return the body with top-level fields replaced, added, or (None) left out; all else byte for byte."""

    async def aclose(self) -> None:
        """Free memory and temporary files."""


@dataclass(frozen=True, slots=True)
class Inbound:
    """A request as it arrived. Header names are lower case. `read_body` is called once, after the key is known."""

    request_id: str
    operation: Operation
    path_model: str | None
    headers: Mapping[str, str]
    content_length: int | None
    read_body: Callable[[], Awaitable[Body]]
    received: float


@dataclass(frozen=True, slots=True)
class Outbound:
    """An answer to the client. `chunks` is the body as it comes; closing it early means the client is gone."""

    status: int
    headers: Headers
    chunks: AsyncIterator[bytes]


class Keyring(Protocol):
    """Who a key belongs to; answered from memory."""

    async def find(self, key: str) -> Caller | None:
        """Return the caller, or None if the key is malformed, unknown or revoked."""


class LedgerUnavailable(Exception):
    """The store did not answer in time, or refused; nothing can be admitted. The message is for logs."""


class Ledger(Protocol):
    """Holds, spend and the entry stream. Every method is one round trip, atomic, and raises LedgerUnavailable."""

    async def choose_and_hold(
        self,
        request_id: str,
        candidates: Sequence[Candidate],
        *,
        about: Mapping[str, object],
        release: int | None = None,
        binding: Binding | None = None,
        allowance: int | None = None,
    ) -> Held | Denied | Bound:
        """Hold on the first candidate that every line allows, as the next attempt of the request, already `sent`.

        `about` is what the record and the entry stream say of the request (no prompt, no secret). `release` voids
        that earlier attempt of the same request in the same step, whatever the answer. `binding` is bound to the
        request in that step too, or answered by `Bound` if another request has it; it is free again once every attempt
        of the request is void. `allowance` (micro-USD) is what this instance may hold for the project, all requests
        together, while the store is away.
        """

    async def orphan(self, name: str, request_id: str) -> None:
        """Remember that the request's client is gone, so that a retry with a claim of this name takes it over."""

    async def settle(self, settlement: Settlement) -> SettleResult:
        """End a hold at its cost; `CostSource.PRESUMED` ends it unconfirmed at the cost given, correctable once."""

    async def void(self, request_id: str, attempt: int, reason: str) -> SettleResult:
        """End a hold for nothing, because nothing can have been billed."""

    async def request(self, request_id: str) -> dict[str, object] | None:
        """Return what is known of a request: its `about`, and its attempts with state, hold, cost, source."""

    async def ping(self) -> None:
        """Return if the store answers."""


class Recording(Protocol):
    """An answer that is being kept as it goes by. Raises nothing: one that cannot be kept is let go of, and logged."""

    async def write(self, chunk: bytes) -> None:
        """Keep some bytes of the body."""

    async def commit(self, status: int, headers: Headers) -> None:
        """Make the answer findable: its body is whole."""

    async def discard(self) -> None:
        """Let go of it; harmless after `commit`, which it does not undo, and when repeated."""


class Answers(Protocol):
    """Answers kept for whoever repeats a request, for a day."""

    def record(self, request_id: str) -> Recording:
        """Begin to keep the answer of a request."""

    async def find(self, request_id: str) -> Outbound | None:
        """Return a kept answer, body and headers as they were; None if there is none (yet)."""


class Settlements(Protocol):
    """Ends holds for certain: at once if the store answers, else as soon as it does again."""

    async def settle(self, settlement: Settlement) -> SettleResult | None:
        """Settle; None if it could not be done yet and will be."""

    async def void(self, request_id: str, attempt: int, reason: str) -> SettleResult | None:
        """Void; None if it could not be done yet and will be."""


class Links(Protocol):
    """Where the images of one request are kept, to be fetched by link."""

    async def keep(self, content: AsyncIterator[bytes]) -> str:
        """Keep an image for a day and return its URL; raises what `content` raises, or OSError if there is no room."""


@dataclass(frozen=True, slots=True)
class Call:
    """One job for a provider: the route, and the fields that must differ from what the client sent.

    `calls` is how many upstream calls it takes, and `as_events` whether a whole answer is to be told as a stream.
    With `links` its images are kept there, and the answer names their URLs.
    """

    request_id: str
    route: Route
    job: Job
    body: Body
    changes: Mapping[str, str | int | None] = field(default_factory=dict)
    calls: int = 1
    as_events: bool = False
    links: Links | None = None


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
    Of several calls that all failed it stands for `others` too, and `images` is how many may be billed (None: all).
    """

    def __init__(
        self,
        outcome: Outcome,
        reason: str,
        message: str,
        *,
        status: int | None = None,
        headers: Headers = (),
        body: bytes = b"",
        pass_on: bool = False,
        retry_after: float | None = None,
        rate_limits: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.reason = reason
        self.message = message
        self.status = status
        self.headers = headers
        self.body = body
        self.pass_on = pass_on
        self.retry_after = retry_after
        self.rate_limits = rate_limits or {}
        self.images: int | None = None
        self.others: Sequence[UpstreamFailure] = ()


@runtime_checkable
class Collected(Protocol):
    """An answer of several calls, besides what any answer is."""

    @property
    def failures(self) -> Sequence[UpstreamFailure]:
        """What became of those that failed."""


class Conditions(Protocol):
    """How routes are doing just now, as far as this process knows."""

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


class Truncated(Exception):
    """Raised by `Outbound.chunks` after the status line is out: the connection must be aborted, not ended properly."""
