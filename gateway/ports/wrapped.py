"""An answer around another one, for what looks at it as it goes by."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.domain.settlement import Reading
from gateway.ports import Headers
from gateway.ports.provider import Answer


class WrappedAnswer:
    """Implements `Answer` but for its chunks, by another one that it stands around."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    @property
    def status(self) -> int:
        """The provider's status code."""
        return self._answer.status

    @property
    def headers(self) -> Headers:
        """What may be passed to the client."""
        return self._answer.headers

    @property
    def content_length(self) -> int | None:
        """Length of the body in bytes, if it is known."""
        return self._answer.content_length

    @property
    def event_stream(self) -> bool:
        """Whether the body is server-sent events."""
        return self._answer.event_stream

    @property
    def upstream_request_id(self) -> str | None:
        """The provider's own id of the request."""
        return self._answer.upstream_request_id

    @property
    def rate_limits(self) -> Mapping[str, str]:
        """What the provider said of the account's limits."""
        return self._answer.rate_limits

    def reading(self) -> Reading:
        """Return what was picked out so far."""
        return self._answer.reading()

    async def aclose(self) -> None:
        """Free it."""
        await self._answer.aclose()
