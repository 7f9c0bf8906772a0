"""What the core needs from outside, as contracts: here bodies, keyring, ledger and answers; the rest beside it.

Everything that implements one of these lives in an adapter (`web`, `ledger`, `providers`); `app.py` joins them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from gateway.domain.budget import Candidate, Denied, Held
from gateway.domain.caller import Caller
from gateway.domain.idempotency import Binding, Bound
from gateway.domain.job import Operation
from gateway.domain.record import record
from gateway.domain.settlement import Settlement, SettleResult

Headers = Sequence[tuple[str, str]]


def _never_leaves(_left: Callable[[], None]) -> asyncio.Task[Any] | None:
    """Tell nobody: who asks so goes away with the answer alone."""


async def nothing_to_free() -> None:
    """Do nothing."""


@record(frozen=True, slots=True)
class Rendered:
    """A body ready to be sent: `chunks()` may be called again for a second route. `length` is in bytes.

    `aclose` frees what was made for this body alone (images that had to be fetched), once it was sent. `whole` is all
    of it where it is at hand.
    """

    content_type: str
    length: int
    chunks: Callable[[], AsyncIterator[bytes]]
    aclose: Callable[[], Awaitable[None]] = nothing_to_free
    whole: bytes | None = None


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


@dataclass(frozen=True, slots=True)
class InputImage:
    """An image that came with a request: by `url` (http, https), by `file_id` of its vendor, or as bytes kept here.

    `content()` yields the bytes and may be called again; `length` is how many, `media_type` is told by the first of
    them. Exactly one of `url`, `file_id` and `content` is there, but that an image stored here has `url` and `content`.
    """

    url: str | None = None
    file_id: str | None = None
    content: Callable[[], AsyncIterator[bytes]] | None = None
    length: int = 0
    media_type: str = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Inputs:
    """All images that came with a request, in the client's order."""

    images: tuple[InputImage, ...] = ()
    mask: InputImage | None = None
    markup: InputImage | None = None


class Body(Shape, Protocol):
    """A request body that was read and validated as JSON or multipart; large parts lie on disk, not in memory."""

    @property
    def fingerprint(self) -> str | None:
        """Hex SHA-256 of what the body says, the same for a form with another boundary; None if it was not taken."""

    @property
    def likeness(self) -> Hashable | None:
        """What equals that of every body which says the same but for its prompt; None if nobody has looked."""

    def render(self, changes: Mapping[str, str | int | None]) -> Rendered:
        """Return the body with top-level fields replaced, added, or (None) left out; all else byte for byte."""

    async def inputs(self) -> Inputs:
        """Return the images it carries, for providers that take them in another form; nothing is decoded before."""

    async def aclose(self) -> None:
        """Free memory and temporary files."""


class RequestFacts(Protocol):
    """What was asked, whether it is just arriving or was kept. Header names are lower case."""

    @property
    def request_id(self) -> str:
        """Its public id."""

    @property
    def operation(self) -> Operation:
        """What is to be done."""

    @property
    def path_model(self) -> str | None:
        """The model that the path names, if it names one."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Those that decide anything at the least."""

    @property
    def received(self) -> float:
        """When it came, or was taken up again, in seconds of the monotonic clock."""


@record(frozen=True, slots=True)
class Inbound:
    """A request as it arrives. Header names are lower case. `read_body` is called once, after the key is known.

    Until `spare` is called, once and before money is held, its work is cancelled when its client leaves. From then on
    that cancels nothing, and what `spare` is given is called instead; it returns the task of the work, if it knows it.
    """

    request_id: str
    operation: Operation
    path_model: str | None
    headers: Mapping[str, str]
    read_body: Callable[[], Awaitable[Body]]
    received: float
    spare: Callable[[Callable[[], None]], asyncio.Task[Any] | None] = _never_leaves


@record(frozen=True, slots=True)
class Outbound:
    """An answer to the client. `chunks` is the body as it comes; closing it early means the client is gone.

    `whole` is all of it, where it is at hand and nobody asks whether it arrives; then `chunks` may be left alone.
    """

    status: int
    headers: Headers
    chunks: AsyncIterator[bytes]
    whole: bytes | None = None


class Keyring(Protocol):
    """Who a key belongs to; answered from memory."""

    async def find(self, key: str) -> Caller | None:
        """Return the caller, or None if the key is malformed, unknown or revoked.

        Raises LedgerUnavailable where nobody can tell.
        """

    def mark(self, key: str) -> bytes:
        """Return what stands for a key in this process alone, so that the key itself need not be kept."""

    def known(self, mark: bytes) -> Caller | None:
        """Return the caller whose key has this mark, if it was found before and may be used; None: look for it."""

    async def lives(self, key_id: str) -> bool:
        """Tell whether a key, named by its id, may be used now; raises LedgerUnavailable where nobody can tell."""


Meanwhile = Callable[[], None] | None
"""What its caller can do while the store is at work. It may be called late or never, so nothing may depend on it."""

Ended = Callable[[SettleResult], None] | None
"""What is to be told that a settlement was booked: DONE; LATE if some was booked before; FIRST if it was given back."""


class LedgerUnavailable(Exception):
    """The store did not answer in time, or refused; nothing can be admitted. The message is for logs."""


class Ledger(Protocol):
    """Holds, and what is known of requests. Every method is one round trip, atomic, and raises LedgerUnavailable."""

    async def choose_and_hold(
        self,
        request_id: str,
        candidates: Sequence[Candidate],
        *,
        about: Mapping[str, object],
        release: int | None = None,
        binding: Binding | None = None,
        allowance: int | None = None,
        ahead: float | None = None,
        only_if_held: bool = False,
        meanwhile: Meanwhile = None,
    ) -> Held | Denied | Bound:
        """Hold on the first candidate that every line allows, as the next attempt of the request, already `sent`.

        `about` is what the record and the entry stream say of the request (no prompt, no secret). `release` voids
        that earlier attempt of the same request in the same step, whatever the answer, or with `only_if_held` only if
        a candidate was held; its money counts as free either way. `ahead` makes a hold for work that begins later:
        for so many seconds it is `queued` without anybody renewing it, then it lapses to nothing. `binding` is bound to
        the request in that step too, or answered by `Bound` if another request has it; it is free again once every
        attempt of the request is void. `allowance` (micro-USD) is what this instance may hold for the project, all
        requests together, while the store is away; nothing is held `ahead` on it. `meanwhile` is called, at most once,
        when the store has been asked.
        """

    async def orphan(self, name: str, request_id: str) -> None:
        """Remember that the request's client is gone, so that a retry with a claim of this name takes it over."""

    async def request(self, request_id: str) -> dict[str, Any] | None:
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

    async def settle(
        self, settlement: Settlement, meanwhile: Meanwhile = None, ended: Ended = None
    ) -> SettleResult | None:
        """End a hold at its cost; `CostSource.PRESUMED` ends it unconfirmed, or lowers that, correctable once.

        None if it could not be done yet and will be. `meanwhile` is that of `Ledger.choose_and_hold`.
        `ended` is called once this has ended the hold, or corrected what was presumed, at once or later; not if it had
        ended before. It is forgotten with this process.
        """

    async def void(self, request_id: str, attempt: int, reason: str) -> SettleResult | None:
        """End a hold for nothing, as nothing can have been billed; None if it could not be done yet and will be."""


class Truncated(Exception):
    """Raised by `Outbound.chunks` after the status line is out: the connection must be aborted, not ended properly."""
