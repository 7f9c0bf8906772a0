"""An answer around another one, for what looks at it as it goes by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from gateway.ports import Headers
from gateway.ports.provider import Answer, UpstreamFailure

IN_ANSWER: Final = "error_in_answer"
"""Reason of an error within an answer: what its provider calls it may be anything, even what it was sent."""


class Several(NamedTuple):
    """The calls that an answer is made of, where they are several: what became of each.

    `failed` has those too that a repeat made good, `seconds` how long each took that succeeded.
    """

    failed: Sequence[UpstreamFailure] = ()
    seconds: Sequence[float] = ()


ONE: Final = Several()
"""Of an answer that is one call."""


def several(answer: Answer) -> Several:
    """Return what became of an answer's calls, each for itself."""
    told: Several = getattr(answer, "several", ONE)
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
        self.several = several(answer)

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
