"""An answer that is here whole: there is nothing to wait for, to watch or to close."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from gateway.domain.settlement import Reading
from gateway.ports import Headers


class WholeAnswer:
    """Implements `Answer` for a short document; its connection is free for the next call.

    What looks at it puts its word into `headers`, rather than stand around it.
    """

    def __init__(  # noqa: PLR0917 - by place, for which Python takes half the time
        self,
        status: int,
        headers: Headers,
        body: bytes,
        reading: Reading,
        rate_limits: Mapping[str, str],
        upstream_request_id: str | None = None,
    ) -> None:
        self.event_stream = False
        self.status = status
        self.headers = headers
        self.body = body
        self.upstream_request_id = upstream_request_id
        self.rate_limits = rate_limits
        self._reading = reading

    @property
    def content_length(self) -> int:
        """Length of the body in bytes."""
        return len(self.body)

    def at_once(self) -> bytes:
        """Return the body."""
        return self.body

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body."""
        yield self.body

    def reading(self) -> Reading:
        """Return what the document says."""
        return self._reading

    async def aclose(self) -> None:
        """Nothing is left to free."""
