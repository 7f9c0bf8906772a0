"""What conversations and paths that go through need from outside: whose a response is, and a way to its account."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.domain.route import Quote
from gateway.domain.settlement import Reading
from gateway.ports import Headers, Rendered
from gateway.ports.provider import Answer

Write = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Remembered:
    """A response: whose it is, and the account that made it. `terms` are what its settling needs while it goes on."""

    id: str
    project: str
    provider: str
    job_type: str
    request_id: str
    terms: Mapping[str, object] | None = None


class Responses(Protocol):
    """Whose responses are, for all gateways that share a store. Every method may raise LedgerUnavailable."""

    async def remember(self, response: Remembered) -> bool:
        """Keep it for 30 days; False, and nothing changes, if the id is another project's. Terms that are there stay.

        With `terms` somebody has to follow it, and whoever remembers it does so for now.
        """

    async def find(self, response_id: str) -> Remembered | None:
        """Return what is known of it."""

    async def forget(self, response_id: str) -> None:
        """Know it no longer; one that is followed is followed on."""

    async def lapsed(self, most: int) -> Sequence[Remembered]:
        """Take up to so many that are to be followed and whose follower was not heard of for a while."""

    async def keep(self, response_ids: Sequence[str]) -> None:
        """Say that these are followed here."""

    async def done(self, response_id: str) -> None:
        """Follow it no more: it is settled."""


class ResponseTracker(Protocol):
    """What is done with the answer to one request that leads a conversation."""

    def recording(self, attempt: int, quote: Quote, answer: Answer, write: Write) -> Write:
        """Return what takes the bytes of an answer: it remembers whose it is as soon as the answer says its id.

        With work in the background, from then on another gateway follows it should this one go.
        """

    def goes_on(self, reading: Reading) -> bool:
        """Tell whether the work goes on in the background: the answer says so, or it broke off before its end."""

    async def hand_over(
        self,
        request_id: str,
        attempt: int,
        quote: Quote,
        reading: Reading,
        upstream_request_id: str | None,
        *,
        counted: bool = False,
    ) -> None:
        """Have the work followed to its end and settled then; remember the response in any case. Raises nothing.

        `upstream_request_id` is the provider's own id of the request that began it; `counted` tells that its call
        counts already, as one that failed.
        """

    async def remember(self, reading: Reading) -> None:
        """Remember whose it is, at its end; raises nothing."""

    async def settled(self) -> None:
        """Take note that what the answer cost is booked; raises nothing."""

    def left(self) -> None:
        """Take note that the answer is read no further; what is neither settled nor handed over is followed."""


def _never_leaves(_left: Callable[[], None]) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class PassthroughRequest:
    """A request that goes to an account as it is. `path` is below the account's base URL, `query` is as it came.

    Headers are those that may be passed on. `body` is read once, after the key is known; None where there is none.
    With it comes its fingerprint, hex SHA-256, the same for a form with another boundary; empty if none was taken.
    What `spare` is given is called once its client is gone, as long as there is no answer.
    """

    method: str
    path: str
    query: str = ""
    headers: Headers = ()
    body: Callable[[], Awaitable[tuple[Rendered, str]]] | None = None
    request_id: str = ""
    spare: Callable[[Callable[[], None]], None] = _never_leaves


class PassthroughAnswer(Protocol):
    """An answer on its way, whatever its status."""

    @property
    def status(self) -> int:
        """The account's status code; 400 for a content filter's refusal, whatever code that has there."""

    @property
    def refusal(self) -> str | None:
        """Why surely no work was done and nothing can be billed, by the status alone; None where that is not sure."""

    @property
    def headers(self) -> Headers:
        """What may be passed to the client: no credentials, no cookies, nothing of the hop."""

    @property
    def upstream_request_id(self) -> str | None:
        """The account's own id of the request, which its invoice goes by."""

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes, that of an error in the one shape; UpstreamFailure if it breaks off."""

    async def aclose(self) -> None:
        """Give the connection back."""


class PassthroughAccounts(Protocol):
    """Ways to accounts, under their own secrets."""

    async def send(self, provider: str, passing: PassthroughRequest, body: Rendered | None = None) -> PassthroughAnswer:
        """Return once a status line is in; UpstreamFailure if none came, or if the account refuses the gateway.

        An account that policy names no more is asked by what was last known of it; UpstreamFailure without that.
        """

    async def look(self, provider: str, response_id: str) -> Reading:
        """Ask for a response and return what it says of itself and of what it used; UpstreamFailure if it cannot."""
