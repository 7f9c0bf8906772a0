"""An answer around another one, for what looks at it as it goes by."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.ports import Headers
from gateway.ports.provider import Answer, UpstreamFailure


def failed_calls(answer: Answer) -> Sequence[UpstreamFailure]:
    """Return what became of each call of an answer that failed, those included that a repeat made good."""
    told: Sequence[UpstreamFailure] = getattr(answer, "failed_calls", ())
    return told


class WrappedAnswer:
    """Implements `Answer` but for its chunks, by another one that it stands around.

    What never changes is taken from it once.
    """

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.status = answer.status
        self.content_length = answer.content_length
        self.event_stream = answer.event_stream
        self.upstream_request_id = answer.upstream_request_id
        self.rate_limits = answer.rate_limits
        self.reading = answer.reading
        self.failed_calls = failed_calls(answer)

    @property
    def headers(self) -> Headers:
        """What may be passed to the client."""
        return self._answer.headers

    def at_once(self) -> bytes | None:
        """Have it read by chunks."""
        return None

    async def aclose(self) -> None:
        """Free it."""
        await self._answer.aclose()
